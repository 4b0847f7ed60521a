//! `hooks` of config.json as plain data. Pure. Stored in the container's record, because poststop runs long after config.json
//! was read (V2); carried out by `hooks`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use oci_spec::runtime as oci;
use serde::{Deserialize, Serialize};

/// The six lists. Each runs in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Hooks {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) prestart: Vec<Hook>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) create_runtime: Vec<Hook>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) create_container: Vec<Hook>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) start_container: Vec<Hook>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) poststart: Vec<Hook>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) poststop: Vec<Hook>,
}

/// One program. No string holds a null byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hook {
    /// Absolute.
    pub(crate) path: String,
    /// With the program's own name; never empty.
    pub(crate) args: Vec<String>,
    /// `None`: the object had no `env`, which differs from an empty one for startContainer alone (H1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) env: Option<Vec<String>>,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<u32>,
}

impl Hook {
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
            .map(|seconds| Duration::from_secs(seconds.into()))
    }
}

/// The most that these may take together; none where one has no timeout.
pub(crate) fn longest(hooks: &[Hook]) -> Option<Duration> {
    hooks.iter().map(Hook::timeout).sum()
}

impl Hooks {
    /// Whether the runtime has hooks to run between the mounts and the change of root.
    pub(crate) fn need_root_ready(&self) -> bool {
        !(self.prestart.is_empty() && self.create_runtime.is_empty())
    }
}

/// Plans the hooks; absent ones are empty lists.
pub(crate) fn plan(hooks: Option<&oci::Hooks>) -> Result<Hooks> {
    let Some(hooks) = hooks else {
        return Ok(Hooks::default());
    };
    // Deprecated, and used by every engine.
    #[allow(deprecated)]
    let prestart = hooks.prestart();
    Ok(Hooks {
        prestart: list(prestart.as_deref(), "prestart")?,
        create_runtime: list(hooks.create_runtime().as_deref(), "createRuntime")?,
        create_container: list(hooks.create_container().as_deref(), "createContainer")?,
        start_container: list(hooks.start_container().as_deref(), "startContainer")?,
        poststart: list(hooks.poststart().as_deref(), "poststart")?,
        poststop: list(hooks.poststop().as_deref(), "poststop")?,
    })
}

fn list(hooks: Option<&[oci::Hook]>, kind: &str) -> Result<Vec<Hook>> {
    hooks
        .unwrap_or_default()
        .iter()
        .enumerate()
        .map(|(i, hook)| one(hook, &format!("hooks.{kind}[{i}]")))
        .collect()
}

fn one(hook: &oci::Hook, at: &str) -> Result<Hook> {
    let path = hook
        .path()
        .to_str()
        .with_context(|| format!("{at}.path: not valid UTF-8"))?
        .to_owned();
    ensure!(
        path.starts_with('/'),
        "{at}.path: `{path}` is not an absolute path"
    );
    ensure!(
        !path.contains('\0'),
        "{at}.path: must not contain a null byte"
    );
    let args = match hook.args() {
        Some(args) if !args.is_empty() => args.clone(),
        _ => vec![path.clone()],
    };
    let env = hook.env().clone();
    for (field, strings) in [
        ("args", args.as_slice()),
        ("env", env.as_deref().unwrap_or_default()),
    ] {
        let null = strings.iter().position(|text| text.contains('\0'));
        ensure!(
            null.is_none(),
            "{at}.{field}[{}]: must not contain a null byte",
            null.unwrap_or_default()
        );
    }
    let timeout = match hook.timeout() {
        None => None,
        Some(seconds) => {
            ensure!(
                seconds > 0,
                "{at}.timeout: {seconds} is not greater than zero"
            );
            // More than 136 years are none the longer for being more.
            Some(u32::try_from(seconds).unwrap_or(u32::MAX))
        }
    };
    Ok(Hook {
        path,
        args,
        env,
        timeout,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Result<Hooks> {
        plan(Some(&serde_json::from_str(json).unwrap()))
    }

    #[test]
    fn all_lists_are_taken() {
        let hooks = planned(
            r#"{"prestart":[{"path":"/a"}], "createRuntime":[{"path":"/b","args":["b","x"],"env":[],"timeout":3}],
                "createContainer":[{"path":"/c","args":[]}], "startContainer":[{"path":"/d","env":["A=1","odd"]}],
                "poststart":[{"path":"/e"},{"path":"/f"}], "poststop":[{"path":"/g","timeout":9223372036854775807}]}"#,
        )
        .unwrap();
        assert_eq!(
            hooks.prestart[0],
            Hook {
                path: "/a".into(),
                args: vec!["/a".into()],
                env: None,
                timeout: None
            }
        );
        assert_eq!(hooks.create_runtime[0].args, ["b", "x"]);
        assert_eq!(hooks.create_runtime[0].env, Some(vec![]));
        assert_eq!(
            hooks.create_runtime[0].timeout(),
            Some(Duration::from_secs(3))
        );
        assert_eq!(hooks.create_container[0].args, ["/c"]);
        assert_eq!(
            hooks.start_container[0].env.as_deref().unwrap(),
            ["A=1", "odd"]
        );
        assert_eq!(
            (hooks.poststart.len(), hooks.poststop[0].timeout),
            (2, Some(u32::MAX))
        );
        assert!(hooks.need_root_ready());
        let stored = serde_json::to_string(&hooks).unwrap();
        assert_eq!(serde_json::from_str::<Hooks>(&stored).unwrap(), hooks);
    }

    #[test]
    fn absent_hooks_are_empty() {
        assert_eq!(plan(None).unwrap(), Hooks::default());
        assert!(
            !planned(r#"{"poststop":[{"path":"/g"}]}"#)
                .unwrap()
                .need_root_ready()
        );
        assert_eq!(serde_json::to_string(&Hooks::default()).unwrap(), "{}");
    }

    #[test]
    fn errors_name_the_place() {
        for (json, wanted) in [
            (
                r#"{"prestart":[{"path":"x"}]}"#,
                "hooks.prestart[0].path: `x` is not an absolute path",
            ),
            (
                r#"{"poststop":[{"path":"/a"},{"path":"/b","timeout":0}]}"#,
                "hooks.poststop[1].timeout: 0 is not greater",
            ),
            (
                r#"{"poststart":[{"path":"/b","timeout":-5}]}"#,
                "hooks.poststart[0].timeout: -5 is not",
            ),
            (
                r#"{"createContainer":[{"path":"/b","args":["a","b\u0000"]}]}"#,
                "hooks.createContainer[0].args[1]: must not",
            ),
            (
                r#"{"createRuntime":[{"path":"/b","env":["b\u0000"]}]}"#,
                "hooks.createRuntime[0].env[0]: must not",
            ),
            (
                r#"{"createRuntime":[{"path":"/b\u0000"}]}"#,
                "hooks.createRuntime[0].path: must not",
            ),
        ] {
            let error = planned(json).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{error}");
        }
    }
}
