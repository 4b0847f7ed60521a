//! Reading a file of the kernel's that is one record of a few lines, such as /proc/PID/stat: one open and one read in most
//! cases, where `std::fs::read` takes nine calls (it grows from 32 bytes, for these files say that they have none).
//! Called by everybody who asks the kernel something about a process.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::read;

use crate::sys::fd::Later;

/// What one read of most files takes in.
const GUESS: usize = 4096;

/// The whole file. A read that fills less than half of the buffer is the last: the kernel ends one early only between two
/// records, and none is as long as that.
pub(crate) fn read_file(path: impl AsRef<Path>) -> nix::Result<Vec<u8>> {
    // openat(2): libc's open() sets close-on-exec a second time with a call of its own.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    read_open(Later::new(openat(
        AT_FDCWD,
        path.as_ref(),
        flags,
        Mode::empty(),
    )?))
}

/// The same of a file that is open, of a kernel file system or not, from where it stands.
pub(crate) fn read_open(file: impl AsFd) -> nix::Result<Vec<u8>> {
    // Not in the list itself: of most files little is kept, and a list of this size is a page.
    let mut first = [0; GUESS];
    let mut filled = read_some(&file, &mut first)?;
    let mut bytes = first[..filled].to_vec();
    let mut last = filled < GUESS / 2;
    while !last {
        bytes.resize((filled * 2).max(GUESS), 0);
        let room = bytes.len() - filled;
        let count = read_some(&file, &mut bytes[filled..])?;
        filled += count;
        last = count < room / 2;
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn read_some(file: impl AsFd, into: &mut [u8]) -> nix::Result<usize> {
    loop {
        match read(&file, into) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// The same as text; the kernel's files are ASCII but for names that users chose.
pub(crate) fn read_text(path: impl AsRef<Path>) -> nix::Result<String> {
    read_file(path).map(|bytes| match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(other) => String::from_utf8_lossy(other.as_bytes()).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn whole_whatever_the_length() {
        for length in [0, 1, GUESS / 2 - 1, GUESS / 2, GUESS, GUESS + 1, 5 * GUESS] {
            let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
            assert_eq!(
                read_file(file_of(&bytes).path()).unwrap(),
                bytes,
                "{length}"
            );
        }
        assert_eq!(
            read_file("/proc/self/mountinfo").unwrap(),
            std::fs::read("/proc/self/mountinfo").unwrap()
        );
        assert_eq!(read_file("/proc/self/none"), Err(Errno::ENOENT));
    }

    #[test]
    fn text_of_any_bytes() {
        let file = file_of(b"a\xffb");
        assert_eq!(read_text(file.path()).unwrap(), "a\u{fffd}b");
    }
}
