//! Documentation that is checked does not rot: links lead somewhere, commands are the ones that CI runs, samples parse.

use std::collections::BTreeSet;
use std::path::Path;

use figspan_tests::architecture::{files, read, root};

fn pages() -> Vec<std::path::PathBuf> {
    let pages: Vec<_> = files(&root(), ".md").into_iter().filter(|page| !page.starts_with(root().join("target"))).collect();
    assert!(pages.len() >= 12, "only {} pages found: is the search broken?", pages.len());
    pages
}

fn links(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("](").filter_map(|(at, _)| text[at + 2..].split(')').next())
}

#[test]
fn every_relative_link_leads_to_a_file() {
    let mut checked = 0;
    for page in pages() {
        for link in links(&read(&page)) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = page.parent().unwrap_or(Path::new("/")).join(target);
            assert!(path.exists(), "{}: link to {link} leads nowhere", page.display());
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} links found: is the search broken?");
}

#[test]
fn the_two_commands_of_the_readme_are_the_ones_that_ci_runs() {
    let readme = read(&root().join("README.md"));
    assert!(readme.contains("cargo run --release --bin figspan-try"));
    assert!(readme.contains("cargo test --workspace"));
    assert!(read(&root().join(".ci/run")).contains("step cargo test --workspace\n"));
    assert!(read(&root().join("justfile")).contains("target/release/figspan-try --once"));
}

#[test]
fn architecture_stays_a_page() {
    assert!(read(&root().join("ARCHITECTURE.md")).lines().count() <= 150);
}

#[test]
fn the_rust_version_is_said_once() {
    for page in pages() {
        let text = read(&page);
        assert!(!text.contains("Rust 1."), "{} names a Rust version; it is Cargo.toml that says it", page.display());
    }
}

#[test]
fn the_configuration_in_the_manifests_parses() {
    let manifest = read(&root().join("deploy/manifests/figspan-hub.yaml"));
    let config = serde_yaml_ng::Deserializer::from_str(&manifest)
        .map(|document| <serde_yaml_ng::Value as serde::Deserialize>::deserialize(document).expect("the manifest is YAML"))
        .find(|object| object["kind"] == "ConfigMap")
        .expect("the manifest has a ConfigMap");
    let toml = config["data"]["hub.toml"].as_str().expect("the ConfigMap holds hub.toml");
    // The token comes from a Secret, which is mounted where the text says.
    let mounts = manifest.contains("mountPath: /etc/figspan-hub-admin,") && manifest.contains("secretName: figspan-hub-admin");
    assert!(mounts && toml.contains("/etc/figspan-hub-admin/token"), "the token's Secret is not mounted where hub.toml looks for it");
    let token = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(token.path(), "0123456789abcdef0123456789abcdef").expect("the file can be written");
    let toml = toml.replace("/etc/figspan-hub-admin/token", &token.path().display().to_string());
    if let Err(findings) = figspan_model::settings::parse(&toml, "hub.toml") {
        panic!("{}", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
}

/// The only way to it without a right to read nodes: Kubernetes copies this label of the node, and no other name, to its pods.
#[test]
fn the_hub_of_the_manifests_learns_its_zone_from_its_node() {
    let page = read(&root().join("docs/08-fleet.md"));
    let shown = page.split("```yaml\n").find(|block| block.starts_with("env:")).and_then(|rest| rest.split("```").next());
    let shown: serde_yaml_ng::Value = serde_yaml_ng::from_str(shown.expect("the page shows how")).expect("it is YAML");
    let mut hubs = 0;
    for file in files(&root().join("deploy/manifests"), ".yaml") {
        for document in serde_yaml_ng::Deserializer::from_str(&read(&file)) {
            let object = <serde_yaml_ng::Value as serde::Deserialize>::deserialize(document).expect("the manifest is YAML");
            let hub = &object["spec"]["template"]["spec"]["containers"][0];
            if hub.is_null() {
                continue;
            }
            let zone = &hub["env"][0];
            assert_eq!(zone["name"], figspan_model::settings::ZONE_VARIABLE);
            assert_eq!(zone["valueFrom"]["fieldRef"]["fieldPath"], "metadata.labels['topology.kubernetes.io/zone']");
            assert_eq!(*zone, shown["env"][0], "docs/08-fleet.md shows the same as {}", file.display());
            hubs += 1;
        }
    }
    assert!(hubs > 0, "no hub found in deploy/manifests: is the search broken?");
}

/// The TOML blocks of a page that begin with a comment that has this word.
fn toml_blocks<'p>(page: &'p str, word: &str) -> Vec<&'p str> {
    let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.lines().next().is_some_and(|first| first.starts_with('#') && first.contains(word))).collect()
}

#[test]
fn the_files_shown_in_the_pages_parse() {
    let mut checked = 0;
    for page in ["docs/02-hub.md", "docs/03-agent.md", "docs/05-tomcat.md"] {
        let text = read(&root().join(page));
        for block in toml_blocks(&text, "hub.toml") {
            if let Err(findings) = figspan_model::settings::parse(block, page) {
                panic!("{}", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
            }
            checked += 1;
        }
        for block in toml_blocks(&text, "agent.toml") {
            let mut reader = figspan_agent::settings::read::Reader::default();
            reader.read(page, block);
            if let Err(findings) = reader.finish() {
                panic!("{}", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
            }
            checked += 1;
        }
    }
    assert!(checked >= 4, "only {checked} files found in the pages: is the search broken?");
}

/// The cells of a page's table rows, without backticks.
fn rows(page: &str) -> impl Iterator<Item = Vec<String>> {
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
    page.lines().filter(|line| line.starts_with("| `")).map(cells)
}

/// The texts between `before` and the next quote, wherever `before` occurs; blanks and line feeds count as nothing.
fn quoted(source: &str, before: &str) -> Vec<String> {
    let dense: String = source.split("#[cfg(test)]").next().unwrap_or_default().split_whitespace().collect();
    let found = dense.split(before).skip(1).filter_map(|rest| rest.split('"').next());
    found.map(str::to_owned).collect()
}

#[test]
fn every_metric_is_in_the_reference_and_every_entry_there_is_a_metric() {
    let mut code: BTreeSet<String> = BTreeSet::new();
    let hub = ["hub.rs", "guards.rs", "process.rs", "rules.rs"].map(|file| format!("hub/src/metrics/{file}"));
    for file in hub.into_iter().chain(["hub/data/src/metrics/collector.rs".to_owned()]) {
        let names = ["figspan_", "process_", "http_server_"].map(|prefix| {
            let is_name = |name: &String| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            quoted(&read(&root().join(&file)), &format!("\"{prefix}"))
                .into_iter()
                .filter(is_name)
                .map(move |name| format!("{prefix}{name}"))
        });
        code.extend(names.into_iter().flatten());
    }
    let agent = read(&root().join("agent/src/status/metrics.rs"));
    for before in ["(&mutregistry,\"", "registry.register(\""] {
        code.extend(quoted(&agent, before).into_iter().map(|name| format!("figspan_agent_{name}")));
    }
    assert!(code.len() >= 50, "only {} metrics found in the code: is the search broken?", code.len());

    let mut page: BTreeSet<String> = BTreeSet::new();
    for row in rows(&read(&root().join("docs/reference/metrics.md"))) {
        let suffix = match row[1].as_str() {
            "counter" => "_total",
            "info" => "_info",
            "histogram" => "_seconds",
            "gauge" => "",
            other => panic!("{}: {other} is no kind of metric", row[0]),
        };
        let name = row[0].strip_suffix(suffix).unwrap_or_else(|| panic!("{}: a {} ends in {suffix}", row[0], row[1]));
        assert!(page.insert(name.to_owned()), "{name} is in the page twice");
    }
    assert_eq!(code, page, "left: in the code; right: in docs/reference/metrics.md");
}

#[test]
fn alerts_ask_for_metrics_that_exist() {
    let page = read(&root().join("docs/reference/metrics.md"));
    let known: BTreeSet<String> = rows(&page).map(|row| row[0].clone()).collect();
    let alerts = read(&root().join("deploy/monitoring/alerts.yaml"));
    let mut checked = 0;
    for expr in alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: ")) {
        for word in expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("figspan_")) {
            assert!(known.contains(word), "{word} is no metric");
            checked += 1;
        }
    }
    assert!(checked >= 3, "only {checked} metrics found in the alerts: is the search broken?");
}

#[test]
fn the_reference_of_the_admin_api_has_its_operations_and_no_others() {
    let table = read(&root().join("hub/src/admin/operations.rs"));
    let (methods, paths) = (quoted(&table, "method:\""), quoted(&table, "path:\""));
    assert!(methods.len() >= 15 && methods.len() == paths.len(), "{methods:?} {paths:?}: is the search broken?");
    let code: BTreeSet<String> = methods.iter().zip(&paths).map(|(method, path)| format!("{} {path}", method.to_uppercase())).collect();
    let page: BTreeSet<String> = rows(&read(&root().join("docs/reference/admin-api.md"))).map(|row| row[0].clone()).collect();
    assert_eq!(code, page, "left: in the code; right: in docs/reference/admin-api.md");
}

/// What the "restricted" Pod Security Standard asks of a pod, and a root file system that nobody writes.
#[test]
fn the_manifests_keep_the_restricted_pod_security_standard() {
    let mut pods = 0;
    for file in files(&root().join("deploy/manifests"), ".yaml") {
        let text = read(&file);
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let object = <serde_yaml_ng::Value as serde::Deserialize>::deserialize(document).expect("the manifest is YAML");
            if object["kind"] == "Namespace" {
                assert_eq!(object["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
            }
            let spec = &object["spec"]["template"]["spec"];
            if spec.is_null() {
                continue;
            }
            pods += 1;
            let pod = &spec["securityContext"];
            assert!(pod["runAsNonRoot"] == true && pod["seccompProfile"]["type"] == "RuntimeDefault", "{}: {pod:?}", file.display());
            assert!(pod["runAsUser"].as_u64().is_some_and(|user| user > 0), "{}: runs as root", file.display());
            for key in ["hostNetwork", "hostPID", "hostIPC"] {
                assert!(spec[key].is_null(), "{}: {key}", file.display());
            }
            for volume in spec["volumes"].as_sequence().into_iter().flatten() {
                assert!(volume["hostPath"].is_null(), "{}: a hostPath volume", file.display());
            }
            let containers = ["containers", "initContainers"].into_iter().filter_map(|key| spec[key].as_sequence()).flatten();
            let mut checked = 0;
            for container in containers {
                let context = &container["securityContext"];
                assert_eq!(context["allowPrivilegeEscalation"], false);
                assert_eq!(context["readOnlyRootFilesystem"], true);
                assert_eq!(context["capabilities"]["drop"][0], "ALL");
                assert!(context["capabilities"]["add"].is_null() && context["privileged"].is_null(), "{}: {context:?}", file.display());
                checked += 1;
            }
            assert!(checked > 0, "{}: a pod without containers", file.display());
        }
    }
    assert!(pods > 0, "no pods found in deploy/manifests: is the search broken?");
}

#[test]
fn every_test_that_a_defence_names_exists() {
    let mut rows = 0;
    for row in read(&root().join("docs/reference/defences.md")).lines().filter(|line| line.contains("::")) {
        let quoted: Vec<&str> = row.split('`').collect();
        // The words of a defence may be quoted too; file and test are the last two.
        let (file, test) = (quoted[quoted.len() - 4], quoted[quoted.len() - 2]);
        assert!(root().join(file).exists(), "{file} is named in docs/reference/defences.md and is gone");
        let name = test.rsplit("::").next().unwrap_or_default();
        let found = files(&root().join("hub/data/src"), ".rs").iter().any(|source| read(source).contains(&format!("fn {name}(")));
        assert!(found, "{test} is named in docs/reference/defences.md and is gone");
        rows += 1;
    }
    assert!(rows >= 30, "only {rows} defences found: is the search broken?");
}
