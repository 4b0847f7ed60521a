//! The part of a dry run about the container's process. Called by the parent module.

use serde_json::{Value, json};

use super::Action;
use crate::plan::Plan;
use crate::plan::landlock::Access;
use crate::plan::namespaces::Kind;
use crate::plan::process::names;

/// Steps of `init` that this file tells of.
#[cfg(test)]
pub(super) const TOLD: [&str; 17] = [
    "session keyring",
    "time namespace",
    "host name",
    "console",
    "sysctl",
    "security labels",
    "scheduler",
    "I/O priority",
    "memory policy",
    "personality",
    "working directory",
    "resource limits",
    "Landlock",
    "seccomp",
    "user and capabilities",
    "no_new_privs",
    "start",
];

pub(super) fn of_step(step: &'static str, plan: &Plan) -> Vec<Action> {
    let one = |text: String, detail: Value| vec![Action::new(step, text, detail)];
    let process = &plan.process;
    match step {
        "session keyring" if plan.new_keyring => {
            let name = format!("_ses.{}", plan.state.id);
            one(
                format!("a new session keyring `{name}`"),
                json!({"keyring": name}),
            )
        }
        "console" if process.terminal => one(
            "a terminal of the container's own on /dev/console".to_owned(),
            json!({"size": process.console_size}),
        ),
        "scheduler" => process
            .scheduler
            .iter()
            .flat_map(|given| {
                one(
                    given.name.clone(),
                    json!({"policy": given.name, "nice": given.nice, "priority": given.priority}),
                )
            })
            .collect(),
        "I/O priority" => process
            .io_priority
            .iter()
            .flat_map(|given| {
                one(
                    format!("class {} priority {}", given.class, given.priority),
                    json!({"class": given.class, "priority": given.priority}),
                )
            })
            .collect(),
        "memory policy" => plan
            .memory_policy
            .iter()
            .flat_map(|given| one(given.name.clone(), json!({"mode": given.name})))
            .collect(),
        "personality" => plan
            .personality
            .iter()
            .flat_map(|domain| {
                one(
                    format!("execution domain {domain}"),
                    json!({"domain": domain}),
                )
            })
            .collect(),
        "working directory" => one(format!("`{}`", process.cwd), json!({"cwd": process.cwd})),
        "seccomp" => seccomp(step, plan),
        "user and capabilities" => identity(step, plan),
        "no_new_privs" if process.no_new_privileges => {
            one("set".to_owned(), json!({"noNewPrivileges": true}))
        }
        "start" => one(
            format!("wait for `start`, then run {:?}", process.args),
            json!({"args": process.args, "env": process.env}),
        ),
        _ => several(step, plan),
    }
}

/// Steps that do one thing for each of a list.
fn several(step: &'static str, plan: &Plan) -> Vec<Action> {
    let process = &plan.process;
    match step {
        "time namespace" if plan.namespaces.makes(Kind::Time) => {
            let all = plan.namespaces.time_offsets.iter().map(|offset| {
                let detail = json!({"clock": offset.clock, "secs": offset.secs, "nanosecs": offset.nanosecs});
                Action::new(step, format!("{} is {} s {} ns ahead", offset.clock, offset.secs, offset.nanosecs), detail)
            });
            all.collect()
        }
        "host name" => {
            let set = [
                ("hostname", &plan.hostname),
                ("domainname", &plan.domainname),
            ];
            let all = set.iter().filter_map(|(what, name)| {
                let name = name.as_ref()?;
                Some(Action::new(
                    step,
                    format!("{what} `{name}`"),
                    json!({*what: name}),
                ))
            });
            all.collect()
        }
        "sysctl" => {
            let all = plan.sysctl.iter().map(|sysctl| {
                Action::new(
                    step,
                    format!("{} = {}", sysctl.key, sysctl.value),
                    json!({"key": sysctl.key, "value": sysctl.value}),
                )
            });
            all.collect()
        }
        "security labels" => {
            let set = [
                ("AppArmor profile", &process.apparmor_profile),
                ("SELinux label", &process.selinux_label),
            ];
            let all = set.iter().filter_map(|(what, label)| {
                let label = label.as_ref()?;
                Some(Action::new(
                    step,
                    format!("{what} `{label}`"),
                    json!({"kind": what, "label": label}),
                ))
            });
            all.collect()
        }
        "resource limits" => {
            let all = process.rlimits.iter().map(|limit| {
                let detail = json!({"type": limit.name, "soft": limit.soft, "hard": limit.hard});
                Action::new(
                    step,
                    format!("{} {}:{}", limit.name, limit.soft, limit.hard),
                    detail,
                )
            });
            all.collect()
        }
        "Landlock" => landlock(step, plan),
        _ => Vec::new(),
    }
}

fn landlock(step: &'static str, plan: &Plan) -> Vec<Action> {
    let Some(rules) = &plan.landlock else {
        return Vec::new();
    };
    let mut actions = Vec::new();
    if rules.fs != 0 {
        let text = "files may be used as the next lines allow, and no others";
        actions.push(Action::new(step, text, json!({"fs": rules.fs})));
    }
    for rule in &rules.paths {
        let (may, rights) = match rule.access {
            Access::Read => ("read and execute", "ro"),
            Access::Write => ("everything", "rw"),
        };
        actions.push(Action::new(
            step,
            format!("`{}`: {may}", rule.path),
            json!({"path": rule.path, "access": rights}),
        ));
    }
    for (name, ports) in rules.ports_of_each() {
        actions.push(Action::new(
            step,
            format!("{name} TCP ports {ports:?} and no others"),
            json!({"net": name, "ports": ports}),
        ));
    }
    for scope in rules.scopes() {
        actions.push(Action::new(
            step,
            format!("no {scope} beyond the processes under these rules"),
            json!({"scope": scope}),
        ));
    }
    actions
}

fn seccomp(step: &'static str, plan: &Plan) -> Vec<Action> {
    let Some(profile) = &plan.seccomp else {
        return Vec::new();
    };
    let names: usize = profile.rules.iter().map(|rule| rule.names.len()).sum();
    let when = if plan.process.no_new_privileges || profile.notifies() {
        "as the last thing"
    } else {
        "before capabilities are dropped"
    };
    let text = format!(
        "load the filter {when}: by default {:?}, {} rules for {names} names",
        profile.default,
        profile.rules.len()
    );
    let detail = json!({"default": profile.default, "rules": profile.rules.len(), "names": names, "when": when});
    vec![Action::new(step, text, detail)]
}

fn identity(step: &'static str, plan: &Plan) -> Vec<Action> {
    let user = &plan.process.user;
    let text = format!(
        "user {}:{}, additional groups {:?}, umask {:04o}",
        user.uid, user.gid, user.additional_gids, user.umask
    );
    let detail = json!({"uid": user.uid, "gid": user.gid, "additionalGids": user.additional_gids, "umask": user.umask});
    let mut actions = vec![Action::new(step, text, detail)];
    let sets = &plan.process.capabilities;
    for (name, mask) in [
        ("bounding", sets.bounding),
        ("effective", sets.effective),
        ("permitted", sets.permitted),
        ("inheritable", sets.inheritable),
        ("ambient", sets.ambient),
    ] {
        let list = names(mask);
        let shown = if list.is_empty() {
            "none"
        } else {
            list.as_str()
        };
        actions.push(Action::new(
            step,
            format!("{name} capabilities: {shown}"),
            json!({"set": name, "capabilities": list}),
        ));
    }
    actions
}
