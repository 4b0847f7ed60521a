//! Entry of rundlet: `cli` arms the log, finds the verb and runs it; an error becomes one line and an exit code.
#![deny(unsafe_code)]
#![cfg_attr(not(test), no_main)]

use std::io::Write as _;

mod cgroup;
mod cli;
mod console;
mod container;
mod criu;
mod error;
mod features;
mod fs;
#[cfg(test)]
#[path = "../tests/fuzz/targets/mod.rs"]
mod fuzz;
mod hooks;
mod init;
mod log;
mod net;
mod plan;
mod proto;
mod rdt;
mod rootfs;
mod sd_notify;
mod sealed;
mod seccomp;
mod spec;
#[allow(unsafe_code)]
mod sys;
#[cfg(test)]
mod testing;
mod timings;

sys::start::entry!(run);

#[cfg_attr(test, allow(dead_code))]
fn run() -> i32 {
    std::panic::set_hook(Box::new(|panic| {
        log::fatal(&error::Report {
            message: format!("internal error: {panic}"),
            step: Some(timings::step().to_owned()),
            ..error::Report::default()
        });
    }));
    let code = cli::run(sys::start::arguments().get(1..).unwrap_or_default());
    // Nobody else does; who prints has flushed already and got the error.
    drop(std::io::stdout().flush());
    i32::from(code)
}
