//! Whether this host has what a plan needs: files, programs, namespaces, rights. Only looks. Called by the parent module.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use super::{Finding, Level};
use crate::fs::inroot::{self, Links};
use crate::plan::Plan;
use crate::plan::hooks::Hook;
use crate::plan::host::Host;
use crate::plan::landlock::Absence;
use crate::plan::mounts::MountKind;
use crate::plan::namespaces::Kind;
use crate::seccomp;

/// Bit of CAP_SYS_RESOURCE.
const SYS_RESOURCE: u64 = 1 << 24;

pub(super) fn look(plan: &Plan, host: &Host, findings: &mut Vec<Finding>) {
    namespaces(plan, findings);
    mounts(plan, findings);
    match openat(
        AT_FDCWD,
        &plan.rootfs.root,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    ) {
        Ok(root) if plan.rootfs.overlay.is_none() => {
            program(plan, &root, findings);
            paths(plan, &root, findings);
            landlock(plan, &root, findings);
        }
        Ok(_) => {}
        Err(errno) => findings.push(Finding::new(
            Level::Error,
            "root.path",
            format_args!(
                "`{}` is no directory that can be opened: {}",
                plan.rootfs.root.display(),
                errno.desc().to_lowercase()
            ),
        )),
    }
    hooks(plan, findings);
    rights(plan, host, findings);
    calls(plan, findings);
    if plan.rdt.is_some() && !Path::new("/sys/fs/resctrl/schemata").exists() {
        findings.push(Finding::new(
            Level::Error,
            "linux.intelRdt",
            "no resctrl file system is mounted at /sys/fs/resctrl",
        ));
    }
    for device in &plan.net_devices {
        if !Path::new("/sys/class/net").join(&device.name).exists() {
            let field = format!("linux.netDevices[{:?}]", device.name);
            findings.push(Finding::new(
                Level::Error,
                field,
                "this network namespace has no such device",
            ));
        }
    }
}

fn namespaces(plan: &Plan, findings: &mut Vec<Finding>) {
    for kind in Kind::ALL {
        if plan.namespaces.makes(kind) && !Path::new("/proc/self/ns").join(kind.file()).exists() {
            let words = format!("this kernel has no {} namespaces", kind.name());
            findings.push(Finding::new(Level::Error, "linux.namespaces", words));
        }
    }
    if plan.namespaces.makes(Kind::User) {
        let most = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
        if most.trim() == "0" {
            findings.push(
                Finding::new(
                    Level::Error,
                    "linux.namespaces",
                    "this host allows no user namespaces",
                )
                .hint("sysctl user.max_user_namespaces=10000"),
            );
        }
    }
    for join in &plan.namespaces.join {
        if let Err(error) = fs::metadata(&join.path) {
            let field = format!("linux.namespaces[{}].path", join.index);
            findings.push(Finding::new(
                Level::Error,
                field,
                format_args!("`{}`: {}", join.path.display(), plain(&error)),
            ));
        }
    }
}

fn mounts(plan: &Plan, findings: &mut Vec<Finding>) {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let known = |name: &str| {
        known
            .lines()
            .any(|line| line.split_whitespace().last() == Some(name))
    };
    for op in &plan.rootfs.mounts {
        match &op.kind {
            MountKind::Bind { source, .. } => {
                if let Err(error) = fs::metadata(source) {
                    let field = format!("mounts[{}].source", op.index);
                    findings.push(Finding::new(
                        Level::Error,
                        field,
                        format_args!("`{}`: {}", source.display(), plain(&error)),
                    ));
                }
            }
            MountKind::Fs(fs) if !known(&fs.fstype) => {
                let field = format!("mounts[{}].type", op.index);
                findings.push(
                    Finding::new(
                        Level::Warning,
                        field,
                        format_args!(
                            "this kernel does not have the file system `{}` now",
                            fs.fstype
                        ),
                    )
                    .hint("a module that is loaded on demand may bring it"),
                );
            }
            _ => {}
        }
    }
}

/// Whether something is mounted at `path` or above it.
fn is_covered(plan: &Plan, path: &Path) -> bool {
    plan.rootfs
        .mounts
        .iter()
        .any(|op| path.starts_with(&op.destination))
}

fn exists(root: &OwnedFd, path: &Path) -> bool {
    inroot::open(root.as_fd(), path, OFlag::O_PATH, Links::Follow).is_ok()
}

/// `process.args[0]`, as far as the root file system tells: what mounts will bring is not there yet.
fn program(plan: &Plan, root: &OwnedFd, findings: &mut Vec<Finding>) {
    let name = plan.process.args[0].as_str();
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![Path::new(&plan.process.cwd).join(name)]
    } else {
        let path = plan
            .process
            .env
            .iter()
            .rev()
            .find_map(|variable| variable.strip_prefix("PATH="));
        path.unwrap_or_default()
            .split(':')
            .filter(|dir| !dir.is_empty())
            .map(|dir| Path::new(dir).join(name))
            .collect()
    };
    if !candidates
        .iter()
        .any(|path| is_covered(plan, path) || exists(root, path))
    {
        let field = "process.args[0]";
        let finding = Finding::new(
            Level::Error,
            field,
            format_args!("`{name}` is not in the root file system"),
        );
        findings.push(if name.contains('/') {
            finding
        } else {
            finding.hint("it is looked for along PATH of process.env")
        });
    }
    let cwd = Path::new(&plan.process.cwd);
    if !is_covered(plan, cwd) && !exists(root, cwd) {
        let words = format!(
            "`{}` is not in the root file system and will be made there",
            cwd.display()
        );
        findings.push(Finding::new(Level::Note, "process.cwd", words));
    }
}

/// Paths of Landlock rules that the step would refuse.
fn landlock(plan: &Plan, root: &OwnedFd, findings: &mut Vec<Finding>) {
    for rule in plan.landlock.iter().flat_map(|rules| &rules.paths) {
        let path = Path::new(&rule.path);
        let made = path.starts_with("/dev") || is_covered(plan, path);
        if rule.absence == Absence::Refused && !made && !exists(root, path) {
            let words = format!("`{}` is not in the root file system", rule.path);
            findings.push(
                Finding::new(Level::Error, rule.field(), words)
                    .hint("written -PATH it is left out where it is missing"),
            );
        }
    }
}

/// Masks and read-only paths of what is not there protect nothing.
fn paths(plan: &Plan, root: &OwnedFd, findings: &mut Vec<Finding>) {
    let lists = [
        ("linux.maskedPaths", &plan.rootfs.masked),
        ("linux.readonlyPaths", &plan.rootfs.read_only),
    ];
    for (field, list) in lists {
        for (index, path) in list.iter().enumerate() {
            // The container's /proc and /sys are those of this kernel.
            let of_kernel = ["/proc", "/sys"].iter().any(|top| path.starts_with(top));
            let there = if of_kernel {
                path.exists()
            } else {
                is_covered(plan, path) || exists(root, path)
            };
            if !there {
                let words = format!(
                    "`{}` does not exist here, so there is nothing to protect",
                    path.display()
                );
                findings.push(Finding::new(
                    Level::Note,
                    format!("{field}[{index}]"),
                    words,
                ));
            }
        }
    }
}

fn hooks(plan: &Plan, findings: &mut Vec<Finding>) {
    let lists: [(&str, &Vec<Hook>); 5] = [
        ("prestart", &plan.hooks.prestart),
        ("createRuntime", &plan.hooks.create_runtime),
        ("createContainer", &plan.hooks.create_container),
        ("poststart", &plan.hooks.poststart),
        ("poststop", &plan.hooks.poststop),
    ];
    for (kind, list) in lists {
        for (index, hook) in list.iter().enumerate() {
            let problem = match fs::metadata(&hook.path) {
                Err(error) => plain(&error),
                Ok(file) if !file.is_file() || file.permissions().mode() & 0o111 == 0 => {
                    "is no file that can be executed".to_owned()
                }
                Ok(_) => continue,
            };
            let field = format!("hooks.{kind}[{index}].path");
            findings.push(Finding::new(
                Level::Error,
                field,
                format_args!("`{}`: {problem}", hook.path),
            ));
        }
    }
}

/// What needs CAP_SYS_RESOURCE on the host.
fn rights(plan: &Plan, host: &Host, findings: &mut Vec<Finding>) {
    if host.permitted & SYS_RESOURCE != 0 {
        return;
    }
    let text = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    for (index, limit) in plan.process.rlimits.iter().enumerate() {
        if hard_limit(&text, &limit.name).is_some_and(|own| limit.hard > own) {
            let words = format!(
                "{} {} is above the runtime's own, which only CAP_SYS_RESOURCE may raise",
                limit.name, limit.hard
            );
            findings.push(Finding::new(
                Level::Error,
                format!("process.rlimits[{index}].hard"),
                words,
            ));
        }
    }
    let own = fs::read_to_string("/proc/self/oom_score_adj")
        .ok()
        .and_then(|text| text.trim().parse::<i32>().ok());
    if let (Some(wanted), Some(own)) = (plan.process.oom_score_adj, own)
        && wanted < own
    {
        let words = format!(
            "{wanted} is below the runtime's own {own}, which only CAP_SYS_RESOURCE may lower"
        );
        findings.push(Finding::new(Level::Error, "process.oomScoreAdj", words));
    }
}

/// The third column of /proc/PID/limits.
fn hard_limit(text: &str, name: &str) -> Option<u64> {
    let (_, label) = LIMITS.iter().find(|(rlimit, _)| *rlimit == name)?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(label))?
        .split_whitespace()
        .nth(1)?
        .to_owned();
    if value == "unlimited" {
        Some(u64::MAX)
    } else {
        value.parse().ok()
    }
}

const LIMITS: [(&str, &str); 16] = [
    ("RLIMIT_CPU", "Max cpu time"),
    ("RLIMIT_FSIZE", "Max file size"),
    ("RLIMIT_DATA", "Max data size"),
    ("RLIMIT_STACK", "Max stack size"),
    ("RLIMIT_CORE", "Max core file size"),
    ("RLIMIT_RSS", "Max resident set"),
    ("RLIMIT_NPROC", "Max processes"),
    ("RLIMIT_NOFILE", "Max open files"),
    ("RLIMIT_MEMLOCK", "Max locked memory"),
    ("RLIMIT_AS", "Max address space"),
    ("RLIMIT_LOCKS", "Max file locks"),
    ("RLIMIT_SIGPENDING", "Max pending signals"),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size"),
    ("RLIMIT_NICE", "Max nice priority"),
    ("RLIMIT_RTPRIO", "Max realtime priority"),
    ("RLIMIT_RTTIME", "Max realtime timeout"),
];

/// System calls that rundlet or this kernel does not know.
fn calls(plan: &Plan, findings: &mut Vec<Finding>) {
    let Some(profile) = &plan.seccomp else {
        return;
    };
    let uncertain = seccomp::uncertain_calls(profile);
    for (position, name) in uncertain.unknown {
        let field = format!("linux.seccomp.syscalls[{position}].names");
        findings.push(Finding::new(
            Level::Warning,
            field,
            format_args!("no architecture has a system call `{name}`: it is skipped"),
        ));
    }
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let prefix = if cfg!(target_arch = "aarch64") {
        "__arm64_sys_"
    } else {
        "__x64_sys_"
    };
    let known: std::collections::HashSet<&str> = symbols
        .split_whitespace()
        .filter_map(|word| word.strip_prefix(prefix))
        .collect();
    if known.is_empty() {
        return;
    }
    for (position, name) in uncertain.new {
        if !known.contains(name) {
            let field = format!("linux.seccomp.syscalls[{position}].names");
            findings.push(Finding::new(
                Level::Note,
                field,
                format_args!("this kernel does not have the system call `{name}`"),
            ));
        }
    }
}

/// The kernel's words, as everywhere.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_lowercase()
}
