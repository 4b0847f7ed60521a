//! HOME out of the container's /etc/passwd. Called by `init/handoff.rs` after the root has been changed: the file is the
//! container's and hostile (U1). Ids are never looked up by name, names never by id.

use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

/// At most this much of the file is read.
const LIMIT: u64 = 1 << 20;
/// As long as most are.
const USUAL: usize = 8192;

/// The home directory of `uid`, or `None`: errors are no errors, the file need not be there nor make sense.
pub(crate) fn home_of(uid: u32) -> Option<String> {
    find(&read()?, uid, 5).filter(|home| home.starts_with('/'))
}

/// The name of `uid` in the host's file, for `list`. Never used to decide anything.
pub(crate) fn name_of(uid: u32) -> Option<String> {
    find(&read()?, uid, 0)
}

fn read() -> Option<String> {
    // A fifo must not block and a device must not be read.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY)
        .open("/etc/passwd")
        .ok()?;
    if file.metadata().ok()?.mode() & libc::S_IFMT != libc::S_IFREG {
        return None;
    }
    // One read for most, and one that finds the end.
    let mut text = String::with_capacity(USUAL);
    file.take(LIMIT).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Field `wanted` of the first line with this uid.
pub(crate) fn find(text: &str, uid: u32, wanted: usize) -> Option<String> {
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let is_user = fields.get(2)?.parse::<u32>().ok()? == uid;
        let value = *fields.get(wanted)?;
        (is_user && !value.contains('\0')).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn the_first_entry_of_the_id_counts() {
        let text = "root:x:0:0:root:/root:/bin/sh\nbroken\nwww:x:33:33::/var/www:/x\nalso:x:33:33::/other:/x\n";
        assert_eq!(find(text, 33, 5).as_deref(), Some("/var/www"));
        assert_eq!(find(text, 0, 5).as_deref(), Some("/root"));
        assert_eq!(find(text, 5, 5), None);
    }
}
