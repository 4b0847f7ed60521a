//! Limits as cgroup v1 files, by controller, but memory, whose order depends on what is set already (`memory.rs`).
//! Pure.

use anyhow::{Result, ensure};

use crate::cgroup::write::{Rule, Write, rdma};
use crate::plan::resources::{BlockIo, Cpu, Network, Resources};

/// The controllers of v1 that `linux.resources` can ask for, in the order of writing.
pub(crate) const ORDER: [&str; 9] = [
    "cpuset", "memory", "cpu", "pids", "blkio", "hugetlb", "net_cls", "net_prio", "rdma",
];

/// The writes of one controller; empty where it has nothing to limit.
pub(crate) fn writes(controller: &str, r: &Resources) -> Vec<Write> {
    match controller {
        "cpuset" => cpuset(&r.cpu),
        "cpu" => cpu(&r.cpu),
        "pids" => pids(r.pids),
        "blkio" => blkio(&r.block_io),
        "hugetlb" => hugetlb(r),
        "net_cls" => net_cls(&r.network),
        "net_prio" => net_prio(&r.network),
        "rdma" => rdma(r),
        _ => Vec::new(),
    }
}

/// Refuses what only cgroup v2 has.
pub(crate) fn refuse_v2_only(r: &Resources) -> Result<()> {
    ensure!(
        r.unified.is_empty(),
        "linux.resources.unified: invalid configuration: cannot use unified on cgroup v1"
    );
    Ok(())
}

/// What realtime processes may use. Also needed before a realtime process is put in.
pub(crate) fn realtime(c: &Cpu) -> Vec<Write> {
    let mut out = Vec::new();
    if let Some(period) = c.realtime_period {
        // Taken only if the old runtime fits; if it does not, after the new one.
        let write = Write::new("cpu", "cpu.realtimePeriod", "cpu.rt_period_us", period);
        out.push(write.rule(Rule::AgainLast));
    }
    if let Some(runtime) = c.realtime_runtime {
        out.push(Write::new(
            "cpu",
            "cpu.realtimeRuntime",
            "cpu.rt_runtime_us",
            runtime,
        ));
    }
    out
}

pub(crate) fn cpuset(c: &Cpu) -> Vec<Write> {
    let cpus = c
        .cpus
        .iter()
        .map(|v| Write::new("cpuset", "cpu.cpus", "cpuset.cpus", v));
    let mems = c
        .mems
        .iter()
        .map(|v| Write::new("cpuset", "cpu.mems", "cpuset.mems", v));
    cpus.chain(mems).collect()
}

fn cpu(c: &Cpu) -> Vec<Write> {
    let mut out = Vec::new();
    if let Some(idle) = c.idle {
        // First: an idle group takes no shares. Before 5.15 there is none, and 0 is what it is then.
        let rule = if idle == 0 {
            Rule::IfPresent
        } else {
            Rule::Must
        };
        out.push(Write::new("cpu", "cpu.idle", "cpu.idle", idle).rule(rule));
    }
    if let Some(shares) = c.shares.filter(|_| c.idle != Some(1)) {
        out.push(Write::new("cpu", "cpu.shares", "cpu.shares", shares));
    }
    if let Some(period) = c.period {
        // A shorter period may make the old quota larger than the parent's part: after the new quota then.
        let write = Write::new("cpu", "cpu.period", "cpu.cfs_period_us", period);
        out.push(write.rule(Rule::AgainLast));
    }
    if let Some(burst) = c.burst {
        let rule = if burst == 0 {
            Rule::IfPresent
        } else {
            Rule::AgainLast
        };
        out.push(Write::new("cpu", "cpu.burst", "cpu.cfs_burst_us", burst).rule(rule));
    }
    if let Some(quota) = c.quota {
        out.push(Write::new("cpu", "cpu.quota", "cpu.cfs_quota_us", quota));
    }
    out.extend(realtime(c));
    out
}

fn pids(limit: Option<i64>) -> Vec<Write> {
    let value = limit.map(|l| {
        if l < 0 {
            "max".to_owned()
        } else {
            l.to_string()
        }
    });
    value
        .into_iter()
        .map(|v| Write::new("pids", "pids.limit", "pids.max", v))
        .collect()
}

fn blkio(io: &BlockIo) -> Vec<Write> {
    let mut out = Vec::new();
    // The plain names were CFQ's; since 5.0 only BFQ has weights, under its own name.
    let weight = |field: String, file: &'static str, bfq: &'static str, value: String| {
        let rule = Rule::Else {
            file: bfq,
            value: value.clone(),
        };
        Write::new("blkio", field, file, value).rule(rule)
    };
    if let Some(w) = io.weight {
        let field = "blockIO.weight".to_owned();
        out.push(weight(
            field,
            "blkio.weight",
            "blkio.bfq.weight",
            w.to_string(),
        ));
    }
    if let Some(w) = io.leaf_weight {
        out.push(Write::new(
            "blkio",
            "blockIO.leafWeight",
            "blkio.leaf_weight",
            w,
        ));
    }
    for (i, d) in io.weight_device.iter().enumerate() {
        let field = |name| format!("blockIO.weightDevice[{i}].{name}");
        let value = |w| format!("{}:{} {w}", d.major, d.minor);
        if let Some(w) = d.weight {
            let (file, bfq) = ("blkio.weight_device", "blkio.bfq.weight_device");
            out.push(weight(field("weight"), file, bfq, value(w)));
        }
        if let Some(w) = d.leaf_weight {
            let file = "blkio.leaf_weight_device";
            out.push(Write::new("blkio", field("leafWeight"), file, value(w)));
        }
    }
    for (name, file, list) in [
        (
            "throttleReadBpsDevice",
            "blkio.throttle.read_bps_device",
            &io.read_bps,
        ),
        (
            "throttleWriteBpsDevice",
            "blkio.throttle.write_bps_device",
            &io.write_bps,
        ),
        (
            "throttleReadIOPSDevice",
            "blkio.throttle.read_iops_device",
            &io.read_iops,
        ),
        (
            "throttleWriteIOPSDevice",
            "blkio.throttle.write_iops_device",
            &io.write_iops,
        ),
    ] {
        for (i, t) in list.iter().enumerate() {
            let value = format!("{}:{} {}", t.major, t.minor, t.rate);
            out.push(Write::new(
                "blkio",
                format!("blockIO.{name}[{i}].rate"),
                file,
                value,
            ));
        }
    }
    out
}

fn hugetlb(r: &Resources) -> Vec<Write> {
    let mut out = Vec::new();
    for page in &r.hugepages {
        let field = format!("hugepageLimits[{}]", page.size);
        let file = |kind: &str| format!("hugetlb.{}{kind}.limit_in_bytes", page.size);
        out.push(Write::new("hugetlb", field.clone(), file(""), page.limit));
        out.push(Write::new("hugetlb", field, file(".rsvd"), page.limit).rule(Rule::IfPresent));
    }
    out
}

fn net_cls(n: &Network) -> Vec<Write> {
    let one = |id| Write::new("net_cls", "network.classID", "net_cls.classid", id);
    n.class_id.iter().map(one).collect()
}

fn net_prio(n: &Network) -> Vec<Write> {
    let one = |(i, (name, priority)): (usize, &(String, u32))| {
        let field = format!("network.priorities[{i}]");
        Write::new(
            "net_prio",
            field,
            "net_prio.ifpriomap",
            format!("{name} {priority}"),
        )
    };
    n.priorities.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::resources::{Hugepage, Rdma, Throttle, WeightDevice};

    fn shown(controller: &str, r: &Resources) -> Vec<String> {
        writes(controller, r)
            .into_iter()
            .map(|w| format!("{}={}", w.file, w.value))
            .collect()
    }

    #[test]
    fn every_controller() {
        let weights = WeightDevice {
            major: 8,
            minor: 0,
            weight: None,
            leaf_weight: Some(30),
        };
        let r = Resources {
            cpu: Cpu {
                shares: Some(2),
                quota: Some(-1),
                period: Some(1000),
                burst: Some(5),
                realtime_runtime: Some(9),
                realtime_period: Some(10),
                idle: Some(0),
                cpus: Some("0".to_owned()),
                mems: Some("0".to_owned()),
            },
            pids: Some(-1),
            block_io: BlockIo {
                weight: Some(20),
                weight_device: vec![weights],
                write_bps: vec![Throttle {
                    major: 8,
                    minor: 0,
                    rate: 0,
                }],
                ..BlockIo::default()
            },
            hugepages: vec![Hugepage {
                size: "1GB".to_owned(),
                limit: 0,
            }],
            network: Network {
                class_id: Some(0x10_0001),
                priorities: vec![("eth0".to_owned(), 3)],
            },
            rdma: [(
                "mlx".to_owned(),
                Rdma {
                    handles: None,
                    objects: Some(2),
                },
            )]
            .into(),
            ..Resources::default()
        };
        let expected: [(&str, &[&str]); 9] = [
            ("cpuset", &["cpuset.cpus=0", "cpuset.mems=0"]),
            ("memory", &[]),
            (
                "cpu",
                &[
                    "cpu.idle=0",
                    "cpu.shares=2",
                    "cpu.cfs_period_us=1000",
                    "cpu.cfs_burst_us=5",
                    "cpu.cfs_quota_us=-1",
                    "cpu.rt_period_us=10",
                    "cpu.rt_runtime_us=9",
                ],
            ),
            ("pids", &["pids.max=max"]),
            (
                "blkio",
                &[
                    "blkio.weight=20",
                    "blkio.leaf_weight_device=8:0 30",
                    "blkio.throttle.write_bps_device=8:0 0",
                ],
            ),
            (
                "hugetlb",
                &[
                    "hugetlb.1GB.limit_in_bytes=0",
                    "hugetlb.1GB.rsvd.limit_in_bytes=0",
                ],
            ),
            ("net_cls", &["net_cls.classid=1048577"]),
            ("net_prio", &["net_prio.ifpriomap=eth0 3"]),
            ("rdma", &["rdma.max=mlx hca_object=2"]),
        ];
        for (controller, (name, want)) in ORDER.into_iter().zip(expected) {
            assert_eq!(
                (controller, shown(controller, &r)),
                (name, want.iter().map(ToString::to_string).collect())
            );
        }
    }

    #[test]
    fn nothing_asked_nothing_written() {
        for controller in ORDER {
            assert!(
                writes(controller, &Resources::default()).is_empty(),
                "{controller}"
            );
        }
    }

    #[test]
    fn unified_is_refused() {
        let unified = [("memory.max".to_owned(), "1".to_owned())].into();
        let r = Resources {
            unified,
            ..Resources::default()
        };
        let text = format!("{:#}", refuse_v2_only(&r).unwrap_err());
        assert!(text.contains("cannot use unified on cgroup v1"), "{text}");
    }
}
