//! What ARCHITECTURE.md and the house style promise about the shape of the code, read from the code itself.

use std::collections::BTreeMap;

use figspan_tests::architecture::{dependencies, files, imports_by_level, read, ring, root, without_tests};

/// Crate folder, and the crates of ours that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("settings", &[]),
    ("telemetry", &["settings"]),
    ("probe", &["proto"]),
    ("footprint", &[]),
    ("tunnel/quic", &[]),
    ("tunnel", &["proto", "quic"]),
    ("agent", &["proto", "probe", "footprint", "tunnel", "settings", "telemetry"]),
    ("hub/model", &["proto", "tunnel", "settings"]),
    ("hub/data", &["proto", "tunnel", "model"]),
    ("hub/control", &["proto", "tunnel", "model"]),
    ("hub", &["proto", "probe", "footprint", "tunnel", "settings", "telemetry", "model", "data", "control"]),
    ("ctl", &["proto", "tunnel"]),
    ("ledger", &[]),
    ("try", &["ledger", "proto", "tunnel", "model", "settings", "telemetry", "hub", "agent", "ctl", "control"]),
];

#[test]
fn crates_depend_in_one_direction() {
    for (folder, allowed) in ARROWS {
        for dependency in dependencies(&root().join(folder).join("Cargo.toml")) {
            if let Some(ours) = dependency.strip_prefix("figspan-") {
                assert!(allowed.contains(&ours), "{folder} must not depend on {dependency}");
            }
        }
    }
    let members = read(&root().join("Cargo.toml"));
    for (folder, _) in ARROWS {
        assert!(members.contains(&format!("\"{folder}\"")), "{folder} is not a member of the workspace");
    }
}

#[test]
fn quic_and_tls_live_in_the_tunnel() {
    for (folder, _) in ARROWS.iter().filter(|(folder, _)| !folder.starts_with("tunnel")) {
        for foreign in ["quinn", "quinn-proto", "quinn-udp", "rustls", "tokio-rustls", "aws-lc-rs", "rcgen"] {
            assert!(!dependencies(&root().join(folder).join("Cargo.toml")).contains(foreign), "{folder} must not depend on {foreign}");
        }
    }
}

#[test]
fn tonic_is_known_to_few_files() {
    let mut users: Vec<String> = Vec::new();
    for (folder, _) in ARROWS {
        for file in files(&root().join(folder).join("src"), ".rs") {
            // Scripted ends are for tests alone.
            if file.ends_with("tests.rs") || file.ends_with("scripted.rs") {
                continue;
            }
            if without_tests(&read(&file)).lines().any(|line| !line.trim_start().starts_with("//") && line.contains("tonic::")) {
                users.push(file.strip_prefix(root()).unwrap().display().to_string());
            }
        }
    }
    users.sort();
    users.dedup();
    // Generated code, the two gRPC ends in the tunnel and the hub's one call, discovery on the hub and advertising on the agent.
    assert!(users.len() <= 6, "tonic is used in {users:?}");
}

#[test]
fn modules_of_a_crate_form_no_ring() {
    let mut rings = BTreeMap::new();
    for (folder, _) in ARROWS {
        for (level, imports) in imports_by_level(&root().join(folder).join("src")) {
            if let Some(found) = ring(&imports) {
                rings.insert(format!("{folder} {level}"), found);
            }
        }
    }
    assert!(rings.is_empty(), "modules import each other in a ring: {rings:?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    for (folder, _) in ARROWS {
        for file in files(&root().join(folder).join("src"), ".rs") {
            if file.ends_with("tests.rs") || file.components().any(|part| part.as_os_str() == "tests") {
                continue;
            }
            assert!(read(&file).starts_with("//!"), "{} has no header comment", file.display());
        }
    }
}

#[test]
fn files_of_a_path_name_their_hop() {
    for folder in ["hub/data/src", "hub/control/src", "agent/src"] {
        let text = read(&root().join(folder).join("lib.rs"));
        assert!(text.contains("->"), "{folder}/lib.rs does not show its path");
    }
    for file in [
        "hub/data/src/route.rs",
        "hub/data/src/balance.rs",
        "hub/data/src/dial.rs",
        "hub/control/src/discovery.rs",
        "hub/control/src/registry.rs",
    ] {
        let first = read(&root().join(file)).lines().take(3).collect::<Vec<_>>().join(" ").to_lowercase();
        assert!(first.contains("hop"), "{file} does not name its hop in its first lines");
    }
}

#[test]
fn files_stay_small_enough_to_hold_one_idea() {
    let mut long = Vec::new();
    let mut lengths = Vec::new();
    for (folder, _) in ARROWS {
        for file in files(&root().join(folder).join("src"), ".rs") {
            if file.ends_with("tests.rs") || file.components().any(|part| part.as_os_str() == "tests") {
                continue;
            }
            let lines = without_tests(&read(&file)).lines().count();
            lengths.push(lines);
            if lines > 600 {
                long.push((file.strip_prefix(root()).unwrap().display().to_string(), lines));
            }
        }
    }
    assert!(lengths.len() > 80, "only {} files found: is the search broken?", lengths.len());
    lengths.sort_unstable();
    assert!(long.is_empty(), "files with more than 600 lines without their tests: {long:?}");
    assert!(lengths[lengths.len() / 2] <= 200, "the median file has {} lines", lengths[lengths.len() / 2]);
}

#[test]
fn no_module_is_named_for_nothing() {
    for (folder, _) in ARROWS {
        for file in files(&root().join(folder).join("src"), ".rs") {
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            assert!(
                !["mod", "common", "util", "utils", "helpers", "manager", "prelude", "misc"].contains(&name.as_str()),
                "{}",
                file.display()
            );
        }
    }
}

#[test]
fn functions_use_the_words_of_the_house() {
    for (folder, _) in ARROWS {
        for file in files(&root().join(folder).join("src"), ".rs") {
            for (number, line) in without_tests(&read(&file)).lines().enumerate() {
                for word in ["fn get_", "fn handle_", "fn process_", "struct Manager", "Manager {"] {
                    assert!(!line.contains(word), "{}:{}: `{word}`", file.display(), number + 1);
                }
            }
        }
    }
}

#[test]
fn a_ring_would_be_found() {
    let imports = [("a", vec!["b"]), ("b", vec!["c"]), ("c", vec!["a"])];
    let imports = imports.into_iter().map(|(from, to)| (from.to_owned(), to.into_iter().map(str::to_owned).collect())).collect();
    assert_eq!(ring(&imports).unwrap().len(), 3);
}
