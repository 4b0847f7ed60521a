//! `linux.resources` as plain data: checked, with every "zero means unset" of the specification turned into `None`.
//! Made once by `plan`, carried out by `cgroup`, stored in state.json (an update starts from the stored values).
//! Pure: opens nothing and calls nothing. What only the running cgroup version can refuse is refused in `cgroup`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use oci_spec::runtime as oci;
use serde::{Deserialize, Serialize};

use super::device_rule::DeviceRule;
use super::resource_checks::{check_unified, device_number, is_page_size, list, plain_word, size};

/// All limits of one container. The default value limits nothing but devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Resources {
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) cpu: Cpu,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) memory: Memory,
    /// At least 1, or -1 for no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) pids: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) block_io: BlockIo,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) hugepages: Vec<Hugepage>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) network: Network,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) rdma: BTreeMap<String, Rdma>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) unified: BTreeMap<String, String>,
    /// The rules of config.json in their order; see [`Resources::device_rules`] for what is enforced.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) devices: Vec<DeviceRule>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Cpu {
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) shares: Option<u64>,
    /// Negative for no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) quota: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) period: Option<u64>,
    /// Unlike the others 0 is a value here: it takes an allowed burst back.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) burst: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) realtime_runtime: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) realtime_period: Option<u64>,
    /// 0 or 1.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) idle: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) cpus: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) mems: Option<String>,
}

/// Sizes in bytes, -1 for no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Memory {
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) limit: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) reservation: Option<i64>,
    /// Memory and swap together.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) swap: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) swappiness: Option<u64>,
    /// A change may ask for `false`; elsewhere that is `None`.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) disable_oom_killer: Option<bool>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) check_before_update: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct BlockIo {
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) weight: Option<u16>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) leaf_weight: Option<u16>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) weight_device: Vec<WeightDevice>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) read_bps: Vec<Throttle>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) write_bps: Vec<Throttle>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) read_iops: Vec<Throttle>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) write_iops: Vec<Throttle>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WeightDevice {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) weight: Option<u16>,
    pub(crate) leaf_weight: Option<u16>,
}

/// Rate 0 takes the limit of that device back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Throttle {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) rate: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hugepage {
    /// As the kernel names the files: `2MB`, `1GB`.
    pub(crate) size: String,
    pub(crate) limit: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Network {
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) class_id: Option<u32>,
    /// Interface and its priority.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) priorities: Vec<(String, u32)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Rdma {
    pub(crate) handles: Option<u32>,
    pub(crate) objects: Option<u32>,
}

impl Resources {
    /// What is enforced: everything denied, then the rules of config.json, then the devices that every container
    /// has (G4). The last ones come last because callers rely on a container's `/dev/null` whatever they deny.
    pub(crate) fn device_rules(&self) -> impl Iterator<Item = &DeviceRule> {
        self.devices.iter().chain(DeviceRule::STANDARD.iter())
    }
}

/// Checks `linux.resources` and turns it into [`Resources`].
pub(crate) fn plan(linux: &oci::LinuxResources) -> Result<Resources> {
    let mut out = Resources::default();
    if let Some(cpu) = linux.cpu() {
        out.cpu = plan_cpu(cpu)?;
    }
    if let Some(memory) = linux.memory() {
        out.memory = plan_memory(memory)?;
    }
    out.pids = linux.pids().as_ref().map(|pids| match pids.limit() {
        // Nothing could be started in a cgroup of no processes; runc reads 0 as 1 since 1.4.
        0 => 1,
        limit if limit < 0 => -1,
        limit => limit,
    });
    if let Some(io) = linux.block_io() {
        out.block_io = plan_block_io(io)?;
    }
    for (i, page) in linux.hugepage_limits().iter().flatten().enumerate() {
        let field = format!("linux.resources.hugepageLimits[{i}]");
        let size = page.page_size();
        ensure!(
            is_page_size(size),
            "{field}.pageSize: `{size}` is not of the form 64KB, 2MB or 1GB"
        );
        let limit = u64::try_from(page.limit()).with_context(|| format!("{field}.limit"))?;
        out.hugepages.push(Hugepage {
            size: size.clone(),
            limit,
        });
    }
    if let Some(network) = linux.network() {
        out.network.class_id = network.class_id().filter(|&id| id != 0);
        for (i, p) in network.priorities().iter().flatten().enumerate() {
            let field = format!("linux.resources.network.priorities[{i}].name");
            plain_word(&field, p.name())?;
            out.network
                .priorities
                .push((p.name().clone(), p.priority()));
        }
    }
    for (device, limit) in linux.rdma().iter().flatten() {
        plain_word("linux.resources.rdma", device)?;
        let limit = Rdma {
            handles: limit.hca_handles(),
            objects: limit.hca_objects(),
        };
        out.rdma.insert(device.clone(), limit);
    }
    for (file, value) in linux.unified().iter().flatten() {
        check_unified(file, value)?;
        out.unified.insert(file.clone(), value.clone());
    }
    for (i, rule) in linux.devices().iter().flatten().enumerate() {
        let rule =
            DeviceRule::from_oci(rule).with_context(|| format!("linux.resources.devices[{i}]"))?;
        out.devices.push(rule);
    }
    Ok(out)
}

fn plan_cpu(cpu: &oci::LinuxCpu) -> Result<Cpu> {
    if let Some(idle) = cpu.idle() {
        ensure!(
            (0..=1).contains(&idle),
            "linux.resources.cpu.idle: {idle} is neither 0 nor 1"
        );
    }
    Ok(Cpu {
        shares: cpu.shares().filter(|&v| v != 0),
        quota: cpu.quota().filter(|&v| v != 0),
        period: cpu.period().filter(|&v| v != 0),
        burst: cpu.burst(),
        realtime_runtime: cpu.realtime_runtime().filter(|&v| v != 0),
        realtime_period: cpu.realtime_period().filter(|&v| v != 0),
        idle: cpu.idle(),
        cpus: list("linux.resources.cpu.cpus", cpu.cpus().as_deref())?,
        mems: list("linux.resources.cpu.mems", cpu.mems().as_deref())?,
    })
}

fn plan_memory(memory: &oci::LinuxMemory) -> Result<Memory> {
    // `kernel` and `kernelTCP` are not taken over: the kernel dropped these limits (5.4, 5.16), runc ignores them,
    // and engines still send them. `useHierarchy` is what every kernel since 5.11 does anyway.
    let swappiness = match memory.swappiness() {
        // Docker's -1, "not set", in an unsigned field.
        None | Some(u64::MAX) => None,
        Some(v) => {
            ensure!(
                v <= 100,
                "linux.resources.memory.swappiness: {v} is outside 0 to 100"
            );
            Some(v)
        }
    };
    Ok(Memory {
        limit: size("linux.resources.memory.limit", memory.limit())?,
        reservation: size("linux.resources.memory.reservation", memory.reservation())?,
        swap: size("linux.resources.memory.swap", memory.swap())?,
        swappiness,
        disable_oom_killer: memory.disable_oom_killer().filter(|&v| v),
        check_before_update: memory.check_before_update().filter(|&v| v),
    })
}

fn plan_block_io(io: &oci::LinuxBlockIo) -> Result<BlockIo> {
    let weight_of = |field: &str, v: Option<u16>| -> Result<Option<u16>> {
        match v {
            None | Some(0) => Ok(None),
            Some(v) => {
                ensure!(
                    (10..=1000).contains(&v),
                    "{field}: {v} is outside 10 to 1000"
                );
                Ok(Some(v))
            }
        }
    };
    let mut weights = Vec::new();
    for (i, d) in io.weight_device().iter().flatten().enumerate() {
        let field = format!("linux.resources.blockIO.weightDevice[{i}]");
        let (major, minor) = device_number(&field, d.major(), d.minor())?;
        let weight = weight_of(&format!("{field}.weight"), d.weight())?;
        let leaf_weight = weight_of(&format!("{field}.leafWeight"), d.leaf_weight())?;
        weights.push(WeightDevice {
            major,
            minor,
            weight,
            leaf_weight,
        });
    }
    Ok(BlockIo {
        weight: weight_of("linux.resources.blockIO.weight", io.weight())?,
        leaf_weight: weight_of("linux.resources.blockIO.leafWeight", io.leaf_weight())?,
        weight_device: weights,
        read_bps: throttles(
            "throttleReadBpsDevice",
            io.throttle_read_bps_device().as_deref(),
        )?,
        write_bps: throttles(
            "throttleWriteBpsDevice",
            io.throttle_write_bps_device().as_deref(),
        )?,
        read_iops: throttles(
            "throttleReadIOPSDevice",
            io.throttle_read_iops_device().as_deref(),
        )?,
        write_iops: throttles(
            "throttleWriteIOPSDevice",
            io.throttle_write_iops_device().as_deref(),
        )?,
    })
}

fn throttles(field: &str, devices: Option<&[oci::LinuxThrottleDevice]>) -> Result<Vec<Throttle>> {
    let mut out = Vec::new();
    for (i, d) in devices.into_iter().flatten().enumerate() {
        let field = format!("linux.resources.blockIO.{field}[{i}]");
        let (major, minor) = device_number(&field, d.major(), d.minor())?;
        out.push(Throttle {
            major,
            minor,
            rate: d.rate(),
        });
    }
    Ok(out)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Result<Resources> {
        plan(&serde_json::from_str(json).unwrap())
    }

    fn refused(json: &str) -> String {
        format!("{:#}", planned(json).unwrap_err())
    }

    #[test]
    fn zero_means_unset() {
        let r = planned(
            r#"{"cpu":{"shares":0,"quota":0,"period":0,"cpus":""},"memory":{"limit":0,"swappiness":18446744073709551615},
                "blockIO":{"weight":0}}"#,
        );
        assert_eq!(r.unwrap(), Resources::default());
    }

    #[test]
    fn pids_limit_zero_is_one_and_negative_is_none() {
        assert_eq!(planned(r#"{"pids":{"limit":0}}"#).unwrap().pids, Some(1));
        assert_eq!(planned(r#"{"pids":{"limit":-5}}"#).unwrap().pids, Some(-1));
        assert_eq!(planned(r#"{"pids":{"limit":7}}"#).unwrap().pids, Some(7));
        assert_eq!(planned("{}").unwrap().pids, None);
    }

    #[test]
    fn errors_name_the_json_path() {
        for (json, path) in [
            (
                r#"{"memory":{"limit":-2}}"#,
                "linux.resources.memory.limit: -2",
            ),
            (
                r#"{"memory":{"swappiness":101}}"#,
                "linux.resources.memory.swappiness: 101",
            ),
            (r#"{"cpu":{"idle":2}}"#, "linux.resources.cpu.idle: 2"),
            (r#"{"cpu":{"cpus":"0\n1"}}"#, "linux.resources.cpu.cpus:"),
            (
                r#"{"blockIO":{"weight":5}}"#,
                "linux.resources.blockIO.weight: 5",
            ),
            (
                r#"{"blockIO":{"throttleReadIOPSDevice":[{"major":8,"minor":-1,"rate":1}]}}"#,
                "linux.resources.blockIO.throttleReadIOPSDevice[0].minor: -1",
            ),
            (
                r#"{"hugepageLimits":[{"pageSize":"../x","limit":1}]}"#,
                "linux.resources.hugepageLimits[0].pageSize: `../x`",
            ),
            (
                r#"{"hugepageLimits":[{"pageSize":"2MB","limit":-1}]}"#,
                "linux.resources.hugepageLimits[0].limit",
            ),
            (
                r#"{"unified":{"../memory.max":"1"}}"#,
                "linux.resources.unified: `../memory.max`",
            ),
            (
                r#"{"unified":{"memory":"1"}}"#,
                "linux.resources.unified: `memory`",
            ),
            (
                r#"{"unified":{"cgroup.kill":"1"}}"#,
                "linux.resources.unified: `cgroup.kill`",
            ),
            (
                r#"{"devices":[{"allow":true,"type":"c"}]}"#,
                "linux.resources.devices[0]: ",
            ),
        ] {
            let text = refused(json);
            assert!(text.starts_with(path), "{json}: {text}");
        }
    }

    #[test]
    fn state_keeps_everything_and_nothing_unset() {
        let r = planned(
            r#"{"cpu":{"shares":512,"burst":0},"memory":{"limit":-1,"disableOOMKiller":true},"pids":{"limit":3},
                "rdma":{"mlx":{"hcaHandles":2}},"unified":{"memory.high":"9"},
                "network":{"priorities":[{"name":"lo","priority":1}]},
                "devices":[{"allow":true,"type":"c","major":10,"access":"rw"}]}"#,
        )
        .unwrap();
        let text = serde_json::to_string(&r).unwrap();
        assert_eq!(serde_json::from_str::<Resources>(&text).unwrap(), r);
        assert_eq!(serde_json::to_string(&Resources::default()).unwrap(), "{}");
    }

    #[test]
    fn standard_devices_are_always_there() {
        let r = planned(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#).unwrap();
        assert_eq!(r.devices.len(), 1);
        let texts: Vec<String> = r.device_rules().map(|d| String::from(d.clone())).collect();
        assert_eq!(texts[0], "deny a *:* rwm");
        assert!(texts.contains(&"allow c 1:3 rwm".to_owned()));
    }
}
