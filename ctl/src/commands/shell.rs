//! Completions and man pages, made from the same description as `--help`.

use std::path::Path;

use crate::error::{CtlError, Exit};
use crate::terminal::Terminal;
use crate::{command, command_as};

pub(super) fn completions(name: &'static str, shell: clap_complete::Shell, terminal: &mut Terminal) -> Result<Exit, CtlError> {
    let mut script = Vec::new();
    // Shells complete one word, so a name of two (`kubectl figspan`) gets the completions of the binary itself.
    let (mut command, binary) = if name.contains(' ') { (command(), "figspanctl") } else { (command_as(name), name) };
    clap_complete::generate(shell, &mut command, binary, &mut script);
    terminal.raw(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

pub(super) fn man(dir: Option<&Path>, terminal: &mut Terminal) -> Result<Exit, CtlError> {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command()).render(&mut page)?;
        terminal.raw(&String::from_utf8_lossy(&page))?;
        return Ok(Exit::Done);
    };
    let failed = |source| CtlError::File { act: "write man pages to", path: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(command(), dir).map_err(failed)?;
    Ok(Exit::Done)
}
