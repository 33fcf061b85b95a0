//! Asks for a token on the terminal without showing it, so that it stays in no scrollback and on no shared screen.
//!
//! Keys are read one by one: with the line editor of the terminal a token would be cut at 4095 bytes, and Ctrl-C would end
//! the program with the echo still off. Whatever happens, the terminal is as it was before when [`ask`] returns.

use std::io::{self, BufRead, Write};

use figspan_proto::join::MAX_TOKEN;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const CTRL_U: u8 = 21;
const BACKSPACE: [u8; 2] = [8, 127];

/// Asks on standard input, which must be a terminal; the question goes to standard error. Blocks until a line has come.
pub(super) fn ask(question: &str) -> io::Result<String> {
    let stdin = io::stdin();
    let quiet = Quiet::new(&stdin)?;
    let mut terminal = io::stderr().lock();
    write!(terminal, "{question}")?;
    terminal.flush()?;
    let line = line(stdin.lock());
    drop(quiet);
    writeln!(terminal)?;
    line
}

/// A terminal that shows nothing and passes every key on, until this is dropped.
struct Quiet<'t> {
    terminal: &'t io::Stdin,
    before: Termios,
}

impl<'t> Quiet<'t> {
    fn new(terminal: &'t io::Stdin) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG;
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(terminal, OptionalActions::Now, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // What was typed ahead and not read goes too: it may be the rest of a secret, and the shell would show it.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// One line, key by key; an error when it is broken off or longer than any token.
fn line(keys: impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    for key in keys.bytes() {
        match key? {
            b'\n' | b'\r' | CTRL_D => break,
            CTRL_C => return Err(io::ErrorKind::Interrupted.into()),
            CTRL_U => line.clear(),
            key if BACKSPACE.contains(&key) => drop(line.pop()),
            _ if line.len() > MAX_TOKEN => return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is longer than any token")),
            key => line.push(key),
        }
    }
    String::from_utf8(line).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "that is no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_at_return_and_can_be_mended_or_broken_off() {
        let typed = |keys: &str| line(keys.as_bytes());
        assert_eq!(typed("token\rrest").unwrap(), "token");
        assert_eq!(typed("tokem\u{7f}n\n").unwrap(), "token");
        assert_eq!(typed("wrong\u{15}token\u{4}").unwrap(), "token");
        assert_eq!(typed("tok\u{3}en\n").unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert_eq!(typed(&format!("{}\n", "x".repeat(MAX_TOKEN))).unwrap().len(), MAX_TOKEN);
        assert!(typed(&"x".repeat(MAX_TOKEN + 2)).is_err());
        assert!(line(&b"\xff\n"[..]).is_err());
    }
}
