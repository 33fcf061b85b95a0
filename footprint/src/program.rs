//! Gives back the pages of the program file that only the start needed.
//!
//! Reading the settings, the certificates and the first handshakes runs through most of the program once, and every page of it then
//! counts as resident for as long as the agent lives, though an idle one needs a tenth of them. Given back, a page that is needed
//! after all comes from the page cache again. Nothing of the agent's own memory is touched.

use std::ffi::c_void;
use std::ops::Range;

use rustix::mm::{Advice, madvise};

/// Unmaps what was only read of the program and its libraries; where the kernel does not say what that is, all stays.
pub fn give_back() {
    let Ok(smaps) = std::fs::read_to_string("/proc/self/smaps") else { return };
    let clean = clean(&smaps);
    let refused = clean.iter().filter(|range| !forget(range)).count();
    tracing::debug!(bytes = clean.iter().map(ExactSizeIterator::len).sum::<usize>(), refused, "gave back what only the start needed");
}

/// Mappings of files that cannot be written and of which no page was ever changed: all that a page of them holds is in its file.
fn clean(smaps: &str) -> Vec<Range<usize>> {
    let mut clean = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            // Last of the counts that matter, in kB; the kernel tells one after the other.
            (Some("Anonymous:"), Some("0")) => clean.extend(current.take()),
            (Some(name), Some(_)) if name.ends_with(':') => {}
            (Some(range), Some(rights)) => {
                let of_file = words.nth(3).is_some_and(|path| path.starts_with('/'));
                current = (of_file && matches!(rights, "r-xp" | "r--p")).then(|| parse(range)).flatten();
            }
            _ => {}
        }
    }
    clean
}

fn parse(range: &str) -> Option<Range<usize>> {
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}

fn forget(range: &Range<usize>) -> bool {
    // SAFETY: the range is a mapping of this process that cannot be written and holds no page of its own, so what is read there
    // after this is what was read before it: the content of the file, which a running program relies on anyway.
    #[allow(unsafe_code, reason = "madvise has no safe wrapper, for it can forget what a program wrote")]
    let done = unsafe { madvise(std::ptr::with_exposed_provenance_mut::<c_void>(range.start), range.len(), Advice::LinuxDontNeed) };
    done.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
5581a0000000-5581a0002000 r--p 00000000 fe:00 12 /usr/bin/figspan-agent
Size:                  8 kB
Rss:                   8 kB
Anonymous:             0 kB
VmFlags: rd mr mw me sd
5581a0002000-5581a0008000 r-xp 00002000 fe:00 12 /usr/bin/figspan-agent
Anonymous:             0 kB
5581a0008000-5581a000a000 r--p 00008000 fe:00 12 /usr/bin/figspan-agent
Anonymous:             8 kB
5581a000a000-5581a000b000 rw-p 0000a000 fe:00 12 /usr/bin/figspan-agent
Anonymous:             0 kB
5581a1000000-5581a1021000 rw-p 00000000 00:00 0 [heap]
Anonymous:             0 kB
7f0000000000-7f0000001000 r--p 00000000 00:00 0 
Anonymous:             0 kB
7f0000010000-7f0000011000 r--s 00000000 fe:00 99 /var/lib/shared
Anonymous:             0 kB
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
";

    #[test]
    fn only_what_is_whole_in_a_file_and_cannot_be_written_is_given_back() {
        assert_eq!(clean(SMAPS), [0x5581_a000_0000..0x5581_a000_2000, 0x5581_a000_2000..0x5581_a000_8000]);
        assert!(clean("what is this\n-\nzz-yy r-xp 0 0 0 /a\nAnonymous: 0 kB\n").is_empty());
    }

    #[test]
    fn what_was_given_back_is_read_again() {
        // A table in the program file that nothing else reads.
        static TABLE: [u64; 4096] = [7; 4096];
        let sum = || std::hint::black_box(&TABLE).iter().sum::<u64>();
        let before = sum();
        give_back();
        assert_eq!(sum(), before);
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        assert!(clean(&smaps).len() >= 2, "the program itself is among them: {smaps}");
    }
}
