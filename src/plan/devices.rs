//! Device nodes and links in /dev: runc's default set and `linux.devices`. Pure; carried out by `rootfs/devices.rs`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use oci_spec::runtime as oci;

use super::mounts::clean;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Char,
    Block,
    Fifo,
}

/// A node to make, or to bind from the host where mknod(2) is not possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// How messages call it: `linux.devices[2]`, or `default device` for one of the default set.
    pub(crate) label: String,
    pub(crate) path: PathBuf,
    pub(crate) kind: NodeKind,
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// (path, major, minor), all of them character devices of mode 0666.
const DEFAULTS: [(&str, u64, u64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links in /dev. `core` is made only where the container's /proc has a kcore, `ptmx` replaces what is there.
pub(crate) const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Widths of the two numbers in the kernel's dev_t.
const MAX_MAJOR: u64 = (1 << 12) - 1;
const MAX_MINOR: u64 = (1 << 20) - 1;

/// The default nodes, then the requested ones; a request for the path of a default one takes its place.
pub(crate) fn plan(devices: &[oci::LinuxDevice]) -> Result<Vec<Node>> {
    let mut nodes = Vec::with_capacity(DEFAULTS.len() + devices.len());
    for (index, device) in devices.iter().enumerate() {
        nodes.push(convert(&format!("linux.devices[{index}]"), device)?);
    }
    let wanted = |path: &str| nodes.iter().any(|node| node.path == Path::new(path));
    let mut out: Vec<Node> = DEFAULTS
        .iter()
        .filter(|(path, _, _)| !wanted(path))
        .map(|&(path, major, minor)| Node {
            label: "default device".to_owned(),
            path: PathBuf::from(path),
            kind: NodeKind::Char,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    out.append(&mut nodes);
    Ok(out)
}

fn convert(label: &str, device: &oci::LinuxDevice) -> Result<Node> {
    let kind = match device.typ() {
        oci::LinuxDeviceType::B => NodeKind::Block,
        oci::LinuxDeviceType::C | oci::LinuxDeviceType::U => NodeKind::Char,
        oci::LinuxDeviceType::P => NodeKind::Fifo,
        oci::LinuxDeviceType::A => bail!("{label}.type: `a` is no type of a device node"),
    };
    if !device.path().is_absolute() {
        bail!(
            "{label}.path: `{}` is not absolute",
            device.path().display()
        );
    }
    let path = clean(device.path());
    if path == Path::new("/") || path.starts_with("/proc") || path.starts_with("/sys") {
        bail!("{label}.path: no device can be at `{}`", path.display());
    }
    let (major, minor) = match kind {
        NodeKind::Fifo => (0, 0),
        NodeKind::Char | NodeKind::Block => (
            number(label, "major", device.major(), MAX_MAJOR)?,
            number(label, "minor", device.minor(), MAX_MINOR)?,
        ),
    };
    if kind != NodeKind::Fifo && (major, minor) == (0, 0) {
        // 0 is what the parser makes of a number that is not there, and no device has both.
        bail!(
            "{label}.major: major and minor are needed for a device of type {}",
            device.typ().as_str()
        );
    }
    // Engines copy st_mode whole, with the bits of the type.
    let mode = device
        .file_mode()
        .map_or(0o666, |mode| mode & !libc::S_IFMT);
    if mode & !0o7777 != 0 {
        bail!("{label}.fileMode: {mode:#o} has more than permission bits");
    }
    let (uid, gid) = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
    if uid == u32::MAX || gid == u32::MAX {
        bail!("{label}: {} is not a valid owner", u32::MAX);
    }
    Ok(Node {
        label: label.to_owned(),
        path,
        kind,
        major,
        minor,
        mode,
        uid,
        gid,
    })
}

fn number(label: &str, name: &str, value: i64, max: u64) -> Result<u64> {
    match u64::try_from(value) {
        Ok(value) if value <= max => Ok(value),
        _ => bail!("{label}.{name}: {value} is not between 0 and {max}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Vec<Node>> {
        let devices: Vec<oci::LinuxDevice> = serde_json::from_str(json).unwrap();
        plan(&devices)
    }

    #[test]
    fn defaults_give_way_to_requests() {
        let nodes = of("[]").unwrap();
        assert_eq!(nodes.len(), 6);
        let json =
            r#"[{"path":"/dev/./tty","type":"c","major":5,"minor":0,"fileMode":8592,"gid":5}]"#;
        let nodes = of(json).unwrap();
        assert_eq!(nodes.len(), 6);
        let tty = nodes
            .iter()
            .find(|node| node.path == Path::new("/dev/tty"))
            .unwrap();
        assert_eq!((tty.mode, tty.gid), (0o620, 5));
    }

    #[test]
    fn nonsense_names_its_place() {
        let cases = [
            (r#"{"path":"/dev/x","type":"a"}"#, "linux.devices[0].type"),
            (r#"{"path":"dev/x","type":"c"}"#, "linux.devices[0].path"),
            (r#"{"path":"/proc/x","type":"c"}"#, "linux.devices[0].path"),
            (
                r#"{"path":"/sys/../sys/x","type":"c"}"#,
                "linux.devices[0].path",
            ),
            (
                r#"{"path":"/dev/x","type":"b","major":-1}"#,
                "linux.devices[0].major",
            ),
            (
                r#"{"path":"/dev/x","type":"b","minor":1048576}"#,
                "linux.devices[0].minor",
            ),
            (
                r#"{"path":"/dev/x","type":"b","major":7,"uid":4294967295}"#,
                "linux.devices[0]",
            ),
            (
                r#"{"path":"/dev/x","type":"b","major":7,"fileMode":131072}"#,
                "linux.devices[0].fileMode",
            ),
        ];
        for (json, place) in cases {
            let error = of(&format!("[{json}]")).unwrap_err().to_string();
            assert!(error.starts_with(place), "{json}: {error}");
        }
    }

    #[test]
    fn a_fifo_has_no_numbers() {
        let nodes = of(r#"[{"path":"/run/f","type":"p","major":-1,"minor":-1}]"#).unwrap();
        let fifo = nodes.last().unwrap();
        assert_eq!((fifo.kind, fifo.major, fifo.minor), (NodeKind::Fifo, 0, 0));
    }
}
