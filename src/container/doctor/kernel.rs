//! What the running kernel has: its age, namespaces, seccomp, security modules, file systems. Called by the parent module.

use std::path::Path;

use super::{Area, Context, text};
use crate::plan::namespaces::Kind;
use crate::sys;

/// Oldest kernel with every call that safety rests on (mount_setattr of 5.12).
const OLDEST: (u32, u32) = (5, 12);
/// Newest thing that is of use where it is there: overlay layers as descriptors.
const BEST: (u32, u32) = (6, 15);

pub(super) fn look(_: &Context, area: &mut Area<'_>) {
    age(area);
    let missing: Vec<&str> = Kind::ALL
        .into_iter()
        .filter(|kind| !Path::new("/proc/self/ns").join(kind.file()).exists())
        .map(Kind::name)
        .collect();
    if missing.is_empty() {
        area.ok("namespaces", "all eight kinds");
    } else {
        let fix = "a kernel that was built with them (CONFIG_*_NS), or containers that do not ask for them";
        area.limited(
            "namespaces",
            format!("none of kind {}", missing.join(", ")),
            fix,
        );
    }
    seccomp(area);
    modules(area);
    landlock(area);
    let systems = text("/proc/filesystems");
    let has = |name: &str| {
        systems
            .lines()
            .any(|line| line.split_whitespace().last() == Some(name))
    };
    if has("overlay") {
        area.ok("overlay", "there");
    } else {
        area.limited(
            "overlay",
            "not in /proc/filesystems",
            "modprobe overlay; engines and --overlay use it",
        );
    }
    if has("mqueue") {
        area.ok("mqueue", "there");
    } else {
        let fix = "CONFIG_POSIX_MQUEUE, or bundles without the mount of /dev/mqueue: the default one has it";
        area.limited("mqueue", "not in /proc/filesystems", fix);
    }
}

fn age(area: &mut Area<'_>) {
    let release = text("/proc/sys/kernel/osrelease");
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < OLDEST {
        area.broken(
            "version",
            release,
            "Linux 5.12 or newer: older ones lack calls that rundlet's safety rests on",
        );
    } else if version < BEST {
        area.limited(
            "version",
            release,
            "all works; --overlay on long lists of layers is better from Linux 6.15 on",
        );
    } else {
        area.ok("version", release);
    }
}

fn seccomp(area: &mut Area<'_>) {
    let actions = text("/proc/sys/kernel/seccomp/actions_avail");
    if actions.is_empty() {
        area.limited(
            "seccomp",
            "not in this kernel",
            "CONFIG_SECCOMP_FILTER; engines give every container a filter",
        );
    } else {
        area.ok("seccomp", actions);
    }
}

/// Labels that engines ask for are errors where the module is off.
fn modules(area: &mut Area<'_>) {
    let modules = text("/sys/kernel/security/lsm");
    let apparmor = text("/sys/module/apparmor/parameters/enabled").starts_with('Y');
    let selinux = Path::new("/sys/fs/selinux/enforce").exists();
    match (apparmor, selinux) {
        (true, _) => area.ok("security modules", format!("AppArmor ({modules})")),
        (_, true) => area.ok("security modules", format!("SELinux ({modules})")),
        _ => {
            let fix =
                "boot with security=apparmor or selinux=1 if containers are to be confined by one";
            let seen = if modules.is_empty() {
                "neither AppArmor nor SELinux".to_owned()
            } else {
                format!("neither AppArmor nor SELinux ({modules})")
            };
            area.limited("security modules", seen, fix);
        }
    }
}

/// For the annotations `org.rundlet.landlock.*`: all of them want version 6.
fn landlock(area: &mut Area<'_>) {
    match sys::landlock::version() {
        Ok(version @ 6..) => area.ok("Landlock", format!("version {version}")),
        Ok(version) => area.limited(
            "Landlock",
            format!("version {version}"),
            "Linux 6.12 or newer for all of org.rundlet.landlock.*; org.rundlet.landlock.compat=best-effort goes without the rest",
        ),
        Err(_) => area.limited(
            "Landlock",
            "not in this kernel, or not in its lsm= list",
            "CONFIG_SECURITY_LANDLOCK and lsm=landlock,... if containers are to have org.rundlet.landlock.* annotations",
        ),
    }
}
