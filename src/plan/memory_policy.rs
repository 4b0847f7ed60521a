//! `linux.memoryPolicy` as set_mempolicy(2) takes it. Pure. Built by `plan`, kept in the record for `exec`, carried out by
//! `init/attributes.rs`.

use anyhow::{Context as _, Result, ensure};
use oci_spec::runtime::{
    Linux, LinuxMemoryPolicy, MemoryPolicyFlagType as Flag, MemoryPolicyModeType as Mode,
};
use serde::{Deserialize, Serialize};

use super::id_list;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemoryPolicy {
    /// The name in config.json, for messages.
    pub(crate) name: String,
    /// With its flags.
    pub(crate) mode: u32,
    pub(crate) nodes: Vec<u64>,
}

pub(super) fn plan(linux: &Linux) -> Result<Option<MemoryPolicy>> {
    linux.memory_policy().as_ref().map(one).transpose()
}

fn one(given: &LinuxMemoryPolicy) -> Result<MemoryPolicy> {
    let nodes = id_list::parse(given.nodes().as_deref().unwrap_or_default())
        .context("linux.memoryPolicy.nodes")?;
    let mode = given.mode();
    match mode {
        Mode::MpolDefault | Mode::MpolLocal => ensure!(
            nodes.is_empty(),
            "linux.memoryPolicy.nodes: {mode} takes no nodes"
        ),
        // None is the same as local allocation.
        Mode::MpolPreferred => {}
        Mode::MpolBind
        | Mode::MpolInterleave
        | Mode::MpolPreferredMany
        | Mode::MpolWeightedInterleave => ensure!(
            !nodes.is_empty(),
            "linux.memoryPolicy.nodes: {mode} needs at least one node"
        ),
    }
    let given_flags = given.flags().iter().flatten();
    let flags = given_flags.fold(0, |flags, flag| flags | flag_bit(*flag));
    ensure!(
        flags & (STATIC | RELATIVE) != STATIC | RELATIVE,
        "linux.memoryPolicy.flags: MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other"
    );
    ensure!(
        flags & NUMA_BALANCING == 0 || matches!(mode, Mode::MpolBind | Mode::MpolPreferredMany),
        "linux.memoryPolicy.flags: MPOL_F_NUMA_BALANCING is for MPOL_BIND and MPOL_PREFERRED_MANY, not for {mode}"
    );
    ensure!(
        flags & (STATIC | RELATIVE) == 0 || !nodes.is_empty(),
        "linux.memoryPolicy.flags: a flag about nodes without nodes"
    );
    Ok(MemoryPolicy {
        name: mode.to_string(),
        mode: mode_number(mode) | flags,
        nodes,
    })
}

/// linux/mempolicy.h.
fn mode_number(mode: Mode) -> u32 {
    match mode {
        Mode::MpolDefault => 0,
        Mode::MpolPreferred => 1,
        Mode::MpolBind => 2,
        Mode::MpolInterleave => 3,
        Mode::MpolLocal => 4,
        Mode::MpolPreferredMany => 5,
        Mode::MpolWeightedInterleave => 6,
    }
}

const STATIC: u32 = 1 << 15;
const RELATIVE: u32 = 1 << 14;
const NUMA_BALANCING: u32 = 1 << 13;

fn flag_bit(flag: Flag) -> u32 {
    match flag {
        Flag::MpolFStaticNodes => STATIC,
        Flag::MpolFRelativeNodes => RELATIVE,
        Flag::MpolFNumaBalancing => NUMA_BALANCING,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<MemoryPolicy> {
        let linux: Linux = serde_json::from_str(&format!(r#"{{"memoryPolicy":{json}}}"#)).unwrap();
        plan(&linux).map(Option::unwrap)
    }

    #[test]
    fn modes_and_flags_have_the_kernels_numbers() {
        for (json, mode, nodes) in [
            (r#"{"mode":"MPOL_DEFAULT"}"#, 0, vec![]),
            (r#"{"mode":"MPOL_PREFERRED","nodes":""}"#, 1, vec![]),
            (
                r#"{"mode":"MPOL_BIND","nodes":"0,2","flags":["MPOL_F_STATIC_NODES","MPOL_F_NUMA_BALANCING"]}"#,
                2 | 0xa000,
                vec![5],
            ),
            (
                r#"{"mode":"MPOL_INTERLEAVE","nodes":"0-1","flags":["MPOL_F_RELATIVE_NODES"]}"#,
                3 | 0x4000,
                vec![3],
            ),
            (r#"{"mode":"MPOL_LOCAL"}"#, 4, vec![]),
            (r#"{"mode":"MPOL_PREFERRED_MANY","nodes":"1"}"#, 5, vec![2]),
            (
                r#"{"mode":"MPOL_WEIGHTED_INTERLEAVE","nodes":"64"}"#,
                6,
                vec![0, 1],
            ),
        ] {
            let planned = of(json).unwrap();
            assert_eq!((planned.mode, planned.nodes), (mode, nodes), "{json}");
        }
    }

    #[test]
    fn nodes_and_flags_must_suit_the_mode() {
        for (json, wanted) in [
            (
                r#"{"mode":"MPOL_LOCAL","nodes":"0"}"#,
                "nodes: MPOL_LOCAL takes no nodes",
            ),
            (
                r#"{"mode":"MPOL_BIND"}"#,
                "nodes: MPOL_BIND needs at least one node",
            ),
            (
                r#"{"mode":"MPOL_BIND","nodes":"x"}"#,
                "nodes: `x` is not a list",
            ),
            (
                r#"{"mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_STATIC_NODES","MPOL_F_RELATIVE_NODES"]}"#,
                "flags: MPOL_F_STATIC_NODES and",
            ),
            (
                r#"{"mode":"MPOL_INTERLEAVE","nodes":"0","flags":["MPOL_F_NUMA_BALANCING"]}"#,
                "flags: MPOL_F_NUMA_BALANCING is for",
            ),
            (
                r#"{"mode":"MPOL_DEFAULT","flags":["MPOL_F_STATIC_NODES"]}"#,
                "flags: a flag about nodes",
            ),
        ] {
            let text = format!("{:#}", of(json).unwrap_err());
            assert!(
                text.starts_with(&format!("linux.memoryPolicy.{wanted}")),
                "{text}"
            );
        }
    }
}
