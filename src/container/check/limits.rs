//! Whether the host's cgroups can carry out `linux.resources`: the controllers, and what only one version of cgroups has. Only
//! looks. Called by the parent module.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::{Context, Finding, Level};
use crate::cgroup::detect::Layout;
use crate::cgroup::{Cgroup, Denied, Driver};
use crate::error;
use crate::plan::Plan;
use crate::plan::resources::{BlockIo, Resources};

/// Deprecated fields that no kernel has anything for; the specification says to ignore them.
const OF_NONE: [(&str, &str); 3] = [
    ("/memory/kernel", "memory.kernel"),
    ("/memory/kernelTCP", "memory.kernelTCP"),
    ("/memory/useHierarchy", "memory.useHierarchy"),
];

pub(super) fn look(plan: &Plan, document: &Value, context: &Context, findings: &mut Vec<Finding>) {
    let resources = &plan.resources;
    let given = &document["linux"]["resources"];
    let layout = match Layout::detect() {
        Ok(layout) => layout,
        Err(error) => {
            findings.push(Finding::told(error::report(&error)));
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
    let planned = Cgroup::plan(&layout, driver, path, &plan.state.id, Denied::Fail)
        .and_then(|cgroup| cgroup.preview(resources));
    if let Err(error) = planned {
        findings.push(Finding::told(error::report(&error)));
    }
    let unified = matches!(layout, Layout::Unified { .. });
    for (pointer, name) in OF_NONE {
        if given.pointer(pointer).is_some_and(|value| !value.is_null()) {
            let field = format!("linux.resources.{name}");
            findings.push(Finding::new(
                Level::Warning,
                field,
                "no supported kernel has it: it is ignored",
            ));
        }
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
