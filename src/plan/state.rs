//! The container state that hooks read on stdin (runtime-spec, runtime.md "State"; config.md "POSIX-platform Hooks"), and the one
//! of a process that a seccomp agent reads (config-linux.md "The Container Process State").

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// The newest runtime-spec whose fields are all known (applied or refused by name).
pub(crate) const SPEC_VERSION: &str = "1.3.0";

/// The parts of the state that never change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) oci_version: String,
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    pid: i32,
    bundle: &'a std::path::Path,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde wants a reference
fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

/// A process whose calls an agent answers.
pub(crate) struct Filtered<'a> {
    /// As the host sees it, like `init`.
    pub(crate) pid: i32,
    pub(crate) init: i32,
    /// The container's.
    pub(crate) status: &'a str,
    pub(crate) metadata: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessDocument<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
    state: Document<'a>,
}

impl State {
    /// The document for one moment: `status` as the specification names it, `pid` of the init as the host sees it, 0 when
    /// there is none any more.
    pub(crate) fn json(&self, status: &str, pid: i32) -> Result<Vec<u8>> {
        serde_json::to_vec(&self.document(status, pid)).context("write the state for hooks")
    }

    /// What goes to the agent with the notify descriptor.
    pub(crate) fn process_json(&self, process: &Filtered<'_>) -> Result<Vec<u8>> {
        let document = ProcessDocument {
            oci_version: SPEC_VERSION,
            fds: ["seccompFd"],
            pid: process.pid,
            metadata: process.metadata,
            state: self.document(process.status, process.init),
        };
        serde_json::to_vec(&document).context("write the state for the seccomp agent")
    }

    fn document<'a>(&'a self, status: &'a str, pid: i32) -> Document<'a> {
        Document {
            oci_version: &self.oci_version,
            id: &self.id,
            status,
            pid,
            bundle: &self.bundle,
            annotations: &self.annotations,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_s_document_is_the_specification_s() {
        let state = State {
            oci_version: "1.0.2".to_owned(),
            id: "c".to_owned(),
            bundle: "/b".into(),
            annotations: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        };
        let mut process = Filtered {
            pid: 8,
            init: 7,
            status: "running",
            metadata: Some("m"),
        };
        let text = String::from_utf8(state.process_json(&process).unwrap()).unwrap();
        assert_eq!(
            text,
            r#"{"ociVersion":"1.3.0","fds":["seccompFd"],"pid":8,"metadata":"m","state":{"ociVersion":"1.0.2","id":"c","status":"running","pid":7,"bundle":"/b","annotations":{"k":"v"}}}"#
        );
        process.metadata = None;
        let text = String::from_utf8(state.process_json(&process).unwrap()).unwrap();
        assert!(!text.contains("metadata"), "{text}");
    }
}
