//! A change to the resources of a container that exists: what is asked ([`Change`]) put together with what the container's record
//! says becomes what has to be written and the new record. Pure. Called by `container/update.rs`.
//!
//! What is not named stays as it is. Some values reach the kernel only in pairs (a quota and its period, the limit of memory
//! and that of memory and swap): the other half then comes from the record.

use anyhow::{Result, ensure};
use oci_spec::runtime as oci;

use super::device_rule::DeviceRule;
use super::resources::{self, BlockIo, Cpu, Memory, Network, Resources, Throttle, WeightDevice};

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// But the device rules.
    pub(crate) resources: Resources,
    /// A whole new list, which may be empty.
    pub(crate) devices: Option<Vec<DeviceRule>>,
    /// Fields that are read and do nothing, by their JSON path.
    pub(crate) ignored: Vec<&'static str>,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Without device rules.
    pub(crate) write: Resources,
    pub(crate) devices: Devices,
    /// For the record.
    pub(crate) stored: Resources,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Devices {
    /// Engines send the whole of `linux.resources` with every change, and tools may have added rules of their own: a list that
    /// is the same as before touches nothing.
    Keep,
    /// By those in `stored`.
    Replace,
}

pub(crate) fn change(asked: &oci::LinuxResources) -> Result<Change> {
    let mut resources = resources::plan(asked)?;
    let mut ignored = Vec::new();
    if let Some(memory) = asked.memory() {
        resources.memory.disable_oom_killer = memory.disable_oom_killer();
        resources.memory.check_before_update = memory.check_before_update();
        #[allow(deprecated, reason = "still sent by engines")]
        let kernel = [
            ("memory.kernel", memory.kernel()),
            ("memory.kernelTCP", memory.kernel_tcp()),
        ];
        let set = kernel
            .into_iter()
            .filter(|(_, v)| v.is_some_and(|v| v != 0));
        ignored.extend(set.map(|(field, _)| field));
    }
    let rules = std::mem::take(&mut resources.devices);
    Ok(Change {
        devices: asked.devices().is_some().then_some(rules),
        resources,
        ignored,
    })
}

/// Puts a change on top of the record.
pub(crate) fn merge(old: &Resources, change: &Change) -> Result<Outcome> {
    let asked = &change.resources;
    let mut write = asked.clone();
    let mut stored = old.clone();
    cpu(&mut write.cpu, &mut stored.cpu)?;
    memory(&mut write.memory, &mut stored.memory);
    block_io(&asked.block_io, &mut stored.block_io);
    network(&asked.network, &mut stored.network);
    take(&mut stored.pids, asked.pids.as_ref());
    for page in &asked.hugepages {
        upsert(&mut stored.hugepages, page, |p| p.size == page.size);
    }
    for (device, limit) in &asked.rdma {
        let entry = stored.rdma.entry(device.clone()).or_default();
        take(&mut entry.handles, limit.handles.as_ref());
        take(&mut entry.objects, limit.objects.as_ref());
    }
    if !asked.unified.is_empty() {
        stored.unified.clone_from(&asked.unified);
    }
    let devices = match &change.devices {
        Some(rules) if *rules != stored.devices => {
            stored.devices.clone_from(rules);
            Devices::Replace
        }
        _ => Devices::Keep,
    };
    Ok(Outcome {
        write,
        devices,
        stored,
    })
}

fn take<T: Clone>(old: &mut Option<T>, new: Option<&T>) {
    if new.is_some() {
        *old = new.cloned();
    }
}

fn upsert<T: Clone>(list: &mut Vec<T>, new: &T, is_same: impl Fn(&T) -> bool) {
    match list.iter_mut().find(|old| is_same(old)) {
        Some(old) => *old = new.clone(),
        None => list.push(new.clone()),
    }
}

fn cpu(write: &mut Cpu, stored: &mut Cpu) -> Result<()> {
    ensure!(
        write.shares.is_none() || write.idle.or(stored.idle) != Some(1) || write.idle.is_some(),
        "linux.resources.cpu.shares: the container's cpu.idle is 1, and an idle group has no shares: set cpu.idle to 0 too"
    );
    if write.idle.is_some() && write.shares.is_none() {
        // The kernel sets the weight itself when a group becomes idle or is it no longer.
        stored.shares = None;
    }
    take(&mut stored.shares, write.shares.as_ref());
    take(&mut stored.quota, write.quota.as_ref());
    take(&mut stored.period, write.period.as_ref());
    take(&mut stored.burst, write.burst.as_ref());
    take(
        &mut stored.realtime_runtime,
        write.realtime_runtime.as_ref(),
    );
    take(&mut stored.realtime_period, write.realtime_period.as_ref());
    take(&mut stored.idle, write.idle.as_ref());
    take(&mut stored.cpus, write.cpus.as_ref());
    take(&mut stored.mems, write.mems.as_ref());
    if write.quota.is_some() || write.period.is_some() {
        (write.quota, write.period) = (stored.quota, stored.period);
    }
    Ok(())
}

fn memory(write: &mut Memory, stored: &mut Memory) {
    if write.limit == Some(-1) && write.swap.is_none() {
        write.swap = Some(-1);
    }
    // Lifting what was never set is nothing to do.
    if write.disable_oom_killer == Some(false) && stored.disable_oom_killer.is_none() {
        write.disable_oom_killer = None;
    }
    let flag = |old: &mut Option<bool>, new: Option<bool>| {
        if new.is_some() {
            *old = new.filter(|&v| v);
        }
    };
    flag(&mut stored.disable_oom_killer, write.disable_oom_killer);
    flag(&mut stored.check_before_update, write.check_before_update);
    take(&mut stored.limit, write.limit.as_ref());
    take(&mut stored.reservation, write.reservation.as_ref());
    take(&mut stored.swap, write.swap.as_ref());
    take(&mut stored.swappiness, write.swappiness.as_ref());
    if write.limit.is_some() || write.swap.is_some() {
        (write.limit, write.swap) = (stored.limit, stored.swap);
        write.check_before_update = stored.check_before_update;
    }
}

fn block_io(asked: &BlockIo, stored: &mut BlockIo) {
    take(&mut stored.weight, asked.weight.as_ref());
    take(&mut stored.leaf_weight, asked.leaf_weight.as_ref());
    for new in &asked.weight_device {
        let same = |d: &&mut WeightDevice| (d.major, d.minor) == (new.major, new.minor);
        match stored.weight_device.iter_mut().find(same) {
            Some(old) => {
                take(&mut old.weight, new.weight.as_ref());
                take(&mut old.leaf_weight, new.leaf_weight.as_ref());
            }
            None => stored.weight_device.push(new.clone()),
        }
    }
    for (new, old) in [
        (&asked.read_bps, &mut stored.read_bps),
        (&asked.write_bps, &mut stored.write_bps),
        (&asked.read_iops, &mut stored.read_iops),
        (&asked.write_iops, &mut stored.write_iops),
    ] {
        throttles(new, old);
    }
}

/// Rate 0 lifts the limit of a device.
fn throttles(asked: &[Throttle], stored: &mut Vec<Throttle>) {
    for new in asked {
        upsert(stored, new, |t| {
            (t.major, t.minor) == (new.major, new.minor)
        });
    }
    stored.retain(|t| t.rate != 0);
}

fn network(asked: &Network, stored: &mut Network) {
    take(&mut stored.class_id, asked.class_id.as_ref());
    for new in &asked.priorities {
        upsert(&mut stored.priorities, new, |(name, _)| *name == new.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Resources {
        resources::plan(&serde_json::from_str(json).unwrap()).unwrap()
    }

    fn asked(json: &str) -> Change {
        change(&serde_json::from_str(json).unwrap()).unwrap()
    }

    /// What is written and what is stored, as config.json would have it.
    fn merged(old: &str, new: &str) -> (Resources, Resources) {
        let outcome = merge(&planned(old), &asked(new)).unwrap();
        (outcome.write, outcome.stored)
    }

    #[test]
    fn what_is_absent_or_zero_stays() {
        let old = r#"{"cpu":{"shares":512,"quota":20000,"cpus":"0"},"memory":{"limit":4096},"pids":{"limit":3}}"#;
        for new in [
            "{}",
            r#"{"cpu":{},"memory":{},"blockIO":{}}"#,
            r#"{"cpu":{"shares":0,"quota":0,"period":0,"cpus":""},"memory":{"limit":0,"swap":0}}"#,
        ] {
            let (write, stored) = merged(old, new);
            assert_eq!(write, Resources::default(), "{new}");
            assert_eq!(stored, planned(old), "{new}");
        }
    }

    #[test]
    fn quota_and_period_go_together() {
        let pair = |r: &Resources| (r.cpu.quota, r.cpu.period);
        for (old, new, expected) in [
            (
                r#"{"cpu":{"quota":20000,"period":50000}}"#,
                r#"{"cpu":{"quota":30000}}"#,
                (Some(30000), Some(50000)),
            ),
            (
                r#"{"cpu":{"quota":20000,"period":50000}}"#,
                r#"{"cpu":{"period":40000}}"#,
                (Some(20000), Some(40000)),
            ),
            (
                r#"{"cpu":{"quota":20000,"period":50000}}"#,
                r#"{"cpu":{"quota":-1}}"#,
                (Some(-1), Some(50000)),
            ),
            ("{}", r#"{"cpu":{"quota":30000}}"#, (Some(30000), None)),
        ] {
            let (write, stored) = merged(old, new);
            assert_eq!(pair(&write), expected, "{old} {new}");
            assert_eq!(pair(&stored), expected, "{old} {new}");
        }
        let (write, _) = merged(
            r#"{"cpu":{"quota":20000,"burst":5}}"#,
            r#"{"cpu":{"shares":3}}"#,
        );
        assert_eq!((pair(&write), write.cpu.burst), ((None, None), None));
    }

    #[test]
    fn memory_and_swap_go_together() {
        let pair = |r: &Resources| (r.memory.limit, r.memory.swap);
        let both = r#"{"memory":{"limit":4096,"swap":8192}}"#;
        for (old, new, expected) in [
            (
                both,
                r#"{"memory":{"limit":5000}}"#,
                (Some(5000), Some(8192)),
            ),
            (
                both,
                r#"{"memory":{"swap":9000}}"#,
                (Some(4096), Some(9000)),
            ),
            (both, r#"{"memory":{"limit":-1}}"#, (Some(-1), Some(-1))),
            (both, r#"{"memory":{"swap":-1}}"#, (Some(4096), Some(-1))),
            (
                r#"{"memory":{"limit":4096}}"#,
                r#"{"memory":{"limit":5000}}"#,
                (Some(5000), None),
            ),
        ] {
            let (write, stored) = merged(old, new);
            assert_eq!(pair(&write), expected, "{old} {new}");
            assert_eq!(pair(&stored), expected, "{old} {new}");
        }
        let (write, _) = merged(both, r#"{"memory":{"reservation":100}}"#);
        assert_eq!(pair(&write), (None, None));
    }

    #[test]
    fn the_check_of_the_config_holds_until_it_is_lifted() {
        let old = r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#;
        let (write, stored) = merged(old, r#"{"memory":{"limit":1}}"#);
        assert_eq!(write.memory.check_before_update, Some(true));
        assert_eq!(stored.memory.check_before_update, Some(true));
        let (write, stored) = merged(old, r#"{"memory":{"limit":1,"checkBeforeUpdate":false}}"#);
        assert_eq!(write.memory.check_before_update, None);
        assert_eq!(stored.memory.check_before_update, None);
    }

    #[test]
    fn the_oom_killer_is_given_back_only_where_it_was_taken() {
        let off = r#"{"memory":{"disableOOMKiller":true}}"#;
        let on = r#"{"memory":{"disableOOMKiller":false}}"#;
        assert_eq!(merged("{}", on).0.memory.disable_oom_killer, None);
        let (write, stored) = merged(off, on);
        assert_eq!(write.memory.disable_oom_killer, Some(false));
        assert_eq!(stored.memory.disable_oom_killer, None);
    }

    #[test]
    fn idle_and_shares() {
        let (write, stored) = merged(r#"{"cpu":{"shares":512}}"#, r#"{"cpu":{"idle":1}}"#);
        assert_eq!((write.cpu.idle, write.cpu.shares), (Some(1), None));
        assert_eq!((stored.cpu.idle, stored.cpu.shares), (Some(1), None));
        let idle = planned(r#"{"cpu":{"idle":1}}"#);
        let error = merge(&idle, &asked(r#"{"cpu":{"shares":7}}"#)).unwrap_err();
        assert!(error.to_string().contains("cpu.idle is 1"), "{error}");
        assert!(merge(&idle, &asked(r#"{"cpu":{"shares":7,"idle":0}}"#)).is_ok());
    }

    #[test]
    fn tables_are_changed_by_their_keys() {
        let (write, stored) = merged(
            r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":100,"leafWeight":20}],
                "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5},{"major":8,"minor":16,"rate":6}]},
                "hugepageLimits":[{"pageSize":"2MB","limit":1}],"network":{"priorities":[{"name":"lo","priority":1}]},
                "rdma":{"mlx":{"hcaHandles":2,"hcaObjects":3}},"unified":{"memory.high":"1"}}"#,
            r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":300}],
                "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":0},{"major":8,"minor":32,"rate":7}]},
                "hugepageLimits":[{"pageSize":"2MB","limit":2},{"pageSize":"1GB","limit":3}],
                "network":{"priorities":[{"name":"lo","priority":4}]},"rdma":{"mlx":{"hcaHandles":9}},
                "unified":{"memory.low":"2"}}"#,
        );
        assert_eq!(write.block_io.read_bps.len(), 2);
        assert_eq!(
            stored,
            planned(
                r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":300,"leafWeight":20}],
                    "throttleReadBpsDevice":[{"major":8,"minor":16,"rate":6},{"major":8,"minor":32,"rate":7}]},
                    "hugepageLimits":[{"pageSize":"2MB","limit":2},{"pageSize":"1GB","limit":3}],
                    "network":{"priorities":[{"name":"lo","priority":4}]},"rdma":{"mlx":{"hcaHandles":9,"hcaObjects":3}},
                    "unified":{"memory.low":"2"}}"#
            )
        );
    }

    #[test]
    fn device_rules_are_replaced_as_a_whole_when_they_differ() {
        let rule =
            r#"{"devices":[{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]}"#;
        let devices = |old: &str, new: &str| {
            let outcome = merge(&planned(old), &asked(new)).unwrap();
            assert!(outcome.write.devices.is_empty());
            (outcome.devices, outcome.stored.devices.len())
        };
        assert_eq!(devices(rule, "{}"), (Devices::Keep, 1));
        assert_eq!(devices(rule, rule), (Devices::Keep, 1));
        assert_eq!(devices("{}", rule), (Devices::Replace, 1));
        assert_eq!(devices(rule, r#"{"devices":[]}"#), (Devices::Replace, 0));
    }

    #[test]
    fn kernel_memory_is_named_as_ignored() {
        let change = asked(r#"{"memory":{"kernel":5,"kernelTCP":0}}"#);
        assert_eq!(change.ignored, ["memory.kernel"]);
        assert_eq!(change.resources, Resources::default());
    }
}
