//! The lines of /proc/PID/mountinfo (proc_pid_mountinfo(5)) in their fields. Called by everybody who looks for a mount by its number,
//! kind, device or place. Bytes, not text: where something is mounted is any name that a file can have.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// Of these fields nothing is decoded but what is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    /// The kernel's number of the mount.
    pub(crate) number: u64,
    /// `8:1`
    pub(crate) device: &'a [u8],
    root: &'a [u8],
    point: &'a [u8],
    /// Of the mount: `ro,nosuid`.
    options: &'a [u8],
    /// The type of the file system.
    pub(crate) kind: &'a [u8],
    /// Of the file system.
    super_options: &'a [u8],
}

/// The own mount table. Not by `small::read_file`: one line can be longer than what that takes for the end.
pub(crate) fn read_own() -> Result<Vec<u8>> {
    std::fs::read("/proc/self/mountinfo").context("read `/proc/self/mountinfo`")
}

/// What is no such line is left out.
pub(crate) fn lines(table: &[u8]) -> impl Iterator<Item = Line<'_>> {
    table.split(|byte| *byte == b'\n').filter_map(Line::parse)
}

impl<'a> Line<'a> {
    /// Number, parent, device, root, mount point, options, any number of tags, `-`, type, source, options.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let number = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let _parent = fields.next()?;
        let (device, root, point) = (fields.next()?, fields.next()?, fields.next()?);
        let options = fields.next()?;
        fields.find(|field| *field == b"-")?;
        let kind = fields.next()?;
        let _source = fields.next()?;
        Some(Self {
            number,
            device,
            root,
            point,
            options,
            kind,
            super_options: fields.next().unwrap_or_default(),
        })
    }

    /// What of its file system is mounted.
    pub(crate) fn root(&self) -> PathBuf {
        PathBuf::from(OsString::from_vec(unescape(self.root)))
    }

    pub(crate) fn point(&self) -> PathBuf {
        PathBuf::from(OsString::from_vec(unescape(self.point)))
    }

    pub(crate) fn has(&self, option: &str) -> bool {
        has(self.options, option)
    }

    /// Whether the file system has that option.
    pub(crate) fn super_has(&self, option: &str) -> bool {
        has(self.super_options, option)
    }
}

fn has(options: &[u8], option: &str) -> bool {
    options
        .split(|byte| *byte == b',')
        .any(|one| one == option.as_bytes())
}

/// Blanks, tabs, line feeds and backslashes are three octal digits there.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        if let (
            b'\\',
            [
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ],
        ) = (first, tail)
        {
            out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = after;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn fields_are_found_behind_any_number_of_tags() {
        let table = b"22 1 8:1 / / ro,relatime - ext4 /dev/sda rw,errors=continue\n\
            23 22 0:5 /a\\040b /x\\040y\\134z rw,nosuid shared:3 master:1 - tmpfs none rw\n\
            rubbish\n24 22 0:6 / /no/end rw shared:4\n\n";
        let all: Vec<Line<'_>> = lines(table).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].number, all[0].device), (22, &b"8:1"[..]));
        assert!(all[0].has("ro") && !all[0].has("rel") && all[0].super_has("rw"));
        assert_eq!(all[1].kind, b"tmpfs");
        assert_eq!(all[1].root(), Path::new("/a b"));
        assert_eq!(all[1].point(), Path::new("/x y\\z"));
    }

    #[test]
    fn names_are_bytes() {
        let line = lines(b"1 0 0:1 / /\xff\\012 rw - proc p rw")
            .next()
            .unwrap();
        assert_eq!(line.point().into_os_string().into_vec(), b"/\xff\n");
        assert_eq!(unescape(b"\\9\\04\\999\\134040"), b"\\9\\04\\999\\040");
    }
}
