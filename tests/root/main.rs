//! The root test suite: drives the real binary, as root, on the real kernel.
//!
//! `RUNDLET_TEST_RUNTIME=/path` aims it at another runtime, which is how each test was proved to
//! be right before rundlet could run it. Each test runs in a process of its own (this binary,
//! re-executed), first on the host's cgroups, then, where the test says so, in a private mount
//! namespace that shows only cgroup2. `cargo test --test root -- SUBSTRING` filters.
//! With `RUNDLET_TEST_STRICT=1` a test that is marked as differing on the reference fails there
//! instead of being skipped, and so shows how it differs.

// The lints below guard the runtime; a test may panic, print and leave.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::disallowed_methods,
    clippy::needless_pass_by_value,
    // Tests end in a call on an output, whose value is of no use.
    clippy::semicolon_if_nothing_returned
)]

mod support;

#[path = "../runtime_spec/mod.rs"]
mod runtime_spec;

mod against_runc;
mod attackers;
mod beside_runc;
mod budget;
mod capabilities;
mod cgroup_edges;
mod cgroups;
mod chaos;
mod check;
mod checkpoint;
mod chrooted;
mod command_line;
mod conversions;
mod delegation;
mod delete_timeout;
mod devices;
mod doctor;
mod dry_run;
mod error_catalogue;
mod error_mistakes;
mod error_steps;
mod errors;
mod events;
mod exec;
mod exec_process;
mod fds;
mod field_block_io;
mod field_linux;
mod field_process;
mod field_resources;
mod field_setup;
mod fields;
mod freezer;
mod hardening;
mod holes_of_old;
mod hook_failures;
mod hooks;
mod hostile_rootfs;
mod idmap;
mod inherited_mounts;
mod joined_pid;
mod killed;
mod labels;
mod landlock;
mod lifecycle;
mod limits;
mod live_mounts;
mod live_mounts_hostile;
mod logs;
mod masks;
mod memory_policy;
mod mount_links;
mod mount_points;
mod mounts;
mod namespace_root;
mod namespaces;
mod netdev;
mod output;
mod overlay;
mod process;
mod published_holes;
mod races;
mod restored;
mod rlimits;
mod rootless;
mod rootless_cgroups;
mod scheduler;
mod seccomp;
mod seccomp_notify;
mod session;
mod signals;
mod storms;
mod sysctl;
mod systemd;
mod systemd_delegation;
mod systemd_units;
mod systemd_users;
mod time_namespace;
mod timings;
mod top;
mod tty;
mod update;
mod update_devices;
mod update_safety;
mod user_namespace;
mod v2_groups;
mod v2_io;
mod v2_limits;
mod waits;

use std::process::ExitCode;

fn main() -> ExitCode {
    support::main(&[
        lifecycle::TESTS,
        signals::TESTS,
        session::TESTS,
        freezer::TESTS,
        races::TESTS,
        killed::TESTS,
        budget::TESTS,
        storms::TESTS,
        published_holes::TESTS,
        attackers::TESTS,
        hardening::TESTS,
        holes_of_old::TESTS,
        waits::TESTS,
        delete_timeout::TESTS,
        error_steps::TESTS,
        chaos::TESTS,
        output::TESTS,
        events::TESTS,
        top::TESTS,
        against_runc::TESTS,
        chrooted::TESTS,
        check::TESTS,
        checkpoint::TESTS,
        restored::TESTS,
        command_line::TESTS,
        exec::TESTS,
        exec_process::TESTS,
        tty::TESTS,
        process::TESTS,
        capabilities::TESTS,
        namespaces::TESTS,
        joined_pid::TESTS,
        user_namespace::TESTS,
        rootless::TESTS,
        rootless_cgroups::TESTS,
        namespace_root::TESTS,
        time_namespace::TESTS,
        timings::TESTS,
        scheduler::TESTS,
        memory_policy::TESTS,
        labels::TESTS,
        landlock::TESTS,
        netdev::TESTS,
        mounts::TESTS,
        mount_points::TESTS,
        mount_links::TESTS,
        idmap::TESTS,
        inherited_mounts::TESTS,
        devices::TESTS,
        masks::TESTS,
        hostile_rootfs::TESTS,
        sysctl::TESTS,
        hooks::TESTS,
        hook_failures::TESTS,
        seccomp::TESTS,
        seccomp_notify::TESTS,
        overlay::TESTS,
        cgroups::TESTS,
        cgroup_edges::TESTS,
        limits::TESTS,
        live_mounts::TESTS,
        live_mounts_hostile::TESTS,
        rlimits::TESTS,
        fields::TESTS,
        field_process::TESTS,
        field_setup::TESTS,
        field_linux::TESTS,
        field_resources::TESTS,
        field_block_io::TESTS,
        update::TESTS,
        update_safety::TESTS,
        update_devices::TESTS,
        conversions::TESTS,
        v2_limits::TESTS,
        v2_io::TESTS,
        v2_groups::TESTS,
        delegation::TESTS,
        fds::TESTS,
        doctor::TESTS,
        dry_run::TESTS,
        error_catalogue::TESTS,
        errors::TESTS,
        logs::TESTS,
        systemd::TESTS,
        systemd_delegation::TESTS,
        systemd_units::TESTS,
        systemd_users::TESTS,
    ])
}
