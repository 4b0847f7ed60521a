//! `create --dry-run`: what `create` would do, in the order in which it would, as data. Made of the same plan, by the same steps:
//! a unit test asks each step of `init` for its place here. Nothing is made. Called by `cli`.

mod process;
mod rootfs;

use anyhow::Result;
use serde_json::{Value, json};

use super::launch::Launch;
use super::options::{Context, CreateOptions};
use crate::cgroup::detect::Layout;
use crate::cgroup::{Cgroup, Denied, Driver};
use crate::init::STEPS;
use crate::plan::Plan;
use crate::plan::hooks::Hook;
use crate::plan::namespaces::Kind;

/// One thing that would be done.
pub(crate) struct Action {
    /// A step of the runtime, or of the step table of `init`.
    pub(crate) step: &'static str,
    /// For people.
    pub(crate) text: String,
    /// The same for programs.
    pub(crate) detail: Value,
}

impl Action {
    fn new(step: &'static str, text: impl Into<String>, detail: Value) -> Action {
        Action {
            step,
            text: text.into(),
            detail,
        }
    }
}

/// The whole plan.
pub(crate) fn explain(context: &Context, options: &CreateOptions) -> Result<Vec<Action>> {
    let launch = Launch::prepare(context, options)?;
    let plan = &launch.plan;
    let mut actions = vec![Action::new(
        "state",
        format!(
            "record the container in `{}`",
            context.root.join(&plan.state.id).display()
        ),
        json!({"directory": context.root.join(&plan.state.id)}),
    )];
    actions.extend(cgroup(plan, context)?);
    actions.extend(clone(plan));
    if let Some(filter) = launch.filter() {
        actions.push(Action::new(
            "compile",
            format!(
                "compile linux.seccomp to {} instructions",
                filter.filter.len()
            ),
            json!({"instructions": filter.filter.len(), "flags": filter.flags}),
        ));
    }
    let mut told: Vec<&str> = Vec::new();
    for step in STEPS {
        if !told.contains(&step.name) {
            told.push(step.name);
            actions.extend(of_step(step.name, plan));
        }
    }
    actions.extend(hooks("poststart hooks", "poststart", &plan.hooks.poststart));
    actions.extend(hooks("poststop hooks", "poststop", &plan.hooks.poststop));
    Ok(actions)
}

fn cgroup(plan: &Plan, context: &Context) -> Result<Vec<Action>> {
    let driver = if context.systemd_cgroup {
        Driver::Systemd {
            annotations: &plan.state.annotations,
        }
    } else {
        Driver::Cgroupfs
    };
    let denied = if context.ignores_cgroup_permissions() {
        Denied::GoWithout
    } else {
        Denied::Fail
    };
    let cgroup = Cgroup::plan(
        &Layout::detect()?,
        driver,
        plan.cgroups_path.as_deref(),
        &plan.state.id,
        denied,
    )?;
    let place = serde_json::to_value(cgroup.to_record().places)?;
    let driver = if context.systemd_cgroup {
        "systemd"
    } else {
        "cgroupfs"
    };
    let mut actions = vec![Action::new(
        "cgroup",
        format!("make the cgroup ({driver}): {}", places(&place)),
        place,
    )];
    for write in cgroup.preview(&plan.resources)? {
        actions.push(Action::new(
            "limits",
            format!("{}: `{}` for linux.resources.{}", write.file, write.value, write.field),
            json!({"controller": write.controller, "file": write.file, "value": write.value, "field": format!("linux.resources.{}", write.field)}),
        ));
    }
    for rule in plan.resources.device_rules() {
        let text = String::from(rule.clone());
        actions.push(Action::new(
            "device rules",
            text.clone(),
            json!({"rule": text}),
        ));
    }
    Ok(actions)
}

/// The path of the cgroup, or of the first of several.
fn places(record: &Value) -> String {
    let at = &record["at"];
    let group = at.get(0).or_else(|| at.get("group")).unwrap_or(at);
    match at["unit"].as_str() {
        Some(unit) => unit.to_owned(),
        None => group["path"]
            .as_str()
            .unwrap_or("none, it stays in the runtime's")
            .to_owned(),
    }
}

fn clone(plan: &Plan) -> Vec<Action> {
    let new: Vec<&str> = plan.namespaces.new.iter().map(|kind| kind.name()).collect();
    let mut actions = Vec::new();
    if !new.is_empty() {
        actions.push(Action::new(
            "clone",
            format!("new namespaces: {}", new.join(", ")),
            json!({"new": new}),
        ));
    }
    for join in &plan.namespaces.join {
        actions.push(Action::new(
            "clone",
            format!(
                "join the {} namespace `{}`",
                join.kind.name(),
                join.path.display()
            ),
            json!({"join": join.kind.name(), "path": join.path}),
        ));
    }
    if plan.namespaces.makes(Kind::User) {
        for (name, map) in [
            ("uid_map", &plan.namespaces.uid_map),
            ("gid_map", &plan.namespaces.gid_map),
        ] {
            for line in map {
                actions.push(Action::new(
                    "id maps",
                    format!("{name}: {} {} {}", line.container, line.host, line.size),
                    json!({"file": name, "container": line.container, "host": line.host, "size": line.size}),
                ));
            }
        }
    }
    for device in &plan.net_devices {
        actions.push(Action::new(
            "network devices",
            format!(
                "move `{}` into the container as `{}`",
                device.name, device.inside
            ),
            json!({"device": device.name, "inside": device.inside}),
        ));
    }
    actions
}

/// What one step of the container's process has to do for this plan.
fn of_step(name: &'static str, plan: &Plan) -> Vec<Action> {
    match name {
        "hooks" => {
            let mut all = hooks(name, "prestart", &plan.hooks.prestart);
            all.extend(hooks(name, "createRuntime", &plan.hooks.create_runtime));
            all
        }
        "createContainer hooks" => hooks(name, "createContainer", &plan.hooks.create_container),
        "startContainer hooks" => hooks(name, "startContainer", &plan.hooks.start_container),
        "rootfs" | "pivot" | "read-only and masked paths" => rootfs::of_step(name, plan),
        _ => process::of_step(name, plan),
    }
}

fn hooks(step: &'static str, kind: &str, list: &[Hook]) -> Vec<Action> {
    let all = list.iter().map(|hook| {
        let detail =
            json!({"hook": kind, "path": hook.path, "args": hook.args, "timeout": hook.timeout});
        Action::new(step, format!("run the {kind} hook `{}`", hook.path), detail)
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps that do the same for every container, or only wait.
    const SILENT: [&str; 15] = [
        "session",
        "placement",
        "user namespace root",
        "groups",
        "namespaces",
        "late namespaces",
        "loopback",
        "pid namespace",
        "descriptors",
        "birth",
        "controlling terminal",
        "stdio",
        "program",
        "seccomp listener",
        // Told with `start`.
        "exec",
    ];

    #[test]
    fn every_step_is_told_or_silent() {
        for step in STEPS {
            let told = process::TOLD.contains(&step.name)
                || rootfs::TOLD.contains(&step.name)
                || step.name.ends_with("hooks");
            assert!(told != SILENT.contains(&step.name), "{}", step.name);
        }
    }
}
