//! `scheduler`, `ioPriority` and `execCPUAffinity` of a process object, as the numbers of the kernel. Pure. Part of a planned
//! [`Process`](super::process::Process), so of what `exec` finds in the record; carried out by `init/attributes.rs`, the
//! affinity by `container/exec.rs`.

use anyhow::{Context as _, Result, bail, ensure};
use oci_spec::runtime::{
    self as oci, IOPriorityClass, LinuxSchedulerFlag as Flag, LinuxSchedulerPolicy as Policy,
};
use serde::{Deserialize, Serialize};

use super::id_list;

/// What sched_setattr(2) is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scheduler {
    /// The name in config.json, for messages.
    pub(crate) name: String,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    /// Nanoseconds, of SCHED_DEADLINE alone.
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
}

/// What ioprio_set(2) is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IoPriority {
    pub(crate) class: u32,
    pub(crate) priority: u32,
}

/// CPUs of a process that `exec` starts, as bit masks; empty where the kernel decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CpuAffinity {
    /// Before it is moved to the container's cgroup.
    pub(crate) initial: Vec<u64>,
    pub(crate) after: Vec<u64>,
}

/// sched_setattr(2) refuses a runtime with fewer nanoseconds.
const SHORTEST_RUNTIME: u64 = 1024;

/// `at` is the JSON path of the process object.
pub(super) fn scheduler(process: &oci::Process, at: &str) -> Result<Option<Scheduler>> {
    let Some(given) = process.scheduler() else {
        return Ok(None);
    };
    let at = format!("{at}.scheduler");
    let policy = *given.policy();
    let nice = given.nice().unwrap_or(0);
    ensure!(
        (-20..=19).contains(&nice),
        "{at}.nice: {nice} is not within -20 and 19"
    );
    let priority = given.priority().unwrap_or(0);
    if matches!(policy, Policy::SchedFifo | Policy::SchedRr) {
        ensure!(
            (1..=99).contains(&priority),
            "{at}.priority: {priority} is not within 1 and 99, as {policy} needs"
        );
    } else {
        ensure!(
            priority == 0,
            "{at}.priority: can only be given with SCHED_FIFO or SCHED_RR, not with {policy}"
        );
    }
    let [runtime, deadline, period] =
        [given.runtime(), given.deadline(), given.period()].map(|value| value.unwrap_or(0));
    if policy == Policy::SchedDeadline {
        let whole = if period == 0 { deadline } else { period };
        ensure!(
            runtime >= SHORTEST_RUNTIME && runtime <= deadline && deadline <= whole,
            "{at}.runtime: SCHED_DEADLINE needs {SHORTEST_RUNTIME} <= runtime <= deadline <= period \
             (given: {runtime}, {deadline}, {period})"
        );
    } else {
        for (field, value) in [
            ("runtime", runtime),
            ("deadline", deadline),
            ("period", period),
        ] {
            ensure!(
                value == 0,
                "{at}.{field}: can only be given with SCHED_DEADLINE, not with {policy}"
            );
        }
    }
    let flags = given.flags().iter().flatten();
    Ok(Some(Scheduler {
        name: policy.to_string(),
        policy: policy_number(policy),
        flags: flags.fold(0, |flags, flag| flags | flag_bit(*flag)),
        nice,
        priority: priority.unsigned_abs(),
        runtime,
        deadline,
        period,
    }))
}

/// linux/sched.h.
fn policy_number(policy: Policy) -> u32 {
    match policy {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        Policy::SchedIso => 4,
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
    }
}

fn flag_bit(flag: Flag) -> u64 {
    match flag {
        Flag::SchedResetOnFork => 0x01,
        Flag::SchedFlagReclaim => 0x02,
        Flag::SchedFlagDLOverrun => 0x04,
        Flag::SchedFlagKeepPolicy => 0x08,
        Flag::SchedFlagKeepParams => 0x10,
        Flag::SchedFlagUtilClampMin => 0x20,
        Flag::SchedFlagUtilClampMax => 0x40,
    }
}

pub(super) fn io_priority(process: &oci::Process, at: &str) -> Result<Option<IoPriority>> {
    let Some(given) = process.io_priority() else {
        return Ok(None);
    };
    // linux/ioprio.h.
    let class = match given.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u32::try_from(given.priority()) {
        Ok(priority @ 0..=7) => Ok(Some(IoPriority { class, priority })),
        _ => bail!(
            "{at}.ioPriority.priority: {} is not within 0 and 7",
            given.priority()
        ),
    }
}

pub(super) fn cpu_affinity(process: &oci::Process, at: &str) -> Result<CpuAffinity> {
    let Some(given) = process.exec_cpu_affinity() else {
        return Ok(CpuAffinity::default());
    };
    let mask = |list: &Option<String>, field: &str| {
        id_list::parse(list.as_deref().unwrap_or_default())
            .with_context(|| format!("{at}.execCPUAffinity.{field}"))
    };
    Ok(CpuAffinity {
        initial: mask(given.initial(), "initial")?,
        after: mask(given.cpu_affinity_final(), "final")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(field: &str) -> oci::Process {
        let text = format!(r#"{{"user":{{}},"args":["a"],"cwd":"/",{field}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn planned(json: &str) -> Scheduler {
        scheduler(&process(&format!(r#""scheduler":{json}"#)), "process")
            .unwrap()
            .unwrap()
    }

    fn refused(json: &str) -> String {
        scheduler(&process(&format!(r#""scheduler":{json}"#)), "process")
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn each_policy_has_its_number() {
        for (json, policy) in [
            (r#"{"policy":"SCHED_OTHER","nice":-20}"#, 0),
            (r#"{"policy":"SCHED_FIFO","priority":1}"#, 1),
            (r#"{"policy":"SCHED_RR","priority":99}"#, 2),
            (r#"{"policy":"SCHED_BATCH","nice":19}"#, 3),
            (r#"{"policy":"SCHED_ISO"}"#, 4),
            (r#"{"policy":"SCHED_IDLE"}"#, 5),
            (
                r#"{"policy":"SCHED_DEADLINE","runtime":10000,"deadline":20000}"#,
                6,
            ),
        ] {
            assert_eq!(planned(json).policy, policy, "{json}");
        }
        let all = r#"{"policy":"SCHED_OTHER","flags":["SCHED_RESET_ON_FORK","SCHED_FLAG_RECLAIM","SCHED_FLAG_D_L_OVERRUN",
            "SCHED_FLAG_KEEP_POLICY","SCHED_FLAG_KEEP_PARAMS","SCHED_FLAG_UTIL_CLAMP_MIN","SCHED_FLAG_UTIL_CLAMP_MAX"]}"#;
        assert_eq!(planned(all).flags, 0x7f);
    }

    #[test]
    fn parameters_belong_to_their_policy() {
        for (json, wanted) in [
            (r#"{"policy":"SCHED_OTHER","nice":20}"#, "nice: 20"),
            (r#"{"policy":"SCHED_BATCH","nice":-21}"#, "nice: -21"),
            (
                r#"{"policy":"SCHED_OTHER","priority":1}"#,
                "priority: can only",
            ),
            (r#"{"policy":"SCHED_FIFO"}"#, "priority: 0 is not"),
            (
                r#"{"policy":"SCHED_RR","priority":100}"#,
                "priority: 100 is not",
            ),
            (
                r#"{"policy":"SCHED_RR","priority":-1}"#,
                "priority: -1 is not",
            ),
            (
                r#"{"policy":"SCHED_RR","priority":1,"runtime":1}"#,
                "runtime: can only",
            ),
            (
                r#"{"policy":"SCHED_IDLE","deadline":1}"#,
                "deadline: can only",
            ),
            (r#"{"policy":"SCHED_OTHER","period":1}"#, "period: can only"),
            (
                r#"{"policy":"SCHED_DEADLINE","runtime":5000,"deadline":4000}"#,
                "runtime: SCHED_DEADLINE",
            ),
            (
                r#"{"policy":"SCHED_DEADLINE","runtime":5000,"deadline":6000,"period":5500}"#,
                "runtime: SCHED_DEADLINE",
            ),
            (r#"{"policy":"SCHED_DEADLINE"}"#, "runtime: SCHED_DEADLINE"),
        ] {
            let text = refused(json);
            assert!(
                text.starts_with(&format!("process.scheduler.{wanted}")),
                "{text}"
            );
        }
    }

    #[test]
    fn io_priorities() {
        let of = |json: &str| io_priority(&process(&format!(r#""ioPriority":{json}"#)), "process");
        let planned = of(r#"{"class":"IOPRIO_CLASS_RT","priority":7}"#).unwrap();
        let wanted = IoPriority {
            class: 1,
            priority: 7,
        };
        assert_eq!(planned, Some(wanted));
        for priority in ["8", "-1"] {
            let json = format!(r#"{{"class":"IOPRIO_CLASS_BE","priority":{priority}}}"#);
            let text = of(&json).unwrap_err().to_string();
            assert!(
                text.starts_with(&format!("process.ioPriority.priority: {priority} ")),
                "{text}"
            );
        }
    }

    #[test]
    fn affinity_lists() {
        let json = r#""execCPUAffinity":{"initial":"0-1","final":"70000"}"#;
        let error = cpu_affinity(&process(json), "process").unwrap_err();
        assert!(format!("{error:#}").starts_with("process.execCPUAffinity.final: "));
        let json = r#""execCPUAffinity":{"initial":"0-1"}"#;
        let planned = cpu_affinity(&process(json), "process").unwrap();
        assert_eq!((planned.initial, planned.after), (vec![3], vec![]));
    }
}
