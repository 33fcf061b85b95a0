//! Manual pages: the program and its commands (section 8) from the description that `--help` reads, its file (section 5) from the
//! tables that its reader refuses unknown keys by. So none of them can know less than the program does.

use std::io;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use crate::settings::keys;

const SECTION: &str = "8";

/// The program's page.
pub(crate) fn program(command: Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command.disable_help_subcommand(true)).section(SECTION).render(&mut page)?;
    Ok(page)
}

/// Writes all pages into a directory, which is made: the program's, one for each command, and that of its file.
pub(crate) fn write(command: Command, dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    std::fs::write(dir.join(format!("figspan-agent.{SECTION}")), program(command.clone())?)?;
    for part in command.get_subcommands() {
        let name = format!("figspan-agent-{}", part.get_name());
        let mut page = Vec::new();
        Man::new(part.clone().display_name(&name)).title(&name).section(SECTION).render(&mut page)?;
        std::fs::write(dir.join(format!("{name}.{SECTION}")), page)?;
    }
    std::fs::write(dir.join("figspan-agent.toml.5"), settings())
}

/// The page of agent.toml.
fn settings() -> String {
    let mut page = Roff::new();
    page.control("TH", ["figspan-agent.toml", "5", "", concat!("figspan-agent ", env!("CARGO_PKG_VERSION"))]);
    page.control("SH", ["NAME"]).text([roman("figspan-agent.toml - what the figspan agent offers, and to whom")]);
    page.control("SH", ["SYNOPSIS"]).text([italic("/etc/figspan-agent/agent.toml")]);
    page.control("br", []).text([italic("/etc/figspan-agent/agent.toml.d/*.toml")]);
    page.control("SH", ["DESCRIPTION"]).text([
        roman("TOML. Files in the directory are read after the file, in the order of their names; single values of a later file win, uplinks add up. Unknown keys are refused. No program writes these files. "),
        bold("figspan-agent check"),
        roman(" tells every mistake with its line, and a running agent takes a change at once, if it has none."),
    ]);
    for table in keys::TABLES {
        let title = if table.path.is_empty() { "TOP OF THE FILE".to_owned() } else { format!("[{}]", table.path) };
        page.control("SH", [title.as_str()]).text(words(table.doc));
        for key in table.keys {
            let mut head = vec![bold(key.name), roman(" = "), italic(key.kind)];
            if !key.default.is_empty() {
                head.extend([roman(" (default: "), roman(key.default), roman(")")]);
            }
            page.control("TP", []).text(head).text(words(key.doc));
        }
    }
    page.control("SH", ["EXAMPLE"]).control("nf", []).text([roman(include_str!("../../packaging/samples/agent/minimal.toml").trim())]);
    page.control("fi", []).control("SH", ["SEE ALSO"]).text([bold("figspan-agent"), roman("(8)")]);
    page.to_roff()
}

/// Prose in which `` `words` `` are bold.
fn words(text: &str) -> Vec<Inline> {
    text.split('`').enumerate().map(|(number, part)| if number % 2 == 1 { bold(part) } else { roman(part) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_the_file_has_every_key() {
        let page = settings();
        for key in keys::TABLES.iter().flat_map(|table| table.keys) {
            assert!(page.contains(&format!("\\fB{}\\fR", key.name)), "{}: {page}", key.name);
        }
    }

    #[test]
    fn every_command_has_a_page_of_its_own() {
        let dir = tempfile::tempdir().expect("a folder");
        let command = || Command::new("figspan-agent").subcommand(Command::new("join").about("Redeems a grant"));
        write(command(), dir.path()).expect("the folder can be written");
        let page = std::fs::read_to_string(dir.path().join("figspan-agent-join.8")).expect("a page");
        assert!(page.contains(".TH figspan-agent-join 8") && page.contains("Redeems a grant"), "{page}");
        assert!(dir.path().join("figspan-agent.8").exists() && !dir.path().join("figspan-agent-help.8").exists());
    }
}
