//! Seccomp profiles: each program is one that the kernel takes, and answers calls as the profile read by itself does.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::plan::seccomp::{Arch, Profile, plan};
use crate::seccomp::direct::Reading;
use crate::seccomp::random::{Random, probes};
use crate::seccomp::{Program, compile, emulator};

/// Of which the listed architectures of a profile can be.
const MACHINES: [Arch; 7] = [
    Arch::X86_64,
    Arch::Aarch64,
    Arch::S390x,
    Arch::Mipsel64,
    Arch::Ppc64,
    Arch::Riscv64,
    Arch::Parisc64,
];
/// Of a large profile only some calls are tried each time.
const MOST_CALLS: usize = 300;

pub(super) fn profile(bytes: &[u8]) {
    let Ok(spec) = serde_json::from_slice(bytes) else {
        return;
    };
    match plan(&spec) {
        Ok(profile) => agree(&profile, bytes),
        Err(error) => super::refused(&error, "config.json", &["linux"]),
    }
}

/// The program of a profile against the profile. `seed` decides which machine and which calls.
pub(super) fn agree(profile: &Profile, seed: &[u8]) {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    let mut random = Random(hasher.finish() | 1);
    let native = if random.below(2) == 0 {
        Arch::X86_64
    } else {
        random.pick(&MACHINES)
    };
    let filter = match compile::compile(profile, native) {
        Ok(filter) => filter,
        Err(error) => return super::refused(&error, "config.json", &["linux"]),
    };
    emulator::check(&filter);
    let mut calls = probes(&mut random, profile, native);
    while calls.len() > MOST_CALLS {
        calls.swap_remove(random.below(calls.len()));
    }
    let reading = Reading::new(profile, native);
    for call in calls {
        let (ours, direct) = (emulator::run(&filter, &call).0, reading.decide(&call));
        assert_eq!(ours, direct, "on {native:?}, {call:x?} of {profile:#?}");
    }
    let program = Program {
        filter,
        flags: 1,
        optional_flags: 0,
        notify: profile.notifies(),
    };
    assert_eq!(Program::from_bytes(&program.to_bytes()).unwrap(), program);
}

/// The file that `exec` reads it from.
pub(super) fn stored(bytes: &[u8]) {
    if let Ok(program) = Program::from_bytes(bytes) {
        assert_eq!(program.to_bytes(), bytes);
    }
}
