//! The bundle's file: tar in gzip, made for its owner alone, bounded in size.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Most bytes of one part; of longer ones the end is kept.
const PART: usize = 4 << 20;
/// Most bytes of all parts. Recorded packets have a bound of their own below it.
const WHOLE: usize = 32 << 20;

/// A bundle that is being written.
pub(super) struct Archive {
    tar: tar::Builder<GzEncoder<File>>,
    names: Vec<String>,
    made: u64,
    left: usize,
}

impl Archive {
    /// Makes the file, which must not be there yet.
    pub(super) fn create(path: &Path, now: SystemTime) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let made = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let tar = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        Ok(Self { tar, names: Vec::new(), made, left: WHOLE })
    }

    /// Adds a part. Of one that is too long, the end.
    pub(super) fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let bytes = &bytes[bytes.len().saturating_sub(PART.min(self.left))..];
        self.left -= bytes.len();
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.made);
        self.tar.append_data(&mut header, Path::new("figspan-support").join(name), bytes)?;
        self.names.push(name.to_owned());
        Ok(())
    }

    /// Parts so far.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Writes the end; the size of the file.
    pub(super) fn finish(self) -> io::Result<u64> {
        let mut file = self.tar.into_inner()?.finish()?;
        file.flush()?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_file_is_private_new_and_bounded_and_long_parts_keep_their_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bundle.tar.gz");
        let mut archive = Archive::create(&path, SystemTime::now()).unwrap();
        assert!(Archive::create(&path, SystemTime::now()).is_err(), "nobody's file is written over");
        let mut long = vec![b'x'; PART + 10];
        long.extend(b"end");
        for part in 0..20 {
            archive.add(&format!("part-{part}"), &long).unwrap();
        }
        let size = archive.finish().unwrap();
        assert_eq!((std::fs::metadata(&path).unwrap().mode() & 0o777, std::fs::metadata(&path).unwrap().len()), (0o600, size));
        let mut sizes = Vec::new();
        for entry in tar::Archive::new(flate2::read::GzDecoder::new(File::open(&path).unwrap())).entries().unwrap() {
            let mut bytes = Vec::new();
            io::copy(&mut entry.unwrap(), &mut bytes).unwrap();
            assert!(bytes.is_empty() || bytes.ends_with(b"end"));
            sizes.push(bytes.len());
        }
        assert!(sizes.len() == 20 && sizes[0] == PART && sizes.iter().sum::<usize>() == WHOLE, "{sizes:?}");
    }
}
