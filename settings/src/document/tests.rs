use proptest::prelude::*;

use super::*;
use crate::source::MAX_FINDINGS;
use crate::table::Key;

const fn key(name: &'static str, kind: &'static str) -> Key {
    Key { name, kind, default: "", doc: "" }
}

static TOP: Table = Table {
    path: "",
    doc: "",
    keys: &[key("name", "text"), key("wait", "duration"), key("bytes", "size"), key("mode", "text"), key("pot", "list of tables")],
};
static POT: Table = Table { path: "pot", doc: "", keys: &[key("colour", "text"), key("size", "number")] };

fn read(text: &str) -> Vec<String> {
    let source = Source::new("f.toml", text);
    if let Some(document) = source.parse() {
        let top = document.section(&TOP);
        top.required("name").and_then(|item| item.text());
        top.get("wait").and_then(|item| item.duration());
        top.get("bytes").and_then(|item| item.size(1..=1024));
        top.get("mode").and_then(|item| item.choice(&[("auto", 1), ("manual", 2)]));
        for pot in top.sections("pot", &POT) {
            pot.get("colour").and_then(|item| item.text());
            pot.required("size").and_then(|item| item.number(1..=9));
        }
    }
    source.findings().0.iter().map(ToString::to_string).collect()
}

#[test]
fn every_mistake_is_found_at_once_with_place_and_mend() {
    let text = "nmae = \"x\"\nwait = 5\nbytes = \"2KiB\"\nmode = \"manul\"\n[[pot]]\n  colour = 7\nsize = 10\n[[pot]]\ncolour = \"é\"\n";
    assert_eq!(
        read(text),
        [
            "f.toml:1:1: nmae: is not a key here; write name",
            "f.toml:1:1: name: is missing; add name = ... (text)",
            "f.toml:2:8: wait: is a whole number; write a duration such as \"5s\"",
            "f.toml:3:9: bytes: 2048 bytes are out of range; use 1 to 1024 bytes",
            "f.toml:4:8: mode: `manul` is unknown; write \"manual\"",
            "f.toml:6:12: pot[0].colour: is a whole number; write a text in quotes",
            "f.toml:7:8: pot[0].size: 10 is out of range; use 1 to 9",
            "f.toml:8:1: pot[1].size: is missing; add size = ... (number)",
        ]
    );
}

#[test]
fn a_mistake_of_syntax_is_one_finding_with_its_place() {
    let findings = read("name = \"x\"\nwait = = 5\nmode = [\n");
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].starts_with("f.toml:2:8: syntax: "), "{findings:?}");
    assert!(read("name = \"x\"\nname = \"y\"")[0].starts_with("f.toml:2:1: syntax: duplicate key"));
}

#[test]
fn tables_of_the_wrong_shape_are_findings() {
    assert_eq!(read("name='x'\npot = 3"), ["f.toml:2:7: pot: is a whole number; write a list in [ ]"]);
    assert_eq!(read("name='x'\n[pot]\nsize=1"), ["f.toml:2:1: pot: is a table; write a list of tables: [[name]], or name = [{ ... }]"]);
    assert_eq!(read("name='x'\npot = [3]"), ["f.toml:2:8: pot[0]: is a whole number; write a table"]);
}

#[test]
fn findings_and_texts_are_bounded() {
    let many: String = (0..500).map(|n| format!("unknown-key-{n} = 1\n")).collect();
    assert_eq!(read(&many).len(), MAX_FINDINGS);
    let huge = format!("name = \"{}\"", "x".repeat(MAX_TEXT));
    assert_eq!(read(&huge), ["f.toml:1:1: file: is larger than 16 MiB; split it, or generate fewer routes"]);
    let deep = format!("name = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(read(&deep).len(), 1);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        read(&text);
    }

    #[test]
    fn no_mangled_file_makes_the_reader_panic(cut in 0usize..120, junk in "\\PC{0,6}|[\\[\\]{}=\"'.\n\r\t#]{0,6}") {
        let text = "name = \"é\"\nwait = \"5s\"\nbytes = 0x10\nmode = 'auto'\n[[pot]]\ncolour = \"\"\"red\"\"\"\nsize = 3\n";
        let cut = text.floor_char_boundary(cut);
        read(&format!("{}{junk}{}", &text[..cut], &text[cut..]));
    }
}
