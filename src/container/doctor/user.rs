//! What the caller may do: rights, user namespaces, ids, the state root, CRIU. Called by the parent module.

use std::path::Path;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{AccessFlags, access};

use super::{Area, Context, text};
use crate::plan::host::{Host, in_initial_user_namespace};
use crate::plan::process::names;

/// What a runtime of root's needs, by bit: without one of these there are containers that cannot be made.
const NEEDED: [(u32, &str); 9] = [
    (0, "CAP_CHOWN"),
    (5, "CAP_KILL"),
    (6, "CAP_SETGID"),
    (7, "CAP_SETUID"),
    (8, "CAP_SETPCAP"),
    (12, "CAP_NET_ADMIN"),
    (18, "CAP_SYS_CHROOT"),
    (21, "CAP_SYS_ADMIN"),
    (27, "CAP_MKNOD"),
];
const SYS_ADMIN: u64 = 1 << 21;
const SYS_RESOURCE: u64 = 1 << 24;

pub(super) fn look(context: &Context, area: &mut Area<'_>) {
    let Ok(host) = Host::probe() else {
        area.broken(
            "process",
            "/proc/self/status cannot be read",
            "mount -t proc proc /proc",
        );
        return;
    };
    if host.is_unprivileged() {
        user_namespaces(area);
        ranges(area);
    } else {
        rights(&host, area);
    }
    state_root(context, area);
    match crate::criu::Criu::find() {
        Ok(_) => area.ok("criu", "found"),
        Err(_) => area.limited(
            "criu",
            "not found",
            "install criu for checkpoint and restore",
        ),
    }
}

fn rights(host: &Host, area: &mut Area<'_>) {
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(bit, _)| host.permitted & 1 << bit == 0)
        .map(|(_, name)| *name)
        .collect();
    if !in_initial_user_namespace() {
        area.limited(
            "root",
            "of a user namespace",
            "devices are bound, not made; limits need a delegated cgroup",
        );
    } else if host.permitted & SYS_ADMIN == 0 {
        area.broken(
            "root",
            format!("without {}", missing.join(", ")),
            "run as root of the host, or as a user with a user namespace",
        );
    } else if missing.is_empty() {
        area.ok(
            "root",
            format!("{} capabilities", names(host.permitted).split(", ").count()),
        );
    } else {
        area.limited(
            "root",
            format!("without {}", missing.join(", ")),
            "give them to the engine's unit or container",
        );
    }
    if host.permitted & SYS_RESOURCE == 0 {
        let fix = "process.rlimits above the runtime's own and a lower oomScoreAdj are refused; give CAP_SYS_RESOURCE";
        area.limited("limits", "without CAP_SYS_RESOURCE", fix);
    }
}

fn user_namespaces(area: &mut Area<'_>) {
    let most = text("/proc/sys/user/max_user_namespaces");
    let cloned = text("/proc/sys/kernel/unprivileged_userns_clone");
    let confined = text("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
    if most == "0" || most.is_empty() {
        area.broken(
            "user namespaces",
            "none allowed",
            "sysctl user.max_user_namespaces=10000",
        );
    } else if cloned == "0" {
        area.broken(
            "user namespaces",
            "not for users",
            "sysctl kernel.unprivileged_userns_clone=1",
        );
    } else if confined == "1" {
        area.limited(
            "user namespaces",
            "confined by AppArmor",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or a profile for rundlet",
        );
    } else {
        area.ok("user namespaces", format!("at most {most}"));
    }
}

/// More ids than the own one.
fn ranges(area: &mut Area<'_>) {
    let helpers = ["/usr/bin/newuidmap", "/usr/bin/newgidmap"]
        .iter()
        .all(|path| Path::new(path).exists());
    if !helpers {
        area.limited(
            "ids",
            "no newuidmap and newgidmap",
            "install the package uidmap (or shadow-utils): without it a container has one id",
        );
        return;
    }
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid)
        .ok()
        .flatten()
        .map(|user| user.name)
        .unwrap_or_default();
    let granted = |file: &str| {
        text(file)
            .lines()
            .filter_map(|line| {
                let mut parts = line.split(':');
                let owner = parts.next()?;
                let count = parts.nth(1)?.parse::<u64>().ok()?;
                (owner == user || owner == uid.to_string()).then_some(count)
            })
            .sum::<u64>()
    };
    let (uids, gids) = (granted("/etc/subuid"), granted("/etc/subgid"));
    if uids >= 65_536 && gids >= 65_536 {
        area.ok("ids", format!("{uids} users, {gids} groups"));
    } else {
        let fix = "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER";
        area.limited(
            "ids",
            format!("{uids} users, {gids} groups in /etc/subuid and /etc/subgid"),
            fix,
        );
    }
}

fn state_root(context: &Context, area: &mut Area<'_>) {
    let root = &context.root;
    let existing = root
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    if !existing.is_dir() || access(existing, AccessFlags::W_OK).is_err() {
        area.broken(
            "state root",
            format!(
                "`{}` is no directory that can be written",
                existing.display()
            ),
            "--root DIR, or for a user $XDG_RUNTIME_DIR",
        );
        return;
    }
    let on_tmpfs = statfs(existing).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC);
    if on_tmpfs {
        area.ok("state root", format!("`{}`, on a tmpfs", root.display()));
    } else {
        let fix = "a tmpfs is faster, and is empty after a reboot as the containers are gone";
        area.limited(
            "state root",
            format!("`{}` is not on a tmpfs", root.display()),
            fix,
        );
    }
}
