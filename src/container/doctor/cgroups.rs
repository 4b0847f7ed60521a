//! Which limits can be carried out here, and by which driver. Called by the parent module.

use std::fs;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::{Area, Context};
use crate::cgroup::detect::{Layout, own_unified};

/// What engines and bundles commonly limit.
const COMMON: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

pub(super) fn look(_: &Context, area: &mut Area<'_>) {
    match Layout::detect() {
        Err(error) => area.broken(
            "hierarchy",
            crate::error::chain(&error),
            "mount -t cgroup2 none /sys/fs/cgroup",
        ),
        Ok(Layout::Unified { mount }) => unified(&mount, area),
        Ok(Layout::Legacy { hierarchies }) => {
            let names: Vec<String> = hierarchies
                .iter()
                .flat_map(|one| one.controllers.clone())
                .filter(|name| !name.is_empty())
                .collect();
            area.limited(
                "hierarchy",
                format!("cgroup v1: {}", names.join(", ")),
                "cgroup v2 alone (systemd.unified_cgroup_hierarchy=1): v1 knows no delegation, no rootless limits, no systemd driver here",
            );
            common(&names, area);
        }
    }
    let systemd = Path::new("/run/systemd/system").is_dir();
    if systemd {
        area.ok("systemd", "running: --systemd-cgroup can be used");
    } else {
        area.limited(
            "systemd",
            "not running",
            "engines must use the cgroupfs driver on this host",
        );
    }
}

fn unified(mount: &Path, area: &mut Area<'_>) {
    area.ok("hierarchy", "cgroup v2 alone");
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let offered: Vec<String> = read(&mount.join("cgroup.controllers"))
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    common(&offered, area);
    if nix::unistd::geteuid().is_root() {
        return;
    }
    // A user gets limits only in a cgroup that belongs to the user.
    let own = own_unified()
        .map(|path| mount.join(path))
        .unwrap_or_default();
    let passed = read(&own.join("cgroup.controllers"));
    if access(&own, AccessFlags::W_OK).is_ok()
        && access(&own.join("cgroup.procs"), AccessFlags::W_OK).is_ok()
    {
        area.ok(
            "delegation",
            format!("`{}` is yours, with {}", own.display(), passed.trim()),
        );
    } else {
        let seen = format!("`{}` does not belong to you", own.display());
        area.limited(
            "delegation",
            seen,
            "systemd-run --user --scope rundlet ...; without it containers have no limits",
        );
    }
}

fn common(offered: &[String], area: &mut Area<'_>) {
    let missing: Vec<&str> = COMMON
        .into_iter()
        .filter(|name| !offered.iter().any(|one| one == name))
        .collect();
    if missing.is_empty() {
        area.ok("controllers", offered.join(" "));
    } else {
        let fix = "cgroup_enable=memory on the kernel's command line; on a hybrid host they are in the other version";
        area.limited(
            "controllers",
            format!("none for {}", missing.join(", ")),
            fix,
        );
    }
}
