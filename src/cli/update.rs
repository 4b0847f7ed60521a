//! `rundlet update`: the flags become the same document that `--resources` names, so that both are checked alike.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use crate::container;
use crate::container::options::{Context, UpdateOptions};
use crate::log;
use crate::plan::rdt::schemata;
use crate::spec::ResourcesFrom;

#[derive(clap::Args)]
pub(super) struct UpdateArgs {
    #[arg(hide = true)]
    id: String,
    /// file with what is to change, in the form of linux.resources; `-` is standard input. All other options but those
    /// of Intel RDT are ignored then
    #[arg(long, short, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// weight of block I/O, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
    /// period of the CPU quota in microseconds
    #[arg(long, value_name = "USEC")]
    cpu_period: Option<u64>,
    /// CPU time in each period in microseconds, -1 for no limit
    #[arg(long, value_name = "USEC")]
    cpu_quota: Option<i64>,
    /// CPU time that may be saved up beyond the quota, in microseconds
    #[arg(long, value_name = "USEC")]
    cpu_burst: Option<u64>,
    /// CPU shares, relative to other containers
    #[arg(long, value_name = "N")]
    cpu_share: Option<u64>,
    /// period of realtime CPU time in microseconds (cgroup v1)
    #[arg(long, value_name = "USEC")]
    cpu_rt_period: Option<u64>,
    /// realtime CPU time in each period in microseconds (cgroup v1)
    #[arg(long, value_name = "USEC")]
    cpu_rt_runtime: Option<i64>,
    /// CPUs to use, as 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// memory nodes to use, as 0-1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// obsolete: ignored
    #[arg(long, value_name = "SIZE", hide = true)]
    kernel_memory: Option<String>,
    /// obsolete: ignored
    #[arg(long, value_name = "SIZE", hide = true)]
    kernel_memory_tcp: Option<String>,
    /// memory limit in bytes or with k, m, g; -1 for none
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// 1: run only when nothing else does; 0: as usual
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<i64>,
    /// memory that is kept for the container (soft limit)
    #[arg(long, value_name = "SIZE")]
    memory_reservation: Option<String>,
    /// limit of memory and swap together; -1 for none
    #[arg(long, value_name = "SIZE")]
    memory_swap: Option<String>,
    /// most processes and threads in the container; -1 for no limit
    #[arg(long, value_name = "N")]
    pids_limit: Option<i64>,
    /// L3 cache schema of Intel RDT/CAT
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// memory bandwidth schema of Intel RDT/MBA
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
}

pub(super) fn run(context: &Context, args: &UpdateArgs) -> Result<i32> {
    let resources = match &args.resources {
        Some(path) if path.as_os_str() == "-" => ResourcesFrom::Stdin,
        Some(path) => ResourcesFrom::File(path.clone()),
        None => ResourcesFrom::Flags(args.document()?),
    };
    let options = UpdateOptions {
        id: args.id.clone(),
        resources,
        schemata: schemata(
            args.l3_cache_schema.as_deref().unwrap_or_default(),
            args.mem_bw_schema.as_deref().unwrap_or_default(),
        ),
    };
    container::update::update(context, &options)?;
    Ok(0)
}

impl UpdateArgs {
    fn document(&self) -> Result<Value> {
        for (flag, given) in [
            ("kernel-memory", &self.kernel_memory),
            ("kernel-memory-tcp", &self.kernel_memory_tcp),
        ] {
            if given.is_some() {
                log::warn(format_args!(
                    "--{flag}: ignored: the kernel has no such limit any more"
                ));
            }
        }
        Ok(json!({
            "blockIO": object([("weight", self.blkio_weight.map(Value::from))]),
            "cpu": object([
                ("shares", self.cpu_share.map(Value::from)),
                ("quota", self.cpu_quota.map(Value::from)),
                ("period", self.cpu_period.map(Value::from)),
                ("burst", self.cpu_burst.map(Value::from)),
                ("realtimePeriod", self.cpu_rt_period.map(Value::from)),
                ("realtimeRuntime", self.cpu_rt_runtime.map(Value::from)),
                ("idle", self.cpu_idle.map(Value::from)),
                ("cpus", self.cpuset_cpus.clone().map(Value::from)),
                ("mems", self.cpuset_mems.clone().map(Value::from)),
            ]),
            "memory": object([
                ("limit", size("memory", self.memory.as_ref())?),
                ("reservation", size("memory-reservation", self.memory_reservation.as_ref())?),
                ("swap", size("memory-swap", self.memory_swap.as_ref())?),
            ]),
            "pids": object([("limit", self.pids_limit.map(Value::from))]),
        }))
    }
}

/// What was given.
fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let given = members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}

fn size(flag: &str, text: Option<&String>) -> Result<Option<Value>> {
    text.map(|text| bytes(text).map(Value::from))
        .transpose()
        .with_context(|| format!("invalid value for {flag}"))
}

/// `-1`, or a number with a unit as callers of runc write it: `512`, `64m`, `1.5g`, `32MiB`. Units are powers of 1024.
pub(crate) fn bytes(text: &str) -> Result<i64> {
    if text == "-1" {
        return Ok(-1);
    }
    let wrong = || format!("`{text}` is not a size such as 67108864, 64m or 1.5g, and not -1");
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => bail!(wrong()),
    };
    if let Ok(number) = number.parse::<i64>() {
        return number.checked_mul(1 << shift).with_context(wrong);
    }
    let number: f64 = number.parse().ok().with_context(wrong)?;
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    let value = number * (1u64 << shift) as f64;
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    Some(value as i64)
        .filter(|_| (0.0..9e18).contains(&value))
        .with_context(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("-1", -1),
            ("0", 0),
            ("4096", 4096),
            ("64m", 64 << 20),
            ("64M", 64 << 20),
            ("2 GB", 2 << 30),
            ("32MiB", 32 << 20),
            ("1.5k", 1536),
            ("7b", 7),
            ("1t", 1 << 40),
        ] {
            assert_eq!(bytes(text).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "-2",
            "m",
            "1x",
            "1..5m",
            "1 2",
            "99999999999999999999",
            "9000000p",
            "+5",
            "1e3",
        ] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
