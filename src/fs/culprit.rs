//! Who holds something up, for the message of a wait whose time is over: the process with its state and what it waits in, its
//! cgroup, and who has locked a file. Called by everybody who waits; what cannot be read is left out.

use std::path::Path;

use nix::sys::stat::FileStat;

use super::small::read_text;

/// `4711 (name, state D, waiting in `folio_wait_bit`)`; the number alone where there is no such process.
pub(crate) fn process(pid: i32) -> String {
    let read = |file: &str| read_text(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let stat = read("stat");
    let Some((_, rest)) = stat.split_once('(') else {
        return pid.to_string();
    };
    let (command, rest) = rest.rsplit_once(')').unwrap_or(("?", " ?"));
    let state = rest.split_whitespace().next().unwrap_or("?");
    let waits = match read("wchan") {
        place if place.is_empty() || place == "0" => String::new(),
        place => format!(", waiting in `{place}`"),
    };
    format!("{pid} ({}, state {state}{waits})", command.escape_debug())
}

/// The same with its cgroup, where that is not known from elsewhere in the message.
pub(crate) fn process_in_cgroup(pid: i32) -> String {
    let table = read_text(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    // On v1 all hierarchies have the container in the same place; that of pids is always there.
    let lines = || table.lines();
    let line = (lines().find(|line| line.contains(":pids:")))
        .or_else(|| lines().find(|line| line.starts_with("0::")));
    match line.and_then(|line| line.splitn(3, ':').nth(2)) {
        Some(cgroup) => format!("{} in cgroup `{}`", process(pid), cgroup.escape_debug()),
        None => process(pid),
    }
}

/// Who has a lock of flock(2) on the file; none where that cannot be seen from here.
pub(crate) fn lock_holder(file: &FileStat) -> Option<String> {
    let (major, minor) = (
        nix::sys::stat::major(file.st_dev),
        nix::sys::stat::minor(file.st_dev),
    );
    let place = format!("{major:02x}:{minor:02x}:{}", file.st_ino);
    let table = read_text(Path::new("/proc/locks")).ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let pid = fields.get(4)?.parse().ok().filter(|pid| *pid > 0)?;
        let is_it = fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&place.as_str());
        is_it.then(|| process(pid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described() {
        let own = std::process::id().cast_signed();
        assert!(process(own).starts_with(&format!("{own} (")));
        assert!(process(own).contains(", state "), "{}", process(own));
        assert!(process_in_cgroup(own).contains(" in cgroup `/"));
        assert_eq!(process_in_cgroup(i32::MAX), i32::MAX.to_string());
    }

    #[test]
    fn a_lock_has_its_holder() {
        let file = tempfile::tempfile().unwrap();
        let stat = nix::sys::stat::fstat(&file).unwrap();
        assert_eq!(lock_holder(&stat), None);
        let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).unwrap();
        let holder = lock_holder(&stat).unwrap_or_default();
        assert!(
            holder.starts_with(&format!("{} (", std::process::id())),
            "{holder}"
        );
        drop(lock);
    }
}
