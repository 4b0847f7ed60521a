//! The root test suite: drives the real binary, as root, on the real kernel.
//!
//! `RUNDLET_TEST_RUNTIME=/path` aims it at another runtime, which is how each test was proved to
//! be right before rundlet could run it. Each test runs in a process of its own (this binary,
//! re-executed), first on the host's cgroups, then, where the test says so, in a private mount
//! namespace that shows only cgroup2. `cargo test --test root -- SUBSTRING` filters.

// The lints below guard the runtime; a test may panic, print and leave.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::disallowed_methods,
    clippy::needless_pass_by_value
)]

mod support;

mod cgroups;
mod devices;
mod errors;
mod exec;
mod fds;
mod hooks;
mod lifecycle;
mod masks;
mod mounts;
mod namespaces;
mod output;
mod overlay;
mod process;
mod races;
mod seccomp;
mod sysctl;
mod tty;

use std::process::ExitCode;

fn main() -> ExitCode {
    support::main(&[
        lifecycle::TESTS,
        races::TESTS,
        output::TESTS,
        exec::TESTS,
        tty::TESTS,
        process::TESTS,
        namespaces::TESTS,
        mounts::TESTS,
        devices::TESTS,
        masks::TESTS,
        sysctl::TESTS,
        hooks::TESTS,
        seccomp::TESTS,
        overlay::TESTS,
        cgroups::TESTS,
        fds::TESTS,
        errors::TESTS,
    ])
}
