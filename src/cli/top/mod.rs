//! `rundlet top`: what the containers of a state root use, again and again: drawn in place on a terminal, otherwise tables or
//! JSON objects one below the other. One thread; it sleeps from one sample to the next.

mod table;

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use self::table::Sort;
use super::{duration, print};
use crate::cgroup::procs::{Deadline, sleep};
use crate::console::{Pressed, Screen};
use crate::container::options::Context;
use crate::container::usage::{Of, Sampler, Usage};

#[derive(clap::Args)]
pub(super) struct TopArgs {
    #[arg(hide = true)]
    ids: Vec<String>,
    /// time between two samples, like 500ms or 5s
    #[arg(long, short, value_name = "DURATION", default_value = "1s", value_parser = duration::parse)]
    interval: i64,
    /// print so many tables one below the other, and exit
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// print one table and exit: --count 1
    #[arg(long)]
    once: bool,
    /// table or json
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    format: String,
    /// id, cpu, memory, pids, io or pressure: greatest first, ids from a on
    #[arg(long, short, value_name = "KEY", default_value = "cpu")]
    sort: String,
    /// stopped containers, too
    #[arg(long, short)]
    all: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Table,
    Json,
}

pub(super) fn run(context: &Context, args: &TopArgs) -> Result<i32> {
    let interval = match u64::try_from(args.interval) {
        Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos),
        _ => bail!("--interval: must be greater than 0"),
    };
    let count = match (args.once, args.count) {
        (true, Some(_)) => bail!("--once, --count: one of them alone"),
        (true, None) => Some(1),
        (false, count) => count,
    };
    ensure!(count != Some(0), "--count: must be greater than 0");
    let format = match args.format.as_str() {
        "table" => Format::Table,
        "json" => Format::Json,
        other => bail!("--format: invalid format option `{other}` (table or json)"),
    };
    let Some(sort) = Sort::of_word(&args.sort) else {
        bail!(
            "--sort: unknown key `{}` (id, cpu, memory, pids, io or pressure)",
            args.sort.escape_debug()
        );
    };
    let of = match (args.ids.is_empty(), args.all) {
        (false, _) => Of::These(args.ids.clone()),
        (true, true) => Of::All,
        (true, false) => Of::Live,
    };
    let mut top = Top {
        sampler: Sampler::new(context, of)?,
        interval,
        sort,
        named: !args.ids.is_empty(),
    };
    if format == Format::Table && count.is_none() && std::io::stdout().is_terminal() {
        let title = format!("rundlet top {}", context.root.display());
        return top.on_terminal(&title);
    }
    top.plain(format, count)?;
    Ok(0)
}

struct Top {
    sampler: Sampler,
    interval: Duration,
    sort: Sort,
    /// It ends when these have gone.
    named: bool,
}

impl Top {
    fn sample(&mut self) -> Result<Option<Vec<Usage>>> {
        let usage = self.sampler.sample()?;
        Ok((!self.named || !usage.is_empty()).then_some(usage))
    }

    /// The first sample is what the first table's rates are taken from.
    fn plain(&mut self, format: Format, count: Option<u64>) -> Result<()> {
        let mut left = count;
        let mut gap = "";
        if self.sample()?.is_none() {
            return Ok(());
        }
        while left != Some(0) {
            let next = Deadline::after(self.interval);
            while !next.is_over() {
                sleep(next.left());
            }
            let Some(mut usage) = self.sample()? else {
                return Ok(());
            };
            self.sort.sort(&mut usage);
            match format {
                Format::Json => print(&json(&usage)?)?,
                Format::Table => {
                    let (heading, rows) = table::lines(&usage);
                    let rows = rows.iter().flat_map(|row| [row.as_str(), "\n"]);
                    let table: String = [gap, &heading, "\n"].into_iter().chain(rows).collect();
                    print(&table)?;
                    gap = "\n";
                }
            }
            left = left.map(|left| left - 1);
        }
        Ok(())
    }

    fn on_terminal(&mut self, title: &str) -> Result<i32> {
        let mut screen = Screen::enter()?;
        while let Some(mut usage) = self.sample()? {
            let next = Deadline::after(self.interval);
            let mut changed = true;
            while changed || !next.is_over() {
                if changed {
                    self.sort.sort(&mut usage);
                    let first = format!(
                        "{title}: {} containers, by {} (keys: {}; q ends)",
                        usage.len(),
                        self.sort.word(),
                        table::KEYS
                    );
                    let (heading, rows) = table::lines(&usage);
                    screen.draw(&first, &heading, &rows)?;
                }
                changed = match screen.wait(next.left())? {
                    // Ctrl-C and Ctrl-D are keys here.
                    Pressed::Key(b'q' | b'Q' | 3 | 4) => return Ok(0),
                    Pressed::Key(key) => match Sort::of_key(key) {
                        Some(sort) => {
                            self.sort = sort;
                            true
                        }
                        None => false,
                    },
                    Pressed::End(signal) => return Ok(128 + signal),
                    Pressed::Redraw => true,
                    Pressed::Nothing => false,
                };
            }
        }
        Ok(0)
    }
}

/// One object a line.
fn json(usage: &[Usage]) -> Result<String> {
    let mut text = String::new();
    for one in usage {
        text.push_str(&serde_json::to_string(one)?);
        text.push('\n');
    }
    Ok(text)
}
