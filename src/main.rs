//! Entry of rundlet: arms the log, finds the verb, prints one error chain, leaves with its exit code.
#![deny(unsafe_code)]

mod error;
mod plan;
mod proto;
mod seccomp;
#[allow(unsafe_code)]
mod sys;

fn main() {}
