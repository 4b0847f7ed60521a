//! What cgroup files said before they were written, so that an update that fails half way can be taken back. Called by
//! `Cgroup::update` alone. What a file shows is not always what it takes; the difference is known here.

use anyhow::Result;
use nix::errno::Errno;

use super::dir::{Dir, keyed};
use super::write::Write;

/// Old values, in the order in which they will be written over.
#[derive(Debug, Default)]
pub(crate) struct Undo<'a> {
    files: Vec<Saved<'a>>,
}

#[derive(Debug)]
struct Saved<'a> {
    dir: &'a Dir,
    file: String,
    /// What is about to be written: it says which device's line is meant.
    new: String,
    old: String,
}

impl<'a> Undo<'a> {
    /// Reads what `list` is about to change. A file that is not there, or can not be read, is not there to be set back.
    pub(crate) fn save(&mut self, dir: &'a Dir, list: &[Write]) {
        for (file, new) in list.iter().flat_map(Write::targets) {
            let Some(old) = dir.read(file).ok().and_then(|text| old(file, new, &text)) else {
                continue;
            };
            self.files.push(Saved {
                dir,
                file: file.to_owned(),
                new: new.to_owned(),
                old,
            });
        }
    }

    /// Sets everything back, last written first; goes on after a failure and tells the first.
    pub(crate) fn restore(&self) -> Result<()> {
        // The kernel checks some values against others: what is refused is tried again after the rest.
        let refused: Vec<&Saved<'_>> = self
            .files
            .iter()
            .rev()
            .filter(|saved| saved.restore().is_err())
            .collect();
        let mut result = Ok(());
        for saved in refused {
            result = result.and(saved.restore());
        }
        result
    }
}

impl Saved<'_> {
    fn restore(&self) -> Result<()> {
        let now = self.dir.read(&self.file).ok();
        let now = now.and_then(|text| old(&self.file, &self.new, &text));
        if now.as_ref() == Some(&self.old) {
            return Ok(());
        }
        self.dir.write_named(&self.file, &self.old)
    }
}

/// The value that, written to `file`, makes again what `text`, its content, shows of what writing `new` changes.
fn old(file: &str, new: &str, text: &str) -> Option<String> {
    let text = text.trim_end();
    if file == "memory.oom_control" {
        return keyed(text, "oom_kill_disable").map(|v| v.to_string());
    }
    if matches!(file, "cpu.weight" | "cpu.shares") && matches!(text, "0" | "3") {
        // An idle group's, which comes with cpu.idle and can not be written.
        return None;
    }
    let is_table = file.starts_with("io.")
        || file.starts_with("blkio.")
        || file.starts_with("dmem.")
        || matches!(file, "rdma.max" | "misc.max" | "net_prio.ifpriomap");
    if !is_table {
        // A write of nothing does nothing; a line without anything empties a list.
        let value = if text.is_empty() { "\n" } else { text };
        return Some(value.to_owned());
    }
    let key = match new.split_once(' ') {
        Some((key, _)) => key,
        None => "default",
    };
    let line = text
        .lines()
        .find(|line| line.split(' ').next() == Some(key));
    if let Some(line) = line {
        return Some(line.to_owned());
    }
    if key == "default" {
        return Some(text.to_owned());
    }
    let unset = match file {
        "io.max" => "rbps=max wbps=max riops=max wiops=max",
        "rdma.max" => "hca_handle=max hca_object=max",
        _ if file.contains(".throttle.") => "0",
        _ => "default",
    };
    Some(format!("{key} {unset}"))
}

/// What was wrong first, and what became of the values that were set before it.
pub(crate) fn taken_back(error: anyhow::Error, undone: Result<()>) -> anyhow::Error {
    match undone {
        Ok(()) => error.context("no limit was changed"),
        Err(undo) => {
            let gone = undo.downcast_ref() == Some(&Errno::ENODEV);
            let why = if gone {
                "the cgroup is gone".to_owned()
            } else {
                crate::error::chain(&undo)
            };
            error.context(format!(
                "some limits were changed and could not be set back ({why})"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_takes_to_be_as_it_was() {
        for (file, new, text, expected) in [
            ("memory.max", "5", "max\n", Some("max")),
            ("cpu.max", "5000 10000", "max 100000\n", Some("max 100000")),
            ("cpuset.cpus", "0", "\n", Some("\n")),
            (
                "memory.oom_control",
                "1",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n",
                Some("0"),
            ),
            ("cpu.weight", "100", "0\n", None),
            (
                "io.max",
                "8:0 rbps=1",
                "8:0 rbps=max wbps=7 riops=max wiops=max\n",
                Some("8:0 rbps=max wbps=7 riops=max wiops=max"),
            ),
            (
                "io.max",
                "8:16 rbps=1",
                "8:0 rbps=max wbps=7 riops=max wiops=max\n",
                Some("8:16 rbps=max wbps=max riops=max wiops=max"),
            ),
            (
                "io.weight",
                "300",
                "default 100\n8:0 50\n",
                Some("default 100"),
            ),
            (
                "io.weight",
                "8:0 300",
                "default 100\n8:0 50\n",
                Some("8:0 50"),
            ),
            (
                "io.bfq.weight",
                "8:1 300",
                "default 100\n",
                Some("8:1 default"),
            ),
            ("blkio.bfq.weight", "300", "100\n", Some("100")),
            (
                "blkio.throttle.read_bps_device",
                "8:0 5",
                "8:1 9\n",
                Some("8:0 0"),
            ),
            ("net_prio.ifpriomap", "lo 3", "lo 0\neth0 1\n", Some("lo 0")),
        ] {
            assert_eq!(old(file, new, text).as_deref(), expected, "{file} {new}");
        }
    }

    #[test]
    fn restoring_skips_what_did_not_change() {
        let tmp = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let mut options = std::fs::File::options();
            let file = options
                .create(true)
                .truncate(false)
                .write(true)
                .open(tmp.path().join(name));
            std::io::Write::write_all(&mut file.unwrap(), text.as_bytes()).unwrap();
        };
        put("memory.max", "7\n");
        put("pids.max", "9\n");
        let dir = Dir::mount(tmp.path()).unwrap();
        let list = [
            Write::new("memory", "memory.limit", "memory.max", 5),
            Write::new("pids", "pids.limit", "pids.max", 5),
            Write::new("cpu", "cpu.idle", "cpu.idle", 1),
        ];
        let mut undo = Undo::default();
        undo.save(&dir, &list);
        put("pids.max", "5\n");
        undo.restore().unwrap();
        assert_eq!(dir.read("memory.max").unwrap(), "7\n");
        assert_eq!(dir.read("pids.max").unwrap(), "9\n");
    }
}
