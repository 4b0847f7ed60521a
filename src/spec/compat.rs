//! Documents that runc takes and oci_spec 0.10 refuses or misreads: one function a gap.
//! Called by `spec` after a strict parse failed, on the document as a plain value; the normal case pays nothing.
//! Each returns what it changed in a way the user should hear of.

use oci_spec::runtime::{Capability, Spec};
use serde_json::{Map, Value, json};

pub(super) fn repair_config(document: &mut Value) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(process) = document.get_mut("process") {
        warnings = repair_process_at(process, "process.");
    }
    if let Some(linux) = document.get_mut("linux") {
        if let Some(resources) = linux.get_mut("resources") {
            null_pids_limit(resources);
        }
        null_net_devices(linux);
    }
    warnings
}

pub(super) fn repair_resources(document: &mut Value) -> Vec<String> {
    null_pids_limit(document);
    Vec::new()
}

pub(super) fn repair_process(document: &mut Value) -> Vec<String> {
    repair_process_at(document, "")
}

fn repair_process_at(process: &mut Value, path: &str) -> Vec<String> {
    absent_user(process);
    scheduler_flag_names(process);
    blank_cpu_affinity(process);
    unknown_capabilities(process, path)
}

/// True when `pids.limit` is 0: that may be the crate's word for "not there" (1.3 made it optional).
pub(super) fn pids_limit_reads_zero(spec: &Spec) -> bool {
    let resources = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.resources().as_ref());
    resources
        .and_then(|resources| resources.pids().as_ref())
        .is_some_and(|pids| pids.limit() == 0)
}

pub(super) fn has_pids_limit(bytes: &[u8], pointer: &str) -> bool {
    let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
    document
        .pointer(pointer)
        .is_some_and(|limit| !limit.is_null())
}

/// `pids: {}` sets no limit; only a written `"limit": 0` is one.
pub(super) fn unset_absent_pids_limit(spec: &mut Spec, bytes: &[u8]) {
    if has_pids_limit(bytes, "/linux/resources/pids/limit") {
        return;
    }
    let linux = spec.linux_mut().as_mut();
    if let Some(resources) = linux.and_then(|linux| linux.resources_mut().as_mut()) {
        resources.set_pids(None);
    }
}

/// What the crate knows as `enableCmt` and `enableMbm`, and so never reads.
pub(super) fn enable_monitoring(spec: &mut Spec) {
    let linux = spec.linux_mut().as_mut();
    if let Some(rdt) = linux.and_then(|linux| linux.intel_rdt_mut().as_mut()) {
        rdt.set_enable_monitoring(Some(true));
    }
}

/// The schema does not require it, and runc takes root.
fn absent_user(process: &mut Value) {
    if let Some(process) = process.as_object_mut() {
        process.entry("user").or_insert_with(|| json!({}));
    }
}

/// The specification writes these two with `_FLAG_` and `DL`; the crate expects other spellings.
fn scheduler_flag_names(process: &mut Value) {
    let flags = process
        .pointer_mut("/scheduler/flags")
        .and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => *flag = json!("SCHED_RESET_ON_FORK"),
            Some("SCHED_FLAG_DL_OVERRUN") => *flag = json!("SCHED_FLAG_D_L_OVERRUN"),
            _ => {}
        }
    }
}

/// An empty list of CPUs is the same as none, and the crate knows no blanks in it.
fn blank_cpu_affinity(process: &mut Value) {
    let Some(affinity) = object(process, "execCPUAffinity") else {
        return;
    };
    for key in ["initial", "final"] {
        let Some(Value::String(list)) = affinity.get_mut(key) else {
            continue;
        };
        list.retain(|c| !c.is_ascii_whitespace());
        if list.is_empty() {
            affinity.remove(key);
        }
    }
}

/// A capability this version has no name for can not be granted; engines newer than the runtime list such.
fn unknown_capabilities(process: &mut Value, path: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(sets) = object(process, "capabilities") else {
        return warnings;
    };
    for (set, names) in sets.iter_mut() {
        let Some(names) = names.as_array_mut() else {
            continue;
        };
        names.retain(|name| {
            let Some(text) = name.as_str() else {
                return true;
            };
            let known = serde_json::from_value::<Capability>(name.clone()).is_ok();
            if !known {
                warnings.push(format!(
                    "{path}capabilities.{set}: unknown capability `{text}` ignored"
                ));
            }
            known
        });
    }
    warnings
}

fn null_pids_limit(resources: &mut Value) {
    if let Some(resources) = resources.as_object_mut() {
        let limit = resources.get("pids").and_then(|pids| pids.get("limit"));
        if limit.is_some_and(Value::is_null) {
            resources.remove("pids");
        }
    }
}

fn null_net_devices(linux: &mut Value) {
    if let Some(devices) = object(linux, "netDevices") {
        for device in devices.values_mut().filter(|device| device.is_null()) {
            *device = json!({});
        }
    }
}

fn object<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    value.get_mut(key).and_then(Value::as_object_mut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{LinuxPids, LinuxSchedulerFlag, Process};

    /// The gap is still there in the crate, and the repaired document parses: when the first half fails, the
    /// crate was fixed and the repair can go.
    fn repaired_process(mut document: Value) -> (Process, Vec<String>) {
        assert!(
            serde_json::from_value::<Process>(document.clone()).is_err(),
            "gap closed"
        );
        let warnings = repair_process(&mut document);
        (serde_json::from_value(document).unwrap(), warnings)
    }

    #[test]
    fn scheduler_flags_as_the_specification_spells_them() {
        let (process, warnings) = repaired_process(json!({
            "cwd": "/", "user": {},
            "scheduler": {"policy": "SCHED_DEADLINE",
                "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_RECLAIM"]}
        }));
        let flags = process
            .scheduler()
            .as_ref()
            .unwrap()
            .flags()
            .clone()
            .unwrap();
        assert_eq!(
            flags,
            [
                LinuxSchedulerFlag::SchedResetOnFork,
                LinuxSchedulerFlag::SchedFlagDLOverrun,
                LinuxSchedulerFlag::SchedFlagReclaim
            ]
        );
        assert!(warnings.is_empty());
    }

    #[test]
    fn unknown_capabilities_go_with_a_warning_and_the_rest_stays() {
        let (process, warnings) = repaired_process(json!({
            "cwd": "/", "user": {},
            "capabilities": {"bounding": ["CAP_KILL", "CAP_FROM_TOMORROW"], "effective": null}
        }));
        let bounding = process
            .capabilities()
            .as_ref()
            .unwrap()
            .bounding()
            .clone()
            .unwrap();
        assert_eq!(bounding.len(), 1);
        assert!(bounding.contains(&Capability::Kill));
        assert_eq!(
            warnings,
            ["capabilities.bounding: unknown capability `CAP_FROM_TOMORROW` ignored"]
        );
    }

    #[test]
    fn empty_and_blank_cpu_lists() {
        let (process, _) = repaired_process(json!({
            "cwd": "/", "user": {}, "execCPUAffinity": {"initial": "", "final": "0-1, 3"}
        }));
        let affinity = process.exec_cpu_affinity().as_ref().unwrap();
        assert_eq!(affinity.initial().as_deref(), None);
        assert_eq!(affinity.cpu_affinity_final().as_deref(), Some("0-1,3"));
    }

    #[test]
    fn null_limit_and_null_network_device() {
        let mut document = json!({"linux": {
            "resources": {"pids": {"limit": null}}, "netDevices": {"eth0": null}
        }});
        assert!(serde_json::from_value::<Spec>(document.clone()).is_err());
        assert!(repair_config(&mut document).is_empty());
        let spec: Spec = serde_json::from_value(document).unwrap();
        let linux = spec.linux().as_ref().unwrap();
        assert!(linux.resources().as_ref().unwrap().pids().is_none());
        assert_eq!(linux.net_devices().as_ref().unwrap().len(), 1);
    }

    #[test]
    fn an_absent_pids_limit_is_unset_and_a_written_zero_stays() {
        for (text, left) in [
            (r#"{"linux":{"resources":{"pids":{}}}}"#, None),
            (r#"{"linux":{"resources":{"pids":{"limit":0}}}}"#, Some(0)),
        ] {
            let mut spec: Spec = serde_json::from_str(text).unwrap();
            assert!(pids_limit_reads_zero(&spec));
            unset_absent_pids_limit(&mut spec, text.as_bytes());
            let resources = spec
                .linux()
                .as_ref()
                .unwrap()
                .resources()
                .as_ref()
                .unwrap()
                .clone();
            assert_eq!(resources.pids().as_ref().map(LinuxPids::limit), left);
        }
    }

    #[test]
    fn values_of_a_wrong_type_are_left_for_the_parser_to_refuse() {
        for text in [
            "[]",
            r#"{"process":7,"linux":[]}"#,
            r#"{"process":{"user":{},"capabilities":{"bounding":[7]}}}"#,
        ] {
            let mut document: Value = serde_json::from_str(text).unwrap();
            let before = document.clone();
            repair_config(&mut document);
            assert_eq!(document, before);
        }
    }
}
