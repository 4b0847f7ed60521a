//! The names by which a checkpoint and its restore speak of what is not the container's own: mounts, namespaces, pipes. The
//! checkpoint writes them into the images, the restore says what they stand for now. Called by `checkpoint` and `restore`.
//!
//! A name is a destination or a kind of config.json, never a path that came out of an image (R1).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::sys::stat::{Mode, stat};

use crate::criu::Directory;
use crate::fs::atomic;
use crate::log;
use crate::plan::namespaces::Kind;
use crate::plan::outside::{self, Outside};
use crate::rootfs::mount_table::Mounts;

/// runc's file in the images: what the first descriptors were. CRIU asks for pipes by that name again.
const DESCRIPTORS: &str = "descriptors.json";
/// No descriptors.json of ours is longer.
const LONGEST: u64 = 64 * 1024;

/// The key of a namespace that is there before the container and after it; runc's.
pub(super) fn namespace_key(kind: Kind) -> Option<(&'static str, &'static str)> {
    match kind {
        Kind::Network => Some(("net", "extRootNetNS")),
        Kind::Pid => Some(("pid", "extRootPidNS")),
        _ => None,
    }
}

pub(super) fn dumped_namespaces(outside: &Outside, pid: i32) -> Result<Vec<String>> {
    let joined = outside
        .joined
        .iter()
        .filter_map(|kind| namespace_key(*kind));
    joined
        .map(|(name, key)| {
            let path = format!("/proc/{pid}/ns/{name}");
            let found = stat(path.as_str()).with_context(|| format!("look at `{path}`"))?;
            Ok(format!("{name}[{}]:{key}", found.st_ino))
        })
        .collect()
}

/// `mnt[PLACE]:NAME` for all that is mounted from outside. The place is the kernel's, the name the config's (R1).
pub(super) fn dumped_mounts(outside: &Outside, pid: i32) -> Result<Vec<String>> {
    let found = Mounts::of(pid)?;
    let mut places: BTreeMap<PathBuf, (String, PathBuf)> = BTreeMap::new();
    let mut add = |field: &str, place: PathBuf, name: &Path| -> Result<()> {
        outside::check_name(field, &place)?;
        if let Some((other, _)) = places.get(&place) {
            bail!(
                "{field}: leads to `{}`, the mount of {other}",
                place.display()
            );
        }
        places.insert(place, (field.to_owned(), name.to_owned()));
        Ok(())
    };
    // A later one covers an earlier one of the same destination.
    let mut last: BTreeMap<&Path, &str> = BTreeMap::new();
    for mount in &outside.mounts {
        last.insert(&mount.destination, &mount.field);
    }
    for (destination, field) in last {
        match found.find(destination)? {
            Some(at) if at.is_mount => add(field, at.point, destination)?,
            _ => log::debug(format_args!(
                "{field}: `{}` is no mount now",
                destination.display()
            )),
        }
    }
    for (index, path) in outside.masked.iter().enumerate() {
        let field = format!("linux.maskedPaths[{index}]");
        if let Some(at) = found.find(path)?.filter(|at| at.is_mount && !at.is_dir) {
            // Two names of one file are one mask.
            let null = Path::new(outside::NULL);
            drop(add(&field, at.point, null));
        }
    }
    for path in &outside.nodes {
        if let Some(at) = found.find(path)?.filter(|at| at.is_mount && !at.is_dir) {
            // One that the config mounts itself has its name already.
            drop(add("linux.devices", at.point, path));
        }
    }
    Ok(places
        .into_iter()
        .map(|(place, (_, name))| format!("mnt[{}]:{}", place.display(), name.display()))
        .collect())
}

pub(super) fn write_descriptors(images: &Directory, stdio: &[String]) -> Result<()> {
    let bytes = serde_json::to_vec(stdio).context("write `descriptors.json`")?;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    atomic::replace(images.as_fd(), OsStr::new(DESCRIPTORS), mode, &bytes)
        .context("--image-path: write `descriptors.json`")
}

/// `mnt[NAME]:SOURCE` of everything that may be in the image under that name; all from the bundle.
pub(super) fn restored_mounts(outside: &Outside) -> Vec<Vec<u8>> {
    let one = |name: &Path, source: &Path| {
        let (name, source) = (name.as_os_str().as_bytes(), source.as_os_str().as_bytes());
        [b"mnt[", name, b"]:", source].concat()
    };
    let null = Path::new(outside::NULL);
    let mut all: Vec<(&Path, &Path)> = Vec::new();
    for mount in &outside.mounts {
        // A later one covers an earlier one.
        all.retain(|(name, _)| *name != mount.destination);
        all.push((&mount.destination, &mount.source));
    }
    let nodes = outside
        .nodes
        .iter()
        .map(|path| (path.as_path(), path.as_path()));
    let masks = (!outside.masked.is_empty()).then_some((null, null));
    for (name, source) in nodes.chain(masks) {
        if !all.iter().any(|(taken, _)| *taken == name) {
            all.push((name, source));
        }
    }
    all.into_iter()
        .map(|(name, source)| one(name, source))
        .collect()
}

/// Which of the standard streams were pipes that the image names. Only that is taken from it: any other key would put a
/// descriptor in a place that was not meant for it.
pub(super) fn read_descriptors(images: &Directory) -> Result<Vec<(String, i32)>> {
    let read = || -> Result<Vec<String>> {
        let file = std::fs::File::from(images.open_file(DESCRIPTORS)?);
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, LONGEST), &mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    };
    let names = read().with_context(|| {
        format!("--image-path: read `{DESCRIPTORS}` (is it the image of a checkpoint?)")
    })?;
    let pipes = (0..3).zip(names).filter(|(_, name)| is_pipe(name));
    Ok(pipes.map(|(number, name)| (name, number)).collect())
}

fn is_pipe(name: &str) -> bool {
    name.strip_prefix("pipe:[")
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|inode| !inode.is_empty() && inode.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::outside::OutsideMount;

    #[test]
    fn only_pipes_are_taken_from_an_image() {
        assert!(is_pipe("pipe:[4711]"));
        for bad in [
            "pipe:[]",
            "pipe:[4]x",
            "extRootNetNS",
            "pipe:[4",
            "/dev/null",
            "pipe:[a]",
        ] {
            assert!(!is_pipe(bad), "{bad}");
        }
        let dir = tempfile::tempdir().unwrap();
        let images = Directory::open("--image-path", dir.path()).unwrap();
        assert!(read_descriptors(&images).is_err());
        let json = r#"["/dev/null","pipe:[7]","extRootNetNS","pipe:[8]"]"#;
        let mode = Mode::S_IRUSR;
        atomic::replace(images.as_fd(), DESCRIPTORS.as_ref(), mode, json.as_bytes()).unwrap();
        assert_eq!(
            read_descriptors(&images).unwrap(),
            [("pipe:[7]".to_owned(), 1)]
        );
    }

    #[test]
    fn names_of_outside_mounts() {
        let mount = |destination: &str, source: &str| OutsideMount {
            field: "mounts[0]".to_owned(),
            destination: destination.into(),
            source: source.into(),
        };
        let outside = Outside {
            mounts: vec![
                mount("/a", "/x"),
                mount("/dev/null", "/y"),
                mount("/a", "/z:]"),
            ],
            masked: vec!["/proc/kcore".into()],
            nodes: vec!["/dev/null".into(), "/dev/zero".into()],
            ..Outside::default()
        };
        let names: Vec<_> = restored_mounts(&outside)
            .into_iter()
            .map(|name| String::from_utf8(name).unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "mnt[/dev/null]:/y",
                "mnt[/a]:/z:]",
                "mnt[/dev/zero]:/dev/zero"
            ]
        );
    }
}
