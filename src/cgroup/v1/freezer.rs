//! The freezer controller of cgroup v1. It never says when it is done, and processes that appear meanwhile keep it
//! at FREEZING; asking again, with a thaw now and then, is all there is.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cgroup::dir::{Dir, is_gone};
use crate::cgroup::procs::{self, Backoff, Deadline};

const STATE: &str = "freezer.state";

/// Freezes and waits until every process has stopped; thaws again if that does not happen.
pub(crate) fn freeze(dir: &Dir, limit: Duration) -> Result<()> {
    let result = try_freeze(dir, limit);
    if result.is_err() {
        // A half-frozen container would hang its callers for ever.
        let _ = dir.write(STATE, "THAWED");
    }
    result
}

fn try_freeze(dir: &Dir, limit: Duration) -> Result<()> {
    let mut backoff = Backoff::new(Deadline::after(limit));
    let mut round = 0u32;
    loop {
        dir.write_named(STATE, "FROZEN")?;
        match state(dir)?.as_str() {
            "FROZEN" => return Ok(()),
            "FREEZING" => {}
            other => bail!("`{dir}/{STATE}` is `{other}` while freezing"),
        }
        round += 1;
        // Most freezes need a few rounds and no rest.
        if round > 20 && !backoff.wait() {
            return Err(procs::did_not_freeze(dir, limit));
        }
        if round.is_multiple_of(16) {
            // Lets processes finish the forking that keeps the freeze from completing.
            dir.write_named(STATE, "THAWED")?;
        }
    }
}

pub(crate) fn thaw(dir: &Dir) -> Result<()> {
    dir.write_named(STATE, "THAWED")
}

/// The cgroup and all below it.
pub(crate) fn thaw_all(dir: &Dir) -> Result<()> {
    let mut enter = |dir: &Dir| match dir.write(STATE, "THAWED") {
        Err(errno) if !is_gone(errno) => Err(errno),
        _ => Ok(()),
    };
    match dir.walk(&mut enter, &mut |_, _| Ok(())) {
        Err(errno) if !is_gone(errno) => {
            Err(errno).with_context(|| format!("thaw cgroup `{dir}` and those below"))
        }
        _ => Ok(()),
    }
}

/// Whether this cgroup itself is set to be frozen; a frozen ancestor is not its doing.
pub(crate) fn is_frozen(dir: &Dir) -> Result<bool> {
    match dir.read("freezer.self_freezing") {
        Ok(text) => Ok(text.trim() == "1"),
        Err(errno) if is_gone(errno) => Ok(false),
        Err(errno) => Err(errno).with_context(|| format!("read `{dir}/freezer.self_freezing`")),
    }
}

/// Whether a process put in now would stop, by this cgroup's or an ancestor's freezing.
pub(crate) fn would_stop(dir: &Dir) -> Result<bool> {
    Ok(state(dir)? != "THAWED")
}

fn state(dir: &Dir) -> Result<String> {
    Ok(dir.read_named(STATE)?.trim().to_owned())
}
