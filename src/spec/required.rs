//! What the specification calls REQUIRED and oci_spec takes for 0 or false when it is not there, and the two fields it has
//! under another name. A second, light pass over the text, which reads nothing but these. Called by `spec`.

use std::fmt::Formatter;
use std::marker::PhantomData;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Of config.json. That it can be read is the check; but for the flags nobody asks for the values.
#[derive(Deserialize)]
pub(super) struct Config {
    #[serde(rename = "process")]
    _process: Option<Process>,
    #[serde(rename = "mounts")]
    _mounts: Option<Each<Mount>>,
    linux: Option<Linux>,
}

impl Config {
    /// `enableCMT` and `enableMBM`, which are `enableMonitoring` since 1.3.
    pub(super) fn asks_for_monitoring(&self) -> bool {
        let rdt = self.linux.as_ref().and_then(|linux| linux.rdt.as_ref());
        rdt.is_some_and(|rdt| rdt.cmt == Some(true) || rdt.mbm == Some(true))
    }
}

/// A list of which each element is read and none is kept: there may be thousands of mounts.
struct Each<T>(PhantomData<T>);

impl<'a, T: Deserialize<'a>> Deserialize<'a> for Each<T> {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Each(PhantomData))
    }
}

impl<'a, T: Deserialize<'a>> Visitor<'a> for Each<T> {
    type Value = Self;

    fn expecting(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<T>()?.is_some() {}
        Ok(self)
    }
}

#[derive(Deserialize)]
pub(super) struct Process {
    #[serde(rename = "consoleSize")]
    _console_size: Option<Size>,
    #[serde(rename = "rlimits")]
    _rlimits: Option<Vec<Rlimit>>,
    #[serde(rename = "ioPriority")]
    _io_priority: Option<IoPriority>,
}

#[derive(Deserialize)]
struct Size {
    #[serde(rename = "height")]
    _height: IgnoredAny,
    #[serde(rename = "width")]
    _width: IgnoredAny,
}

#[derive(Deserialize)]
struct Rlimit {
    #[serde(rename = "soft")]
    _soft: IgnoredAny,
    #[serde(rename = "hard")]
    _hard: IgnoredAny,
}

#[derive(Deserialize)]
struct IoPriority {
    #[serde(rename = "class")]
    _class: IgnoredAny,
}

#[derive(Deserialize)]
struct Mount {
    #[serde(rename = "uidMappings")]
    _uid_mappings: Option<Vec<Mapping>>,
    #[serde(rename = "gidMappings")]
    _gid_mappings: Option<Vec<Mapping>>,
}

#[derive(Deserialize)]
struct Mapping {
    #[serde(rename = "containerID")]
    _container: IgnoredAny,
    #[serde(rename = "hostID")]
    _host: IgnoredAny,
    #[serde(rename = "size")]
    _size: IgnoredAny,
}

#[derive(Deserialize)]
struct Linux {
    #[serde(rename = "uidMappings")]
    _uid_mappings: Option<Vec<Mapping>>,
    #[serde(rename = "gidMappings")]
    _gid_mappings: Option<Vec<Mapping>>,
    #[serde(rename = "resources")]
    _resources: Option<Resources>,
    #[serde(rename = "intelRdt")]
    rdt: Option<Rdt>,
}

#[derive(Deserialize)]
struct Rdt {
    #[serde(rename = "enableCMT")]
    cmt: Option<bool>,
    #[serde(rename = "enableMBM")]
    mbm: Option<bool>,
}

#[derive(Deserialize)]
struct Resources {
    #[serde(rename = "devices")]
    _devices: Option<Vec<DeviceRule>>,
    #[serde(rename = "blockIO")]
    _block_io: Option<BlockIo>,
    #[serde(rename = "hugepageLimits")]
    _hugepages: Option<Vec<Hugepages>>,
    #[serde(rename = "network")]
    _network: Option<Network>,
}

#[derive(Deserialize)]
struct DeviceRule {
    #[serde(rename = "allow")]
    _allow: IgnoredAny,
}

#[derive(Deserialize)]
struct BlockIo {
    #[serde(rename = "weightDevice")]
    _weights: Option<Vec<Numbers>>,
    #[serde(rename = "throttleReadBpsDevice")]
    _read_bps: Option<Vec<Numbers>>,
    #[serde(rename = "throttleWriteBpsDevice")]
    _write_bps: Option<Vec<Numbers>>,
    #[serde(rename = "throttleReadIOPSDevice")]
    _read_iops: Option<Vec<Numbers>>,
    #[serde(rename = "throttleWriteIOPSDevice")]
    _write_iops: Option<Vec<Numbers>>,
}

#[derive(Deserialize)]
struct Numbers {
    #[serde(rename = "major")]
    _major: IgnoredAny,
    #[serde(rename = "minor")]
    _minor: IgnoredAny,
}

#[derive(Deserialize)]
struct Hugepages {
    #[serde(rename = "limit")]
    _limit: IgnoredAny,
}

#[derive(Deserialize)]
struct Network {
    #[serde(rename = "priorities")]
    _priorities: Option<Vec<Priority>>,
}

#[derive(Deserialize)]
struct Priority {
    #[serde(rename = "priority")]
    _priority: IgnoredAny,
}
