//! A page on the caller's terminal that is drawn again and again, on the terminal's other screen: what was there before comes
//! back at the end, whether that is a key, a signal or an error. Called by `cli::top`. One poll, no thread.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{read, write};

use super::RawTerminal;
use crate::sys::ioctl::{self, WindowSize};

/// Other screen, no cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Of a terminal that does not say.
const USUAL: WindowSize = WindowSize {
    rows: 24,
    columns: 80,
};

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pressed {
    Key(u8),
    /// The page is to be drawn anew: another size, or the process goes on after a stop.
    Redraw,
    /// The number of a signal that ends the program.
    End(i32),
    /// The time is over.
    Nothing,
}

pub(crate) struct Screen {
    signals: SignalFd,
    /// Standard input without lines and echo; none where it is no terminal.
    keys: Option<RawTerminal>,
}

impl Screen {
    /// Standard output is known to be a terminal.
    pub(crate) fn enter() -> Result<Screen> {
        let mut ends = SigSet::empty();
        for signal in [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGWINCH,
            Signal::SIGCONT,
        ] {
            ends.add(signal);
        }
        ends.thread_block().context("block signals")?;
        let signals = SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context("make a signalfd")?;
        let input = std::io::stdin().as_fd().try_clone_to_owned();
        let keys = RawTerminal::of(input.context("duplicate stdin")?)?;
        let screen = Screen { signals, keys };
        show(ENTER)?;
        Ok(screen)
    }

    /// The first line, a heading, and as many of the rows as there is room for.
    #[expect(
        clippy::unused_self,
        reason = "who has entered the other screen draws on it"
    )]
    pub(crate) fn draw(&self, first: &str, heading: &str, rows: &[String]) -> Result<()> {
        let size = ioctl::window_size(std::io::stdout().as_fd()).unwrap_or(USUAL);
        show(&page(size, first, heading, rows))
    }

    pub(crate) fn wait(&mut self, time: Duration) -> Result<Pressed> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if let Some(keys) = &self.keys {
            fds.push(PollFd::new(keys.as_fd(), PollFlags::POLLIN));
        }
        let time = PollTimeout::try_from(time.max(Duration::from_millis(1)));
        match poll(&mut fds, time.unwrap_or(PollTimeout::MAX)) {
            Ok(0) | Err(Errno::EINTR) => return Ok(Pressed::Nothing),
            other => other.context("poll the terminal")?,
        };
        if let Some(got) = self.signals.read_signal().context("read a signal")? {
            let number = got.ssi_signo.cast_signed();
            let redraws = [libc::SIGWINCH, libc::SIGCONT].contains(&number);
            return Ok(if redraws {
                Pressed::Redraw
            } else {
                Pressed::End(number)
            });
        }
        let Some(keys) = &self.keys else {
            return Ok(Pressed::Redraw);
        };
        // What comes with more than one byte, as an arrow, is no key of ours.
        let mut bytes = [0; 16];
        Ok(match read(keys.as_fd(), &mut bytes) {
            Ok(1) => Pressed::Key(bytes[0]),
            Ok(0) | Err(Errno::EIO) => {
                self.keys = None;
                Pressed::Redraw
            }
            Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => Pressed::Redraw,
            Err(errno) => return Err(errno).context("read the terminal"),
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is left to tell when the terminal has gone.
        drop(show(LEAVE));
    }
}

fn page(size: WindowSize, first: &str, heading: &str, rows: &[String]) -> String {
    let (width, height) = match (size.columns, size.rows) {
        (0, _) | (_, 0) => (USUAL.columns, USUAL.rows),
        other => other,
    };
    let (width, height) = (usize::from(width), usize::from(height));
    let cut = |text: &str| text.chars().take(width).collect::<String>();
    let heading = format!("\x1b[7m{:<width$}\x1b[m", cut(heading));
    let mut lines = vec![cut(first), heading];
    lines.extend(rows.iter().map(|row| cut(row)));
    lines.truncate(height);
    // Over what is there, so that nothing flickers; no line end at the bottom, which would scroll.
    format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n"))
}

fn show(text: &str) -> Result<()> {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match write(std::io::stdout(), rest) {
            Err(Errno::EINTR) => {}
            other => {
                let count = other.context("write to the terminal")?;
                rest = rest.get(count..).unwrap_or_default();
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fits_its_window() {
        let rows: Vec<String> = (0..9).map(|row| format!("row {row} is long")).collect();
        let size = WindowSize {
            rows: 4,
            columns: 7,
        };
        assert_eq!(
            page(size, "first line", "ID", &rows),
            "\x1b[Hfirst l\x1b[K\r\n\x1b[7mID     \x1b[m\x1b[K\r\nrow 0 i\x1b[K\r\nrow 1 i\x1b[K\x1b[J"
        );
        let unknown = WindowSize {
            rows: 0,
            columns: 0,
        };
        assert_eq!(page(unknown, "", "", &rows).matches("\r\n").count(), 10);
        let small = WindowSize {
            rows: 1,
            columns: 3,
        };
        assert_eq!(page(small, "first", "ID", &rows), "\x1b[Hfir\x1b[K\x1b[J");
    }
}
