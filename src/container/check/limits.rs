//! Whether the host's cgroups can carry out `linux.resources`: the controllers, and what only one version of cgroups has. Only
//! looks. Called by the parent module.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::{Context, Finding, Level};
use crate::cgroup::detect::Layout;
use crate::cgroup::{Cgroup, Denied, Driver};
use crate::plan::Plan;
use crate::plan::resources::{BlockIo, Resources};

/// Fields that cgroup v2 has nothing for: rundlet refuses those that would protect, and carries out none.
const OF_V1: [(&str, &str); 10] = [
    ("/memory/swappiness", "memory.swappiness"),
    ("/memory/disableOOMKiller", "memory.disableOOMKiller"),
    ("/memory/kernelTCP", "memory.kernelTCP"),
    ("/memory/kernel", "memory.kernel"),
    ("/cpu/realtimeRuntime", "cpu.realtimeRuntime"),
    ("/cpu/realtimePeriod", "cpu.realtimePeriod"),
    ("/blockIO/leafWeight", "blockIO.leafWeight"),
    ("/network/classID", "network.classID"),
    ("/network/priorities", "network.priorities"),
    ("/memory/useHierarchy", "memory.useHierarchy"),
];

/// Deprecated or without effect on v1 as well.
const OF_NONE: [&str; 2] = ["/memory/kernel", "/memory/useHierarchy"];

pub(super) fn look(plan: &Plan, document: &Value, context: &Context, findings: &mut Vec<Finding>) {
    let resources = &plan.resources;
    let given = &document["linux"]["resources"];
    let layout = match Layout::detect() {
        Ok(layout) => layout,
        Err(error) => {
            let message = crate::error::report(&error).message;
            findings.push(Finding {
                level: Level::Error,
                field: None,
                message,
                hint: None,
            });
            return;
        }
    };
    let driver = if context.systemd_cgroup {
        Driver::Systemd {
            annotations: &plan.state.annotations,
        }
    } else {
        Driver::Cgroupfs
    };
    let path = plan.cgroups_path.as_deref();
    if let Err(error) = Cgroup::plan(&layout, driver, path, &plan.state.id, Denied::Fail) {
        let told = crate::error::report(&error);
        findings.push(Finding {
            level: Level::Error,
            field: told.field,
            message: told.message,
            hint: told.hint,
        });
    }
    let unified = matches!(layout, Layout::Unified { .. });
    for (pointer, name) in OF_V1 {
        let set = given
            .pointer(pointer)
            .is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false)));
        if set && (unified || OF_NONE.contains(&pointer)) {
            let words = if unified {
                "cgroup v2 has nothing for it"
            } else {
                "the kernel has nothing for it any more"
            };
            findings.push(Finding::new(
                Level::Warning,
                format!("linux.resources.{name}"),
                words,
            ));
        }
    }
    if !resources.unified.is_empty() && !unified {
        findings.push(Finding::new(
            Level::Error,
            "linux.resources.unified",
            "this host has cgroup v1 hierarchies, unified is for cgroup v2 alone",
        ));
    }
    let offered = offered(&layout);
    for (controller, field) in needed(resources, unified) {
        if !offered.contains(controller) {
            let version = if unified { "v2" } else { "v1" };
            findings.push(
                Finding::new(Level::Error, field, format_args!("the {controller} controller is not available in cgroup {version} on this host"))
                    .hint("see /proc/cgroups; a hybrid host has each controller in one version alone"),
            );
        }
    }
}

fn offered(layout: &Layout) -> BTreeSet<String> {
    match layout {
        Layout::Unified { mount } => fs::read_to_string(mount.join("cgroup.controllers"))
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        Layout::Legacy { hierarchies } => hierarchies
            .iter()
            .flat_map(|hierarchy| hierarchy.controllers.clone())
            .collect(),
    }
}

/// Controllers and the field that asks for each.
fn needed(resources: &Resources, unified: bool) -> Vec<(&'static str, &'static str)> {
    let Resources {
        cpu,
        memory,
        pids,
        block_io,
        hugepages,
        network,
        rdma,
        ..
    } = resources;
    let set = [
        (
            memory.limit.is_some() || memory.swap.is_some() || memory.reservation.is_some(),
            "memory",
            "linux.resources.memory",
        ),
        (
            cpu.shares.is_some()
                || cpu.quota.is_some()
                || cpu.period.is_some()
                || cpu.burst.is_some()
                || cpu.idle.is_some(),
            "cpu",
            "linux.resources.cpu",
        ),
        (
            cpu.cpus.is_some() || cpu.mems.is_some(),
            "cpuset",
            "linux.resources.cpu",
        ),
        (pids.is_some(), "pids", "linux.resources.pids"),
        (
            *block_io != BlockIo::default(),
            if unified { "io" } else { "blkio" },
            "linux.resources.blockIO",
        ),
        (
            !hugepages.is_empty(),
            "hugetlb",
            "linux.resources.hugepageLimits",
        ),
        (!rdma.is_empty(), "rdma", "linux.resources.rdma"),
        (
            !unified && network.class_id.is_some(),
            "net_cls",
            "linux.resources.network.classID",
        ),
        (
            !unified && !network.priorities.is_empty(),
            "net_prio",
            "linux.resources.network.priorities",
        ),
    ];
    set.into_iter()
        .filter(|(asked, ..)| *asked)
        .map(|(_, controller, field)| (controller, field))
        .collect()
}
