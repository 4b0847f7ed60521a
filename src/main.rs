//! Entry of rundlet: `cli` arms the log, finds the verb and runs it; an error becomes one line and an exit code.
#![deny(unsafe_code)]

use std::process::ExitCode;

mod cgroup;
mod cli;
mod console;
mod container;
mod criu;
mod error;
mod features;
mod fs;
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

/// Unit tests run in threads for long: they keep the system's.
#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: sys::arena::Arena = sys::arena::Arena::new();

fn main() -> ExitCode {
    sys::process::without_backtraces();
    std::panic::set_hook(Box::new(|panic| {
        log::fatal(&format!("internal error: {panic}"));
    }));
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    cli::run(&args)
}
