//! One value for one cgroup file, with the field of config.json it comes from, and the carrying out of a list of them.
//! The lists are made by pure functions (`v2::resources`, `v1::limits`); the messages of all failures are made here.

use std::borrow::Cow;

use anyhow::{Result, anyhow};
use nix::errno::Errno;

use super::dir::Dir;

/// A write to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) controller: &'static str,
    /// Below `linux.resources.`.
    pub(crate) field: Cow<'static, str>,
    pub(crate) file: Cow<'static, str>,
    pub(crate) value: String,
    pub(crate) rule: Rule,
}

/// What a failure of the write means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rule {
    Must,
    /// A missing file is all right: the value limits nothing.
    IfPresent,
    /// The kernel checks this value against another one of the list: on EINVAL it is tried again after them.
    AgainLast,
    /// If the file is missing, another file with another value is meant.
    Else {
        file: &'static str,
        value: String,
    },
}

impl Write {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers give numbers and strings"
    )]
    pub(crate) fn new(
        controller: &'static str,
        field: impl Into<Cow<'static, str>>,
        file: impl Into<Cow<'static, str>>,
        value: impl ToString,
    ) -> Self {
        Self {
            controller,
            field: field.into(),
            file: file.into(),
            value: value.to_string(),
            rule: Rule::Must,
        }
    }

    pub(crate) fn rule(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }

    /// The files that may be written, with the value each would get.
    pub(crate) fn targets(&self) -> impl Iterator<Item = (&str, &str)> {
        let other = match &self.rule {
            Rule::Else { file, value } => Some((*file, value.as_str())),
            _ => None,
        };
        std::iter::once((&*self.file, self.value.as_str())).chain(other)
    }

    fn carry_out(&self, dir: &Dir) -> nix::Result<()> {
        match (dir.write(&self.file, &self.value), &self.rule) {
            (Err(Errno::ENOENT), Rule::IfPresent) => Ok(()),
            (Err(Errno::ENOENT), Rule::Else { file, value }) => dir.write(file, value),
            (result, _) => result,
        }
    }

    /// Field, controller, file, value, errno, and for the known traps the likely cause.
    pub(crate) fn failed(&self, dir: &Dir, errno: Errno) -> anyhow::Error {
        let file = match &self.rule {
            Rule::Else { file, .. } => format!("{} and {file}", self.file),
            _ => self.file.to_string(),
        };
        let hint = match errno {
            Errno::ENOENT => " (hint: this kernel or its loaded modules do not offer it here)",
            Errno::EACCES | Errno::EPERM => " (hint: the runtime may not change it)",
            Errno::ERANGE | Errno::EINVAL => " (hint: the kernel does not take this value)",
            _ => "",
        };
        anyhow!(errno).context(format!(
            "linux.resources.{}: {} controller: write `{}` to `{dir}/{file}`{hint}",
            self.field, self.controller, self.value
        ))
    }
}

/// Carries out a list in its order.
pub(crate) fn write_all(dir: &Dir, list: &[Write]) -> Result<()> {
    let mut again = Vec::new();
    for write in list {
        match write.carry_out(dir) {
            Ok(()) => {}
            Err(Errno::EINVAL) if write.rule == Rule::AgainLast => again.push(write),
            Err(errno) => return Err(write.failed(dir, errno)),
        }
    }
    for write in again {
        write
            .carry_out(dir)
            .map_err(|errno| write.failed(dir, errno))?;
    }
    Ok(())
}

/// The value of an RDMA limit; the same file in both versions.
pub(crate) fn rdma(r: &crate::plan::resources::Resources) -> Vec<Write> {
    let one = |(device, limit): (&String, &crate::plan::resources::Rdma)| {
        let mut value = device.clone();
        for (key, n) in [("hca_handle", limit.handles), ("hca_object", limit.objects)] {
            if let Some(n) = n {
                value = format!("{value} {key}={n}");
            }
        }
        Write::new("rdma", format!("rdma.{device}"), "rdma.max", value)
    };
    r.rdma
        .iter()
        .filter(|(_, l)| l.handles.or(l.objects).is_some())
        .map(one)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(dir: &std::path::Path, name: &str) {
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.join(name))
            .unwrap();
    }

    #[test]
    fn missing_files() {
        let tmp = tempfile::tempdir().unwrap();
        put(tmp.path(), "io.weight");
        let dir = Dir::mount(tmp.path()).unwrap();
        let write = |rule| Write::new("io", "blockIO.weight", "io.bfq.weight", 10).rule(rule);
        write_all(&dir, &[write(Rule::IfPresent)]).unwrap();
        write_all(
            &dir,
            &[write(Rule::Else {
                file: "io.weight",
                value: "7".to_owned(),
            })],
        )
        .unwrap();
        assert_eq!(dir.read("io.weight").unwrap(), "7");
        let text = format!("{:#}", write_all(&dir, &[write(Rule::Must)]).unwrap_err());
        assert!(
            text.starts_with("linux.resources.blockIO.weight: io controller: write `10` to `/"),
            "{text}"
        );
        assert!(text.contains("No such file or directory"), "{text}");
    }
}
