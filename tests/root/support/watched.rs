//! A tree of the host that a container has nothing to do with, and what of the host it could change: looked at before and after.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, mknod};

use super::Cx;

/// A tree of the host that no container was given.
pub(crate) fn make(cx: &Cx) -> PathBuf {
    let watched = cx.dir.join("watched");
    fs::create_dir_all(watched.join("directory/self/fd")).unwrap();
    fs::create_dir_all(watched.join("directory/attr")).unwrap();
    for name in [
        "file",
        "directory/null",
        "directory/passwd",
        "directory/attr/exec",
        "directory/target",
    ] {
        fs::write(watched.join(name), format!("{name} of the host\n")).unwrap();
    }
    fs::copy("/bin/busybox", watched.join("directory/sleep")).unwrap();
    fs::set_permissions(watched.join("file"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("file", watched.join("link")).unwrap();
    mknod(&watched.join("fifo"), SFlag::S_IFIFO, Mode::S_IRWXU, 0).unwrap();
    watched
}

/// Every name with what it is, and of files what is in them. The time of the last change tells also of attributes that are no
/// longer different, of links, and of writes of what was there.
fn look(at: &Path, found: &mut BTreeMap<PathBuf, String>) {
    let meta = fs::symlink_metadata(at).unwrap();
    let mut hasher = DefaultHasher::new();
    if meta.is_file() {
        fs::read(at).unwrap().hash(&mut hasher);
    } else if meta.is_symlink() {
        fs::read_link(at).unwrap().hash(&mut hasher);
    }
    let kind = meta.file_type();
    let times = (kind.is_char_device() || kind.is_block_device()).then_some((0, 0));
    let said = format!(
        "{:o} {}:{} {} links {} size {} rdev {} changed {:?} content {:x}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.ino(),
        meta.nlink(),
        meta.size(),
        meta.rdev(),
        times.unwrap_or((meta.ctime(), meta.ctime_nsec())),
        hasher.finish()
    );
    found.insert(at.to_owned(), said);
    if meta.is_dir() {
        for entry in fs::read_dir(at).unwrap() {
            look(&entry.unwrap().path(), found);
        }
    }
}

/// The watched tree, the host's device nodes, and the mounts of the runtime's own namespace.
pub(crate) fn host(watched: &Path) -> (BTreeMap<PathBuf, String>, String) {
    let mut found = BTreeMap::new();
    look(watched, &mut found);
    for name in [
        "null", "zero", "full", "random", "urandom", "tty", "ptmx", "console",
    ] {
        let path = Path::new("/dev").join(name);
        if path.symlink_metadata().is_ok() {
            look(&path, &mut found);
        }
    }
    (found, mounts(watched))
}

/// Of the test's directory and of the host's own file systems. Others of the host come and go with their owners.
fn mounts(watched: &Path) -> String {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let tops = [
        Path::new("/dev"),
        Path::new("/proc"),
        Path::new("/sys"),
        watched.parent().unwrap(),
    ];
    let ours = table.lines().filter(|line| {
        let point = Path::new(line.split(' ').nth(4).unwrap_or_default());
        point == Path::new("/") || tops.iter().any(|top| point.starts_with(top))
    });
    ours.collect::<Vec<_>>().join("\n")
}
