//! The cloned side of `create` and `run`: from the clone to the wait for `start`, as a table of steps. Never returns to the
//! runtime's code; leaves by `_exit` or `execve`. Called by `container/create.rs` right after the clone.
//!
//! What must be true: the process has one thread, is not dumpable (E2), and the plan is complete: nothing here parses or
//! decides.

mod attributes;
mod birth;
mod child;
mod handoff;
mod identity;
mod labels;
mod landlock;
mod live;
mod namespaces;
mod stage;
mod tenant;

use anyhow::Result;

pub(crate) use child::{Child, ContainerPart, Dumpable, Groups, PidNamespace};
pub(crate) use live::{Joined, MountChange, change_mounts};
pub(crate) use stage::{enter_container, enter_running, enter_staged};

use crate::error::StepFailed;
use crate::proto::{FromInit, RuntimeGone};
use crate::sys::process::exit_now;
use crate::{error, timings};

/// One privileged step: its name goes before every error it returns.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut Child<'_>) -> Result<()>,
}

/// One line of a step table.
const fn step(name: &'static str, run: fn(&mut Child<'_>) -> Result<()>) -> Step {
    Step { name, run }
}

/// The life of a container's init. This table is the only place that fixes the order; the reasons stand beside the steps
/// whose place matters.
pub(crate) const STEPS: &[Step] = &[
    // A session and signal state of its own, before anything can block (X5).
    step("session", attributes::session),
    // Possession of the caller's keys must end before any code of the container runs (L2).
    step("session keyring", attributes::keyring),
    // The runtime has written id maps, cgroup and limits: only now are there ids to become and limits to stand under.
    step("placement", child::await_placed),
    step("time namespace", namespaces::offset_clocks),
    step("user namespace root", namespaces::become_root),
    step("groups", namespaces::drop_groups),
    step("namespaces", namespaces::join),
    step("late namespaces", namespaces::unshare_late),
    step("host name", attributes::host_name),
    step("loopback", attributes::loopback),
    step("rootfs", child::prepare_root),
    step("hooks", child::await_hooks),
    step("createContainer hooks", child::create_container_hooks),
    step("groups", namespaces::drop_late_groups),
    step("pivot", child::enter_root),
    // The console is a pty of the container's own devpts, so after the pivot (T1).
    step("console", child::console),
    // Through a /proc of the runtime's own: works whatever is masked or read-only (P3).
    step("sysctl", attributes::sysctl),
    // Last of the mounts: nothing may be mounted over a mask (CVE-2015-3630).
    step("read-only and masked paths", child::finish_root),
    step("pid namespace", birth::join),
    step("descriptors", child::close_host_descriptors),
    // From here on neighbours in a pid namespace that is joined can see it: it has the container's root and no descriptor of
    // the host (X3). What a fork does not inherit comes later.
    step("birth", birth::be_born),
    step("controlling terminal", child::controlling_terminal),
    step("security labels", labels::apply),
    // With all rights and before a filter may refuse the calls (N2).
    step("scheduler", attributes::scheduler),
    step("I/O priority", attributes::io_priority),
    step("memory policy", attributes::memory_policy),
    step("personality", attributes::personality),
    step("stdio", identity::reopen_null),
    step("working directory", identity::enter_cwd),
    step("resource limits", attributes::resource_limits),
    // With all rights, for it needs CAP_SYS_ADMIN where no_new_privs is not asked for, and before a filter may refuse it (N2).
    // What is opened from here on is held to the rules.
    step("Landlock", landlock::confine),
    // Without no_new_privs loading a filter needs CAP_SYS_ADMIN, so before capabilities are dropped (N2).
    step("seccomp", handoff::seccomp_with_privileges),
    step("user and capabilities", identity::take_identity),
    step("working directory", identity::enter_cwd_as_user),
    step("no_new_privs", identity::no_new_privileges),
    step("program", handoff::find_program),
    // Only with SCMP_ACT_NOTIFY; any other filter is loaded by `exec`.
    step("seccomp listener", handoff::seccomp_with_listener),
    // The last thing that can fail has been done: the container is created.
    step("start", handoff::await_start),
    step("startContainer hooks", handoff::start_container_hooks),
    step("exec", handoff::execute),
];

/// Runs `steps` to the end, which is an `execve`. A failure is sent to the runtime, or, once that has gone, written to the
/// container's stderr, as runc does.
pub(crate) fn run_steps(steps: &[Step], child: &mut Child<'_>) -> ! {
    for step in steps {
        timings::phase(step.name);
        if let Err(error) = (step.run)(child) {
            report(step.name, &error, child);
            exit_now(1);
        }
    }
    exit_now(1)
}

fn failure(step: &str, error: &anyhow::Error) -> StepFailed {
    let errno = error.chain().find_map(error::errno_of);
    StepFailed {
        step: step.to_owned(),
        errno: errno.map_or(0, |errno| errno as i32),
        chain: error::chain(error),
    }
}

fn report(step: &str, error: &anyhow::Error, child: &Child<'_>) {
    if error.is::<RuntimeGone>() {
        return;
    }
    let failure = failure(step, error);
    let text = format!("rundlet: {step}: {}\n", failure.chain);
    let sent = child
        .end
        .as_ref()
        .is_some_and(|end| end.send(&FromInit::Failed(failure)).is_ok());
    if !sent {
        // The runtime is gone; stderr is the only place left, and nobody to tell should it fail.
        let _ = nix::unistd::write(std::io::stderr(), text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Place of the only (or first) step of that name.
    fn place(name: &str) -> usize {
        STEPS.iter().position(|step| step.name == name).unwrap()
    }

    #[test]
    fn the_order_that_security_rests_on() {
        for (before, after) in [
            ("placement", "user namespace root"),
            ("user namespace root", "namespaces"),
            ("rootfs", "pivot"),
            ("createContainer hooks", "pivot"),
            ("pivot", "console"),
            ("pivot", "pid namespace"),
            ("pid namespace", "descriptors"),
            ("read-only and masked paths", "birth"),
            ("descriptors", "birth"),
            ("birth", "controlling terminal"),
            ("birth", "scheduler"),
            ("birth", "seccomp"),
            ("birth", "start"),
            ("sysctl", "read-only and masked paths"),
            ("pivot", "descriptors"),
            ("descriptors", "working directory"),
            ("security labels", "user and capabilities"),
            ("scheduler", "seccomp"),
            ("memory policy", "seccomp"),
            ("personality", "seccomp"),
            ("birth", "Landlock"),
            ("working directory", "Landlock"),
            ("Landlock", "seccomp"),
            ("seccomp", "user and capabilities"),
            ("user and capabilities", "no_new_privs"),
            ("no_new_privs", "start"),
            ("program", "start"),
            ("no_new_privs", "seccomp listener"),
            ("seccomp listener", "start"),
            ("start", "exec"),
        ] {
            assert!(
                place(before) < place(after),
                "{before} must come before {after}"
            );
        }
        assert_eq!(STEPS.last().unwrap().name, "exec");
    }
}
