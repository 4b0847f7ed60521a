//! The last words of CRIU's log for an error. Called by the rest of `criu` and `container`.

use std::io::BufReader;

use anyhow::{Error, Result, anyhow};

use super::Directory;

/// So many error lines of the log go into an error.
const LINES: usize = 4;
/// And so many bytes of each.
const WIDTH: usize = 300;

/// What CRIU gives as the reason, or how it ended: an error that its log explains.
#[derive(Debug)]
pub(super) struct Failed(pub(super) String);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "criu failed: {}", self.0)
    }
}

impl std::error::Error for Failed {}

impl Directory {
    /// An error of CRIU's with the last error lines of its log, and where the whole of it is; any other as it is.
    pub(crate) fn explain(&self, name: &str, error: Error) -> Error {
        let Some(Failed(reason)) = error.downcast_ref::<Failed>() else {
            return error;
        };
        let mut lines = self.last_errors(name).unwrap_or_default();
        // CRIU's answer often has one of these lines.
        if !lines.iter().any(|line| reason.contains(line)) {
            lines.insert(0, reason.clone());
        }
        let path = self.path_of(name);
        anyhow!(
            "criu failed: {} (its log is `{}`)",
            lines.join("; "),
            path.display()
        )
    }

    fn last_errors(&self, name: &str) -> Result<Vec<String>> {
        let file = std::fs::File::from(self.open_file(name)?);
        Ok(error_lines(&mut BufReader::new(file)))
    }
}

/// The last lines that CRIU marks as errors, without what could do harm on a terminal.
pub(crate) fn error_lines(log: &mut impl std::io::BufRead) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut line = Vec::new();
    while log
        .by_ref()
        .read_until(b'\n', &mut line)
        .is_ok_and(|read| read > 0)
    {
        let text = String::from_utf8_lossy(&line);
        // `(00.52) Error (criu/mount.c:12): what is wrong`
        if let Some((_, place_and_text)) = text.split_once("Error (") {
            let text = place_and_text
                .split_once("): ")
                .map_or("", |(_, text)| text);
            let shown = text.chars().filter(|c| !c.is_control()).take(WIDTH);
            if found.len() == LINES {
                found.remove(0);
            }
            found.push(shown.collect::<String>().trim().to_owned());
        }
        line.clear();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_errors_of_a_log() {
        let lines: Vec<_> = (0..6)
            .map(|line| {
                format!("(00.2) Error (criu/mount.c:{line}): no\x1b[2J mapping\n(00.3) fine\n")
            })
            .collect();
        let log = lines.concat();
        let found = error_lines(&mut log.as_bytes());
        assert_eq!(found.len(), LINES);
        assert_eq!(found[3], "no[2J mapping");
        assert!(error_lines(&mut &b"all well\n\xff\xfe"[..]).is_empty());
    }

    #[test]
    fn a_log_that_is_a_link_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("restore.log")).unwrap();
        let work = Directory::open("--work-path", dir.path()).unwrap();
        let error = work.explain("restore.log", Failed("no reason".to_owned()).into());
        let text = format!("{error:#}");
        assert!(
            text.starts_with("criu failed: no reason (its log is `"),
            "{text}"
        );
        let own = work.explain("restore.log", Error::msg("hooks.prestart[0]"));
        assert_eq!(format!("{own:#}"), "hooks.prestart[0]");
    }
}
