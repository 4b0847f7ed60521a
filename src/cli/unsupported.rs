//! Verbs of runc that this version does not have. They are known by name so that the refusal is clear, and they
//! read no flag: engines probe checkpoint support by the text of a usage error, which must not appear.

use std::ffi::OsString;

use anyhow::{Result, bail};

use crate::container::options::Context;

#[derive(clap::Args)]
pub(super) struct UnsupportedArgs {
    #[arg(hide = true)]
    ignored: Vec<OsString>,
}

fn refuse(verb: &str) -> Result<i32> {
    bail!("rundlet: {verb} is not supported by this version")
}

pub(super) fn checkpoint(_: &Context, _: &UnsupportedArgs) -> Result<i32> {
    refuse("checkpoint")
}

pub(super) fn restore(_: &Context, _: &UnsupportedArgs) -> Result<i32> {
    refuse("restore")
}
