//! Entry of rundlet: arms the log, finds the verb, prints one error chain, leaves with its exit code.
#![deny(unsafe_code)]

mod fs;
mod plan;
mod rootfs;
#[allow(unsafe_code)]
mod sys;

fn main() {}
