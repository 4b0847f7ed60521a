//! libFuzzer's entry: rundlet's modules, the targets, and the mutator for JSON. `RUNDLET_FUZZ` names the target, the arguments are
//! libFuzzer's. Built by `make fuzz`, with coverage (`--cfg fuzzing`).
#![no_main]
// The program's own build looks for what is not used.
#![allow(dead_code, unused)]

#[path = "../../../src/cgroup/mod.rs"]
mod cgroup;
#[path = "../../../src/cli/mod.rs"]
mod cli;
#[path = "../../../src/console/mod.rs"]
mod console;
#[path = "../../../src/container/mod.rs"]
mod container;
#[path = "../../../src/criu/mod.rs"]
mod criu;
#[path = "../../../src/error/mod.rs"]
mod error;
#[path = "../../../src/features.rs"]
mod features;
#[path = "../../../src/fs/mod.rs"]
mod fs;
#[path = "../targets/mod.rs"]
mod fuzz;
#[path = "../../../src/hooks/mod.rs"]
mod hooks;
#[path = "../../../src/init/mod.rs"]
mod init;
#[path = "../../../src/log.rs"]
mod log;
mod mutate;
#[path = "../../../src/net/mod.rs"]
mod net;
#[path = "../../../src/plan/mod.rs"]
mod plan;
#[path = "../../../src/proto.rs"]
mod proto;
#[path = "../../../src/rdt.rs"]
mod rdt;
#[path = "../../../src/rootfs/mod.rs"]
mod rootfs;
#[path = "../../../src/sd_notify.rs"]
mod sd_notify;
#[path = "../../../src/sealed.rs"]
mod sealed;
#[path = "../../../src/seccomp/mod.rs"]
mod seccomp;
#[path = "../../../src/spec/mod.rs"]
mod spec;
#[path = "../../../src/sys/mod.rs"]
mod sys;
#[path = "../../../src/timings.rs"]
mod timings;

use std::sync::OnceLock;

use fuzz::{Input, TARGETS, Target};

fn target() -> &'static Target {
    static CHOSEN: OnceLock<&Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("RUNDLET_FUZZ").unwrap_or_default();
        // Repairs of documents are warned about: a file that is dropped unless it is JSON with --debug.
        log::init(Some("/dev/null".as_ref()), log::Format::Json, false).unwrap();
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        let found = TARGETS.iter().find(|target| target.name == name);
        found.unwrap_or_else(|| panic!("RUNDLET_FUZZ is none of {names:?}"))
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (target().run)(bytes));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let plain = |data: &mut [u8]| libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    if target().input != Input::Json || seed % 16 == 0 {
        return plain(data);
    }
    match mutate::json(&data[..size], max_size, seed) {
        Some(text) => {
            data[..text.len()].copy_from_slice(&text);
            text.len()
        }
        None => plain(data),
    }
});
