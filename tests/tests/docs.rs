//! Documentation that is checked does not rot: links lead somewhere, commands are the ones that CI runs, samples parse.

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
    assert!(read(&root().join("justfile")).contains("cargo run --release --locked --bin figspan-try -- --once"));
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
    if let Err(findings) = figspan_model::settings::parse(toml, "hub.toml") {
        panic!("{}", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
}
