//! `events`: what a container's cgroup has used, once or again and again, and OOM kills as they happen.

use std::time::Duration;

use anyhow::{Result, bail};

use super::options::Context;
use super::output::EventOutput;
use super::{Container, Live};
use crate::cgroup::procs::Deadline;
use crate::cgroup::watch::Happened;
use crate::{log, timings};

/// The numbers as of now.
pub(crate) fn stats(context: &Context, id: &str) -> Result<EventOutput> {
    let live = running(context, id)?;
    timings::phase("statistics");
    Ok(EventOutput::stats(id, live.container.cgroup()?.stats()?))
}

/// Numbers at every interval, the first after one of them, and kills at once, until no process is left.
pub(crate) fn watch(
    context: &Context,
    id: &str,
    interval: Duration,
    mut report: impl FnMut(&EventOutput) -> Result<()>,
) -> Result<()> {
    let live = running(context, id)?;
    timings::phase("statistics");
    let cgroup = live.container.cgroup()?;
    let mut watch = cgroup.watch(live.pidfd())?;
    let mut tick = Deadline::after(interval);
    loop {
        match watch.wait(tick)? {
            Happened::Empty => return Ok(()),
            Happened::Oom => report(&EventOutput::oom(id))?,
            Happened::Nothing => {
                tick = Deadline::after(interval);
                match cgroup.stats() {
                    Ok(stats) => report(&EventOutput::stats(id, stats))?,
                    // The next time may be better.
                    Err(error) => log::warn(format_args!("{}", crate::error::chain(&error))),
                }
            }
        }
    }
}

fn running(context: &Context, id: &str) -> Result<Live> {
    match Container::open(context, id)?.live_or_stopped()? {
        Ok(live) => Ok(live),
        Err(_) => bail!("container with id {id} is not running"),
    }
}
