//! Limits as cgroup v2 files: which controllers are needed, which values are written, in which order. Pure.

use anyhow::{Result, ensure};

use super::convert::{cpu_weight, io_weight, swap_max};
use crate::cgroup::write::{Rule, Write, rdma};
use crate::plan::resources::{BlockIo, Cpu, Memory, Resources};

/// The controllers that `r` needs, each with the first field that asks for it.
pub(crate) fn controllers(r: &Resources) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    let mut add = |controller: &str, field: &str| {
        if out.iter().all(|(c, _)| c != controller) {
            out.push((controller.to_owned(), format!("linux.resources.{field}")));
        }
    };
    if r.pids.is_some() {
        add("pids", "pids.limit");
    }
    let Memory {
        limit,
        reservation,
        swap,
        ..
    } = r.memory;
    for (value, field) in [
        (limit, "memory.limit"),
        (reservation, "memory.reservation"),
        (swap, "memory.swap"),
    ] {
        if value.is_some() {
            add("memory", field);
        }
    }
    if r.block_io != BlockIo::default() {
        add("io", "blockIO");
    }
    let Cpu {
        shares,
        quota,
        period,
        burst,
        idle,
        cpus,
        mems,
        ..
    } = &r.cpu;
    for (set, field) in [
        (shares.is_some(), "cpu.shares"),
        (quota.is_some(), "cpu.quota"),
        (period.is_some(), "cpu.period"),
        (burst.is_some(), "cpu.burst"),
        (idle.is_some(), "cpu.idle"),
    ] {
        if set {
            add("cpu", field);
        }
    }
    for (value, field) in [(cpus, "cpu.cpus"), (mems, "cpu.mems")] {
        if value.is_some() {
            add("cpuset", field);
        }
    }
    if !r.hugepages.is_empty() {
        add("hugetlb", "hugepageLimits");
    }
    if !r.rdma.is_empty() {
        add("rdma", "rdma");
    }
    for file in r.unified.keys() {
        // `cgroup.*` is not a controller's; pressure files are there without one.
        let controller = file
            .split('.')
            .next()
            .filter(|c| *c != "cgroup" && !file.ends_with(".pressure"));
        if let Some(controller) = controller {
            add(controller, &format!("unified[{file}]"));
        }
    }
    out
}

/// Controllers that can not limit a threaded cgroup.
pub(crate) fn is_domain_only(controller: &str) -> bool {
    !matches!(controller, "cpu" | "cpuset" | "pids" | "perf_event")
}

/// Refuses what only cgroup v1 has, so that no limit is dropped in silence.
pub(crate) fn refuse_v1_only(r: &Resources) -> Result<()> {
    let found = [
        ("memory.swappiness", r.memory.swappiness.is_some()),
        (
            "memory.disableOOMKiller",
            r.memory.disable_oom_killer == Some(true),
        ),
        ("cpu.realtimeRuntime", r.cpu.realtime_runtime.is_some()),
        ("cpu.realtimePeriod", r.cpu.realtime_period.is_some()),
        ("network.classID", r.network.class_id.is_some()),
        ("network.priorities", !r.network.priorities.is_empty()),
        ("blockIO.leafWeight", r.block_io.leaf_weight.is_some()),
        (
            "blockIO.weightDevice.leafWeight",
            r.block_io
                .weight_device
                .iter()
                .any(|d| d.leaf_weight.is_some()),
        ),
    ];
    for (field, set) in found {
        ensure!(!set, "linux.resources.{field}: not available on cgroup v2");
    }
    Ok(())
}

/// Everything but devices, in the order of writing.
pub(crate) fn writes(r: &Resources) -> Result<Vec<Write>> {
    refuse_v1_only(r)?;
    let mut out = Vec::new();
    if let Some(limit) = r.pids {
        out.push(Write::new("pids", "pids.limit", "pids.max", max_or(limit)));
    }
    memory(&r.memory, &mut out)?;
    io(&r.block_io, &mut out);
    cpu(&r.cpu, &mut out);
    for page in &r.hugepages {
        let field = format!("hugepageLimits[{}]", page.size);
        let file = |kind: &str| format!("hugetlb.{}{kind}.max", page.size);
        out.push(Write::new("hugetlb", field.clone(), file(""), page.limit));
        // Reservations have their own file since 5.7.
        out.push(Write::new("hugetlb", field, file(".rsvd"), page.limit).rule(Rule::IfPresent));
    }
    out.extend(rdma(r));
    Ok(out)
}

/// The raw files of `unified`, line by line as the kernel takes them. Last, so they win.
pub(crate) fn unified(r: &Resources) -> Vec<Write> {
    let mut out = Vec::new();
    for (file, value) in &r.unified {
        let field = format!("unified[{file}]");
        let line = |v: &str| Write::new("unified", field.clone(), file.clone(), v);
        if value.contains('\n') {
            out.extend(value.lines().filter(|l| !l.is_empty()).map(line));
        } else {
            out.push(line(value));
        }
    }
    out
}

fn memory(m: &Memory, out: &mut Vec<Write>) -> Result<()> {
    if let Some(swap) = swap_max(m.swap, m.limit)? {
        let value = max_or(swap);
        // Without swap there is no file; "no limit" and "none" are both true then.
        let rule = if swap <= 0 {
            Rule::IfPresent
        } else {
            Rule::Must
        };
        out.push(Write::new("memory", "memory.swap", "memory.swap.max", value).rule(rule));
    }
    if let Some(limit) = m.limit {
        out.push(Write::new(
            "memory",
            "memory.limit",
            "memory.max",
            max_or(limit),
        ));
    }
    if let Some(reservation) = m.reservation {
        out.push(Write::new(
            "memory",
            "memory.reservation",
            "memory.low",
            max_or(reservation),
        ));
    }
    Ok(())
}

fn io(io: &BlockIo, out: &mut Vec<Write>) {
    let weight = |field: String, prefix: String, w: u16| {
        let rule = Rule::Else {
            file: "io.weight",
            value: format!("{prefix}{}", io_weight(w)),
        };
        Write::new("io", field, "io.bfq.weight", format!("{prefix}{w}")).rule(rule)
    };
    if let Some(w) = io.weight {
        out.push(weight("blockIO.weight".to_owned(), String::new(), w));
    }
    for (i, d) in io.weight_device.iter().enumerate() {
        if let Some(w) = d.weight {
            let field = format!("blockIO.weightDevice[{i}].weight");
            out.push(weight(field, format!("{}:{} ", d.major, d.minor), w));
        }
    }
    for (name, key, list) in [
        ("throttleReadBpsDevice", "rbps", &io.read_bps),
        ("throttleWriteBpsDevice", "wbps", &io.write_bps),
        ("throttleReadIOPSDevice", "riops", &io.read_iops),
        ("throttleWriteIOPSDevice", "wiops", &io.write_iops),
    ] {
        for (i, t) in list.iter().enumerate() {
            // v1 takes a limit back by 0; io.max refuses 0.
            let rate = if t.rate == 0 {
                "max".to_owned()
            } else {
                t.rate.to_string()
            };
            let value = format!("{}:{} {key}={rate}", t.major, t.minor);
            out.push(Write::new(
                "io",
                format!("blockIO.{name}[{i}].rate"),
                "io.max",
                value,
            ));
        }
    }
}

fn cpu(c: &Cpu, out: &mut Vec<Write>) {
    if let Some(idle) = c.idle {
        // Before the weight: the kernel takes no weight while a group is idle.
        out.push(Write::new("cpu", "cpu.idle", "cpu.idle", idle));
    }
    if let Some(shares) = c.shares.filter(|_| c.idle != Some(1)) {
        out.push(Write::new(
            "cpu",
            "cpu.shares",
            "cpu.weight",
            cpu_weight(shares),
        ));
    }
    if let Some(burst) = c.burst {
        // Neither a burst above the old quota nor a quota below the old burst is taken; one order of two works.
        let rule = if burst == 0 {
            Rule::IfPresent
        } else {
            Rule::AgainLast
        };
        out.push(Write::new("cpu", "cpu.burst", "cpu.max.burst", burst).rule(rule));
    }
    if c.quota.is_some() || c.period.is_some() {
        let quota = c
            .quota
            .filter(|&q| q > 0)
            .map_or_else(|| "max".to_owned(), |q| q.to_string());
        let field = if c.quota.is_some() {
            "cpu.quota"
        } else {
            "cpu.period"
        };
        out.push(Write::new(
            "cpu",
            field,
            "cpu.max",
            format!("{quota} {}", c.period.unwrap_or(100_000)),
        ));
    }
    if let Some(cpus) = &c.cpus {
        out.push(Write::new("cpuset", "cpu.cpus", "cpuset.cpus", cpus));
    }
    if let Some(mems) = &c.mems {
        out.push(Write::new("cpuset", "cpu.mems", "cpuset.mems", mems));
    }
}

fn max_or(value: i64) -> String {
    if value < 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::resources::{Hugepage, Throttle, WeightDevice};

    fn shown(r: &Resources) -> Vec<String> {
        let list = writes(r).unwrap().into_iter().chain(unified(r));
        list.map(|w| format!("{}={}", w.file, w.value)).collect()
    }

    #[test]
    fn a_rich_config_in_order() {
        let device = |rate| {
            vec![Throttle {
                major: 8,
                minor: 0,
                rate,
            }]
        };
        let r = Resources {
            pids: Some(-1),
            memory: Memory {
                limit: Some(1000),
                swap: Some(1000),
                reservation: Some(500),
                ..Memory::default()
            },
            block_io: BlockIo {
                weight: Some(1000),
                weight_device: vec![WeightDevice {
                    major: 8,
                    minor: 16,
                    weight: Some(10),
                    leaf_weight: None,
                }],
                read_bps: device(5),
                write_iops: device(0),
                ..BlockIo::default()
            },
            cpu: Cpu {
                shares: Some(1024),
                period: Some(50_000),
                burst: Some(7),
                idle: Some(0),
                cpus: Some("0-1".to_owned()),
                ..Cpu::default()
            },
            hugepages: vec![Hugepage {
                size: "2MB".to_owned(),
                limit: 4,
            }],
            unified: [("io.max".to_owned(), "8:0 rbps=1\n8:1 rbps=2\n".to_owned())].into(),
            ..Resources::default()
        };
        assert_eq!(
            shown(&r),
            [
                "pids.max=max",
                "memory.swap.max=0",
                "memory.max=1000",
                "memory.low=500",
                "io.bfq.weight=1000",
                "io.bfq.weight=8:16 10",
                "io.max=8:0 rbps=5",
                "io.max=8:0 wiops=max",
                "cpu.idle=0",
                "cpu.weight=100",
                "cpu.max.burst=7",
                "cpu.max=max 50000",
                "cpuset.cpus=0-1",
                "hugetlb.2MB.max=4",
                "hugetlb.2MB.rsvd.max=4",
                "io.max=8:0 rbps=1",
                "io.max=8:1 rbps=2",
            ]
        );
        let needed: Vec<String> = controllers(&r).into_iter().map(|(c, _)| c).collect();
        assert_eq!(needed, ["pids", "memory", "io", "cpu", "cpuset", "hugetlb"]);
    }

    #[test]
    fn quota_forms() {
        let max = |quota, period| {
            shown(&Resources {
                cpu: Cpu {
                    quota,
                    period,
                    ..Cpu::default()
                },
                ..Resources::default()
            })
        };
        assert_eq!(max(Some(20_000), None), ["cpu.max=20000 100000"]);
        assert_eq!(max(Some(-1), None), ["cpu.max=max 100000"]);
        assert_eq!(max(None, Some(5000)), ["cpu.max=max 5000"]);
        assert!(max(None, None).is_empty());
    }

    #[test]
    fn an_idle_group_gets_no_weight() {
        let cpu = Cpu {
            idle: Some(1),
            shares: Some(512),
            ..Cpu::default()
        };
        assert_eq!(
            shown(&Resources {
                cpu,
                ..Resources::default()
            }),
            ["cpu.idle=1"]
        );
    }

    #[test]
    fn v1_only_fields_are_refused() {
        let r = Resources {
            memory: Memory {
                swappiness: Some(60),
                ..Memory::default()
            },
            ..Resources::default()
        };
        let text = format!("{:#}", writes(&r).unwrap_err());
        assert_eq!(
            text,
            "linux.resources.memory.swappiness: not available on cgroup v2"
        );
    }

    #[test]
    fn unified_controllers() {
        let unified = [
            "memory.high",
            "cgroup.max.depth",
            "cpu.pressure",
            "misc.max",
        ];
        let r = Resources {
            unified: unified
                .iter()
                .map(|f| ((*f).to_owned(), "1".to_owned()))
                .collect(),
            ..Resources::default()
        };
        let needed: Vec<String> = controllers(&r).into_iter().map(|(c, _)| c).collect();
        assert_eq!(needed, ["memory", "misc"]);
    }
}
