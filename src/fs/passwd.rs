//! HOME out of the container's /etc/passwd. Called by `init/handoff.rs` after the root has been changed: the file is the
//! container's and hostile (U1). Ids are never looked up by name, names never by id.

use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

/// At most this much of the file is read.
const LIMIT: u64 = 1 << 20;

/// The home directory of `uid`, or `None`: errors are no errors, the file need not be there nor make sense.
pub(crate) fn home_of(uid: u32) -> Option<String> {
    // A fifo must not block and a device must not be read.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY)
        .open("/etc/passwd")
        .ok()?;
    if file.metadata().ok()?.mode() & libc::S_IFMT != libc::S_IFREG {
        return None;
    }
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text).ok()?;
    find(&text, uid)
}

fn find(text: &str, uid: u32) -> Option<String> {
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let is_user = fields.get(2)?.parse::<u32>().ok()? == uid;
        let home = *fields.get(5)?;
        (is_user && home.starts_with('/') && !home.contains('\0')).then(|| home.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn the_first_entry_of_the_id_counts() {
        let text = "root:x:0:0:root:/root:/bin/sh\nbroken\nwww:x:33:33::/var/www:/x\nalso:x:33:33::/other:/x\n";
        assert_eq!(find(text, 33).as_deref(), Some("/var/www"));
        assert_eq!(find(text, 0).as_deref(), Some("/root"));
        assert_eq!(find(text, 5), None);
    }

    #[test]
    fn a_relative_home_is_no_home() {
        assert_eq!(find("u:x:7:7::home:/bin/sh\n", 7), None);
    }
}
