//! Reads config.json, process.json and the document of `update` into oci_spec's types, with one read and one strict parse.
//! Only this directory and `plan/` know oci_spec. Called by `container` (create, exec, update).
//!
//! A document the crate refuses although runc takes it is repaired (`compat`) and parsed once more; what is
//! still refused is reported with file, JSON path and reason on one line (`locate`).

mod compat;
pub(crate) mod known;
mod lists;
mod locate;
mod required;
pub(crate) mod template;
pub(crate) mod validate;
pub(crate) mod validate_sysctl;

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{SELINUX_MAGIC, statfs};
use oci_spec::runtime::{LinuxNamespaceType, LinuxPids, LinuxResources, Process, Spec};
use serde::de::{DeserializeOwned, IgnoredAny};

/// The same of one mount.
pub(crate) use oci_spec::runtime::Mount;
/// A configuration, for those who only hand it on to `plan`.
pub(crate) use oci_spec::runtime::Spec as Config;

use crate::log;
use lists::Document;
use validate::HostFacts;

/// V1: far above every real config (the largest seen are a few hundred KiB), far below what hurts a host.
const SIZE_LIMIT: usize = 64 << 20;
/// Most configs fit the first read: Docker's with its seccomp profile is about 12 KiB.
const SIZE_GUESS: usize = 32 << 10;

/// Loads and validates a configuration, by a path below the current directory (the bundle): what comes back can be
/// planned.
pub(crate) fn load_config(path: &Path) -> Result<Spec> {
    config_of(&read_bounded(path)?, path)
}

/// The same of bytes that were read already; `path` is for messages.
pub(crate) fn config_of(bytes: &[u8], path: &Path) -> Result<Spec> {
    let spec = parse_config(bytes, path)?;
    check_config(
        &spec,
        path,
        host_facts(spec.process().as_ref(), Some(&spec)),
    )?;
    validate::for_linux(&spec).with_context(|| path.display().to_string())?;
    Ok(spec)
}

pub(crate) fn parse_config(bytes: &[u8], path: &Path) -> Result<Spec> {
    let mut spec: Spec = parse(bytes, path, Document::Config, compat::repair_config)?;
    if compat::pids_limit_reads_zero(&spec) {
        compat::unset_absent_pids_limit(&mut spec, bytes);
    }
    let more: required::Config = parse_once(bytes, path)?;
    if more.asks_for_monitoring() {
        compat::enable_monitoring(&mut spec);
    }
    Ok(spec)
}

/// What the specification has against a document, whatever platform it is for.
pub(crate) fn check_config(spec: &Spec, path: &Path, facts: HostFacts) -> Result<()> {
    validate::config(spec, facts).with_context(|| path.display().to_string())
}

/// Loads and validates the process object of `exec --process FILE`.
pub(crate) fn load_process(path: &Path) -> Result<Process> {
    let process = parse_process(&read_bounded(path)?, path)?;
    check_process(&process).with_context(|| path.display().to_string())?;
    Ok(process)
}

pub(crate) fn parse_process(bytes: &[u8], path: &Path) -> Result<Process> {
    let process: Process = parse(bytes, path, Document::Process, compat::repair_process)?;
    parse_once::<required::Process>(bytes, path)?;
    Ok(process)
}

/// Where the document of `update` comes from.
#[derive(Clone, Debug)]
pub(crate) enum ResourcesFrom {
    File(PathBuf),
    Stdin,
    /// Made from flags.
    Flags(serde_json::Value),
}

/// Loads what `update` is to change: an object as `linux.resources`.
pub(crate) fn load_resources(from: &ResourcesFrom) -> Result<LinuxResources> {
    let stdin = Path::new("standard input");
    let (bytes, path) = match from {
        ResourcesFrom::File(path) => (read_bounded(path).context("--resources")?, path.as_path()),
        ResourcesFrom::Stdin => (read_stdin().context("--resources")?, stdin),
        ResourcesFrom::Flags(document) => {
            let bytes = serde_json::to_vec(document).context("write the flags as JSON")?;
            (bytes, Path::new("linux.resources"))
        }
    };
    parse_resources(&bytes, path)
}

pub(crate) fn parse_resources(bytes: &[u8], path: &Path) -> Result<LinuxResources> {
    let mut resources: LinuxResources =
        parse(bytes, path, Document::Resources, compat::repair_resources)?;
    let limit = resources.pids().as_ref().map(LinuxPids::limit);
    if limit == Some(0) && !compat::has_pids_limit(bytes, "/pids/limit") {
        resources.set_pids(None);
    }
    Ok(resources)
}

/// Where the document of `mounts` comes from.
#[derive(Clone, Debug)]
pub(crate) enum MountsFrom {
    File(PathBuf),
    Stdin,
}

/// Loads the mounts that `mounts` adds or removes: an array as `mounts` of config.json, as crun takes it, or an object that has one,
/// such as a whole config.json.
pub(crate) fn load_mounts(from: &MountsFrom) -> Result<Vec<Mount>> {
    let stdin = Path::new("standard input");
    let (bytes, path) = match from {
        MountsFrom::File(path) => (read_bounded(path)?, path.as_path()),
        MountsFrom::Stdin => (read_stdin()?, stdin),
    };
    parse_mounts(&bytes, path)
}

pub(crate) fn parse_mounts(bytes: &[u8], path: &Path) -> Result<Vec<Mount>> {
    let parsed: serde_json::Value =
        serde_json::from_slice(bytes).with_context(|| format!("parse `{}`", path.display()))?;
    let list = match parsed {
        serde_json::Value::Object(mut members) => members.remove("mounts"),
        list => Some(list),
    };
    let Some(list @ serde_json::Value::Array(_)) = list else {
        bail!(
            "{}: mounts: neither an array of mounts nor an object with one",
            path.display()
        )
    };
    // With the repairs, and the paths in messages, of a config.json.
    let whole = serde_json::json!({"ociVersion": "1.0.0", "mounts": list});
    let whole = serde_json::to_vec(&whole).context("write the mounts as JSON")?;
    let spec: Spec = parse(&whole, path, Document::Config, compat::repair_config)?;
    Ok(spec.mounts().clone().unwrap_or_default())
}

fn read_stdin() -> Result<Vec<u8>> {
    let stream = std::io::stdin().as_fd().try_clone_to_owned();
    let stream = stream.context("duplicate standard input")?;
    read_whole(stream.into(), Path::new("standard input"))
}

/// The rules for a process object that was put together from the stored one and the flags of `exec`.
pub(crate) fn check_process(process: &Process) -> Result<()> {
    validate::process::check(process, "", host_facts(Some(process), None))
}

/// What `validate` may know of this machine. Probed only where the document asks for it: most ask for nothing.
fn host_facts(process: Option<&Process>, spec: Option<&Spec>) -> HostFacts {
    let asks = |label: &Option<String>| label.as_ref().is_some_and(|label| !label.is_empty());
    let mount_label = spec
        .and_then(|spec| spec.linux().as_ref())
        .is_some_and(|linux| asks(linux.mount_label()));
    let selinux_label = process.is_some_and(|process| asks(process.selinux_label()));
    HostFacts {
        apparmor: process.is_some_and(|process| asks(process.apparmor_profile()))
            && apparmor_enabled(),
        selinux: (mount_label || selinux_label) && selinux_enabled(),
        joined_network_is_own: spec.is_some_and(joins_own_network),
    }
}

fn apparmor_enabled() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|content| content.starts_with(b"Y"))
}

/// The kernel offers selinuxfs only while SELinux is on.
fn selinux_enabled() -> bool {
    statfs("/sys/fs/selinux").is_ok_and(|found| found.filesystem_type() == SELINUX_MAGIC)
}

/// A sysctl written after joining our own network namespace by path would change the host.
/// True also when the two can not be compared: then nothing is allowed.
fn joins_own_network(spec: &Spec) -> bool {
    let Some(linux) = spec.linux() else {
        return false;
    };
    let has_sysctl = linux.sysctl().as_ref().is_some_and(|map| !map.is_empty());
    let joined: Option<&PathBuf> = linux
        .namespaces()
        .iter()
        .flatten()
        .find(|namespace| namespace.typ() == LinuxNamespaceType::Network)
        .and_then(|namespace| namespace.path().as_ref());
    match joined {
        Some(path) if has_sysctl => {
            let own = nix::sys::stat::stat("/proc/self/ns/net");
            let given = nix::sys::stat::stat(path);
            match (own, given) {
                (Ok(own), Ok(given)) => (own.st_dev, own.st_ino) == (given.st_dev, given.st_ino),
                _ => true,
            }
        }
        _ => false,
    }
}

/// The bytes of a document, at most as many as one may have.
pub(crate) fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let operation = || format!("open `{}`", path.display());
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let fd = openat(AT_FDCWD, path, flags, Mode::empty()).with_context(operation)?;
    read_whole(std::fs::File::from(fd), path)
}

fn read_whole(mut file: std::fs::File, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = vec![0; SIZE_GUESS];
    let mut filled = 0;
    // Not `read_to_end`: it asks for size and offset first. Until a read says 0, so that a pipe works too.
    loop {
        let read = file
            .read(&mut bytes[filled..])
            .with_context(|| format!("read `{}`", path.display()))?;
        filled += read;
        if read == 0 {
            break;
        }
        if filled == bytes.len() {
            if filled >= SIZE_LIMIT {
                bail!("`{}` is larger than {SIZE_LIMIT} bytes", path.display());
            }
            bytes.resize((filled * 4).min(SIZE_LIMIT), 0);
        }
    }
    bytes.truncate(filled);
    // What was only guessed is taken next.
    bytes.shrink_to_fit();
    Ok(bytes)
}

type Repair = fn(&mut serde_json::Value) -> Vec<String>;

fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    path: &Path,
    document: Document,
    repair: Repair,
) -> Result<T> {
    let parsed = parse_repaired(bytes, path, repair);
    // The scan needs what is JSON. serde's words for such a list name types of its own.
    let is_json = parsed.is_ok() || serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
    let misplaced = is_json.then(|| lists::misplaced(bytes, document)).flatten();
    if let Some(at) = misplaced {
        let place = if at.is_empty() { at } else { format!("{at}: ") };
        bail!(
            "{}: {place}invalid type: a list, expected an object",
            path.display()
        );
    }
    parsed
}

fn parse_repaired<T: DeserializeOwned>(bytes: &[u8], path: &Path, repair: Repair) -> Result<T> {
    let strict = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let mut document: serde_json::Value = match serde_json::from_slice(bytes) {
        Ok(document) => document,
        // Not JSON at all: the position says more than a path.
        Err(error) => return Err(anyhow!("{error}").context(format!("parse `{}`", path.display()))),
    };
    for warning in repair(&mut document) {
        log::warn(format_args!("{}: {warning}", path.display()));
    }
    let repaired = serde_json::to_vec(&document).unwrap_or_default();
    serde_json::from_slice(&repaired).map_err(|error| {
        // A fault the repair did not touch is where the strict parse found it, in the user's own text.
        let (text, error) = if locate::reason(&error) == locate::reason(&strict) {
            (bytes, strict)
        } else {
            (repaired.as_slice(), error)
        };
        refused(text, path, &error)
    })
}

/// Of a text that the strict parse has taken already.
fn parse_once<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| refused(bytes, path, &error))
}

fn refused(text: &[u8], path: &Path, error: &serde_json::Error) -> anyhow::Error {
    let at = locate::path_of(text, error.line(), error.column());
    let place = if at.is_empty() {
        String::new()
    } else {
        format!("{at}: ")
    };
    anyhow!("{}: {place}{}", path.display(), locate::reason(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Spec> {
        parse(
            text.as_bytes(),
            Path::new("config.json"),
            Document::Config,
            compat::repair_config,
        )
    }

    fn refusal(text: &str) -> String {
        format!("{:#}", load(text).unwrap_err())
    }

    #[test]
    fn a_wrong_type_is_reported_with_its_path() {
        let text =
            refusal(r#"{"ociVersion":"1.0.0","process":{"user":{},"cwd":"/","args":["sh",7]}}"#);
        assert!(
            text.starts_with("config.json: process.args[1]: invalid type"),
            "{text}"
        );
        assert!(!text.contains('\n'));
    }

    #[test]
    fn an_unknown_variant_is_reported_with_its_path() {
        let text = refusal(
            "{\n \"linux\": {\n \"namespaces\": [\n {\"type\": \"pid\"},\n {\"type\": \"bogus\"}\n]}}",
        );
        assert!(
            text.starts_with("config.json: linux.namespaces[1].type: unknown variant `bogus`"),
            "{text}"
        );
    }

    #[test]
    fn a_missing_field_is_reported_with_its_object() {
        let text = refusal(r#"{"process":{"user":{},"args":["sh"]}, "hostname":"h"}"#);
        assert_eq!(text, "config.json: process: missing field `cwd`");
    }

    #[test]
    fn a_number_out_of_range_is_refused_not_wrapped() {
        let text = refusal(r#"{"process":{"cwd":"/","user":{"uid":4294967296}}}"#);
        assert!(
            text.starts_with("config.json: process.user.uid: invalid value"),
            "{text}"
        );
        let text = refusal(r#"{"process":{"cwd":"/","user":{"uid":-1}}}"#);
        assert!(
            text.starts_with("config.json: process.user.uid: invalid value"),
            "{text}"
        );
    }

    #[test]
    fn what_is_not_json_is_reported_with_line_and_column() {
        let text = refusal("{\"ociVersion\": }");
        assert!(
            text.contains("parse `config.json`") && text.contains("line 1"),
            "{text}"
        );
        let deep = "[".repeat(100_000);
        assert!(refusal(&format!("{{\"x\":{deep}")).contains("recursion limit"));
    }

    #[test]
    fn a_file_over_the_limit_is_refused_and_one_of_odd_size_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big");
        let content: Vec<u8> = (0..=250).cycle().take(SIZE_GUESS * 3 + 17).collect();
        std::io::Write::write_all(&mut std::fs::File::create_new(&path).unwrap(), &content)
            .unwrap();
        assert_eq!(read_bounded(&path).unwrap(), content);
        let huge = std::fs::File::options().write(true).open(&path).unwrap();
        huge.set_len(SIZE_LIMIT as u64 + 1).unwrap();
        let text = format!("{:#}", read_bounded(&path).unwrap_err());
        assert!(text.contains("larger than"), "{text}");
    }
}
