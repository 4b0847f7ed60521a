//! `process` of config.json (or of `exec --process`) as plain numbers and strings, ready for the init steps.
//! Pure. Built by `plan::plan` and `container/exec.rs`, stored in the container's record, carried out by `init`.

use anyhow::{Result, bail, ensure};
use caps::{Capability, CapsHashSet};
use oci_spec::runtime::{self as oci, LinuxCapabilities, PosixRlimitType};
use serde::{Deserialize, Serialize};

use super::scheduling::{self, CpuAffinity, IoPriority, Scheduler};

/// One process in a container. Ids are numbers and are never looked up (U1).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) terminal: bool,
    /// Rows and columns of the terminal.
    pub(crate) console_size: Option<(u16, u16)>,
    pub(crate) user: User,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) capabilities: Capabilities,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) no_new_privileges: bool,
    pub(crate) apparmor_profile: Option<String>,
    pub(crate) selinux_label: Option<String>,
    pub(crate) oom_score_adj: Option<i32>,
    #[serde(default)]
    pub(crate) scheduler: Option<Scheduler>,
    #[serde(default)]
    pub(crate) io_priority: Option<IoPriority>,
    /// Of `exec` alone.
    #[serde(default)]
    pub(crate) cpu_affinity: CpuAffinity,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) umask: u32,
    pub(crate) additional_gids: Vec<u32>,
}

/// The five capability sets as bit masks, bit n = capability number n (capabilities(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Capabilities {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
    pub(crate) ambient: u64,
}

/// One resource limit (setrlimit(2)); values in the resource's own unit, `u64::MAX` for none.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rlimit {
    /// The name in config.json, for messages.
    pub(crate) name: String,
    pub(crate) resource: u32,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// umask when `process.user.umask` is absent (X5; runc's and crun's default).
const DEFAULT_UMASK: u32 = 0o022;
/// The kernel's "no id": setuid(2) and friends take it for "leave unchanged" (U2).
const INVALID_ID: u32 = u32::MAX;

/// Plans one process. `at` is the JSON path of the object, for messages.
pub(crate) fn plan(process: &oci::Process, at: &str) -> Result<Process> {
    let user = process.user();
    for (id, field) in [(user.uid(), "uid"), (user.gid(), "gid")] {
        ensure!(
            id != INVALID_ID,
            "{at}.user.{field}: {id} is not a usable id"
        );
    }
    let additional_gids = user.additional_gids().clone().unwrap_or_default();
    for (index, gid) in additional_gids.iter().enumerate() {
        ensure!(
            *gid != INVALID_ID,
            "{at}.user.additionalGids[{index}]: {gid} is not a usable id"
        );
    }
    let umask = user.umask().unwrap_or(DEFAULT_UMASK);
    ensure!(
        umask <= 0o777,
        "{at}.user.umask: {umask} is more than 0777 (511)"
    );
    let cwd = process.cwd().to_str().unwrap_or_default().to_owned();
    ensure!(
        cwd.starts_with('/'),
        "{at}.cwd: `{cwd}` is not an absolute path"
    );
    let args = process.args().clone().unwrap_or_default();
    ensure!(
        args.first().is_some_and(|arg| !arg.is_empty()),
        "{at}.args: must name a program"
    );
    let env = process.env().clone().unwrap_or_default();
    for (field, list) in [("args", &args), ("env", &env)] {
        if let Some(index) = list.iter().position(|text| text.contains('\0')) {
            bail!("{at}.{field}[{index}]: must not contain a null byte");
        }
    }
    ensure!(
        !cwd.contains('\0'),
        "{at}.cwd: must not contain a null byte"
    );
    for (index, variable) in env.iter().enumerate() {
        ensure!(
            variable.find('=').is_some_and(|at| at > 0),
            "{at}.env[{index}]: `{variable}` is not of the form NAME=VALUE"
        );
    }
    Ok(Process {
        terminal: process.terminal().unwrap_or(false),
        console_size: console_size(process, at)?,
        user: User {
            uid: user.uid(),
            gid: user.gid(),
            umask,
            additional_gids,
        },
        args,
        env: last_of_each(env),
        cwd,
        capabilities: process
            .capabilities()
            .as_ref()
            .map(sets)
            .unwrap_or_default(),
        rlimits: rlimits(process, at)?,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        apparmor_profile: process
            .apparmor_profile()
            .clone()
            .filter(|label| !label.is_empty()),
        selinux_label: process
            .selinux_label()
            .clone()
            .filter(|label| !label.is_empty()),
        oom_score_adj: oom_score(process, at)?,
        scheduler: scheduling::scheduler(process, at)?,
        io_priority: scheduling::io_priority(process, at)?,
        cpu_affinity: scheduling::cpu_affinity(process, at)?,
    })
}

fn oom_score(process: &oci::Process, at: &str) -> Result<Option<i32>> {
    if let Some(score) = process.oom_score_adj() {
        ensure!(
            (-1000..=1000).contains(&score),
            "{at}.oomScoreAdj: {score} is not within -1000 and 1000"
        );
    }
    Ok(process.oom_score_adj())
}

fn console_size(process: &oci::Process, at: &str) -> Result<Option<(u16, u16)>> {
    let Some(size) = process.console_size() else {
        return Ok(None);
    };
    let cells = |value: u64, field: &str| {
        u16::try_from(value)
            .map_err(|_| anyhow::anyhow!("{at}.consoleSize.{field}: {value} is more than 65535"))
    };
    Ok(Some((
        cells(size.height(), "height")?,
        cells(size.width(), "width")?,
    )))
}

/// Of variables with the same name the last one holds, at the place of the first (as runc does; a shell would otherwise see
/// whichever its libc finds).
pub(crate) fn last_of_each(env: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::with_capacity(env.len());
    for variable in env {
        let name = &variable[..=variable.find('=').unwrap_or(variable.len() - 1)];
        match kept.iter_mut().find(|old| old.starts_with(name)) {
            Some(old) => *old = variable,
            None => kept.push(variable),
        }
    }
    kept
}

fn mask(set: Option<&std::collections::HashSet<oci::Capability>>) -> u64 {
    let Some(set) = set else { return 0 };
    // oci-spec's names are the kernel's without the prefix, `caps` has the numbers.
    set.iter()
        .filter_map(|capability| format!("CAP_{capability}").parse::<Capability>().ok())
        .fold(0, |mask, capability| mask | capability.bitmask())
}

fn sets(capabilities: &LinuxCapabilities) -> Capabilities {
    Capabilities {
        bounding: mask(capabilities.bounding().as_ref()),
        effective: mask(capabilities.effective().as_ref()),
        permitted: mask(capabilities.permitted().as_ref()),
        inheritable: mask(capabilities.inheritable().as_ref()),
        ambient: mask(capabilities.ambient().as_ref()),
    }
}

/// The capabilities of a mask, for `caps`.
pub(crate) fn capability_set(mask: u64) -> CapsHashSet {
    caps::all()
        .into_iter()
        .filter(|capability| mask & capability.bitmask() != 0)
        .collect()
}

impl Capabilities {
    /// Leaves out what the host cannot give: `available` is the runtime's own permitted set. The runtime-spec says that a
    /// runtime SHOULD NOT fail then (config.md, "capabilities"). Returns what was left out.
    pub(crate) fn restrict(&mut self, available: u64) -> u64 {
        let all = self.bounding | self.effective | self.permitted | self.inheritable | self.ambient;
        for set in [
            &mut self.bounding,
            &mut self.effective,
            &mut self.permitted,
            &mut self.inheritable,
            &mut self.ambient,
        ] {
            *set &= available;
        }
        all & !available
    }

    /// `exec --cap`: bounding, effective and permitted; ambient only where the container's config had inheritable bits
    /// (C2, CVE-2022-29162).
    pub(crate) fn add(&mut self, mask: u64) {
        self.bounding |= mask;
        self.effective |= mask;
        self.permitted |= mask;
        self.ambient |= mask & self.inheritable;
    }
}

/// The mask of capability names as config.json writes them, `CAP_` included.
pub(crate) fn mask_of_names(names: &[String]) -> Result<u64> {
    names.iter().try_fold(0, |mask, name| {
        match name.to_ascii_uppercase().parse::<Capability>() {
            Ok(capability) => Ok(mask | capability.bitmask()),
            Err(_) => bail!("`{name}` is not the name of a capability (such as CAP_NET_ADMIN)"),
        }
    })
}

/// Names of a mask for a message: `CAP_CHOWN, CAP_KILL`.
pub(crate) fn names(mask: u64) -> String {
    let mut set: Vec<String> = capability_set(mask)
        .iter()
        .map(ToString::to_string)
        .collect();
    set.sort_unstable();
    set.join(", ")
}

fn rlimits(process: &oci::Process, at: &str) -> Result<Vec<Rlimit>> {
    let mut planned = Vec::new();
    for (index, limit) in process.rlimits().iter().flatten().enumerate() {
        let name = limit.typ().to_string();
        let (soft, hard) = (limit.soft(), limit.hard());
        ensure!(
            soft <= hard,
            "{at}.rlimits[{index}]: {name}: soft limit {soft} is above the hard limit {hard}"
        );
        planned.push(Rlimit {
            name,
            resource: resource_number(limit.typ()),
            soft,
            hard,
        });
    }
    Ok(planned)
}

/// The number in asm-generic/resource.h.
fn resource_number(name: PosixRlimitType) -> u32 {
    let number = match name {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    };
    // glibc's type is u32, musl's is c_int; all numbers are below 16.
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Process> {
        plan(
            &serde_json::from_str::<oci::Process>(json).unwrap(),
            "process",
        )
    }

    #[test]
    fn the_last_of_equal_variables_holds() {
        let env = ["A=1", "B=2", "A=3", "AB=4"].map(str::to_owned).to_vec();
        assert_eq!(last_of_each(env), ["A=3", "B=2", "AB=4"]);
    }

    #[test]
    fn capability_masks_use_the_kernels_numbers() {
        let process = parse(
            r#"{"user":{},"args":["a"],"cwd":"/","capabilities":{"bounding":["CAP_CHOWN","CAP_CHECKPOINT_RESTORE"],
            "effective":["CAP_SYS_ADMIN"]}}"#,
        );
        let capabilities = process.unwrap().capabilities;
        assert_eq!(capabilities.bounding, 1 | 1 << 40);
        assert_eq!(capabilities.effective, 1 << 21);
        assert_eq!(capabilities.ambient, 0);
    }

    #[test]
    fn absent_capabilities_are_none() {
        assert_eq!(
            parse(r#"{"user":{},"args":["a"],"cwd":"/"}"#)
                .unwrap()
                .capabilities,
            Capabilities::default()
        );
    }

    #[test]
    fn restricting_reports_what_was_left_out() {
        let mut capabilities = Capabilities {
            bounding: 0b111,
            effective: 0b11,
            ..Default::default()
        };
        assert_eq!(capabilities.restrict(0b101), 0b10);
        assert_eq!(
            (capabilities.bounding, capabilities.effective),
            (0b101, 0b1)
        );
        assert_eq!(names(0b1), "CAP_CHOWN");
    }

    #[test]
    fn an_added_capability_is_not_inheritable() {
        let mut capabilities = Capabilities::default();
        capabilities.add(1);
        assert_eq!(
            (
                capabilities.inheritable,
                capabilities.ambient,
                capabilities.permitted
            ),
            (0, 0, 1)
        );
    }

    #[test]
    fn wrong_values_name_their_field() {
        for (json, wanted) in [
            (
                r#"{"user":{"uid":4294967295},"args":["a"],"cwd":"/"}"#,
                "process.user.uid",
            ),
            (r#"{"user":{},"args":[],"cwd":"/"}"#, "process.args"),
            (r#"{"user":{},"args":["a"],"cwd":"x"}"#, "process.cwd"),
            (
                r#"{"user":{},"args":["a"],"cwd":"/","env":["=x"]}"#,
                "process.env[0]",
            ),
            (
                r#"{"user":{},"args":["a"],"cwd":"/","rlimits":[{"type":"RLIMIT_CORE","soft":2,"hard":1}]}"#,
                "process.rlimits[0]",
            ),
        ] {
            let error = parse(json).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{error}");
        }
    }
}
