//! Descriptor numbers as a whole: close_range(2), close-on-exec, and the three that must be open. Called by `main` at start-up
//! and by the last steps of `init`, the only places that handle descriptors they do not own; and by all who are done with one
//! that nobody waits for the end of ([`done`]).

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, open};
use nix::sys::stat::Mode;

use super::process::is_open;
use super::{Result, check};

/// The last descriptor number close_range(2) knows: "to the end".
pub(crate) const LAST: u32 = u32::MAX;

/// What close_range(2) does to the descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Close them now.
    Close,
    /// Set close-on-exec.
    CloseOnExec,
}

/// fsetxattr(2): makes or replaces one extended attribute.
pub(crate) fn set_attribute(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<()> {
    // SAFETY: `name` is null-terminated, `value` is a live buffer of the length given; both are only read.
    let ret = unsafe {
        libc::fsetxattr(
            file.as_raw_fd(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    check(ret.into()).map(drop)
}

/// close_range(2) of `first..=last`.
///
/// Closes also what an `OwnedFd` of this process still owns: with [`Fate::Close`] only on the way to execve or `_exit`, after
/// which no destructor runs.
pub(crate) fn close_range(first: u32, last: u32, fate: Fate) -> Result<()> {
    let flags = match fate {
        Fate::Close => 0,
        Fate::CloseOnExec => libc::CLOSE_RANGE_CLOEXEC,
    };
    // SAFETY: the call reads no memory; the effect on descriptors owned elsewhere is the documented duty of the caller.
    let ret = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    check(ret).map(drop)
}

/// Closes everything from `first` on but the descriptors in `keep` (F2, F3). The duty of [`close_range`] applies.
pub(crate) fn close_all_but(first: u32, keep: &[RawFd]) -> Result<()> {
    for (from, to) in gaps(first, keep) {
        close_range(from, to, Fate::Close)?;
    }
    // What was done with is among them.
    if let Ok(mut done) = DONE.lock() {
        done.forget();
    }
    Ok(())
}

/// So many are closed at once: few enough for a small limit of open files (M6).
const BATCH: usize = 24;

/// Descriptors that nobody uses any more and that are still open. No memory is taken for them: between what is taken and given
/// back the allocator could not use it again.
struct Done {
    fds: [Option<OwnedFd>; BATCH],
    count: usize,
}

/// Of the process, which has one thread: what is thread-local and has a destructor costs a start eight calls.
static DONE: Mutex<Done> = Mutex::new(Done {
    fds: [const { None }; BATCH],
    count: 0,
});

impl Done {
    fn push(&mut self, fd: OwnedFd) {
        // Never out of bounds: a full one is closed at once. Otherwise it would be closed here.
        if let Some(place) = self.fds.get_mut(self.count) {
            *place = Some(fd);
            self.count += 1;
        }
        if self.count >= BATCH {
            self.close();
        }
    }

    /// One call for each run of numbers, which is mostly one for all.
    fn close(&mut self) {
        let (fds, _) = self.fds.split_at_mut(self.count);
        self.count = 0;
        fds.sort_unstable_by_key(|fd| fd.as_ref().map(AsRawFd::as_raw_fd));
        let follows = |one: &Option<OwnedFd>, next: &Option<OwnedFd>| {
            let numbers = [one, next].map(|fd| fd.as_ref().map_or(-1, AsRawFd::as_raw_fd));
            numbers[0] + 1 == numbers[1]
        };
        for run in fds.chunk_by_mut(follows) {
            if let [Some(first), .., Some(last)] = run {
                let (first, last) = (first.as_raw_fd(), last.as_raw_fd());
                let all = close_range(first.cast_unsigned(), last.cast_unsigned(), Fate::Close);
                if all.is_ok() {
                    for fd in run.iter_mut() {
                        std::mem::forget(fd.take());
                    }
                }
            }
            // A single one, and where the kernel would not.
            for fd in run {
                drop(fd.take());
            }
        }
    }

    /// They have been closed by other means.
    fn forget(&mut self) {
        for fd in &mut self.fds {
            std::mem::forget(fd.take());
        }
        self.count = 0;
    }
}

/// Closes a descriptor together with others, later: for one whose closing nobody waits for. Never a pipe, a socket or a lock,
/// nor a file of the container that is open for writing, which keeps its mount from becoming read-only.
pub(crate) fn done(fd: OwnedFd) {
    if let Ok(mut done) = DONE.lock() {
        done.push(fd);
    }
}

/// Closes those now: before a long wait.
pub(crate) fn close_done() {
    if let Ok(mut done) = DONE.lock() {
        done.close();
    }
}

/// A descriptor that is [`done`] with when it is dropped.
#[derive(Debug)]
pub(crate) struct Later(Option<OwnedFd>);

impl Later {
    pub(crate) fn new(fd: OwnedFd) -> Later {
        Later(Some(fd))
    }
}

impl Later {
    /// For one that is needed on.
    // There is one until the drop.
    #[allow(clippy::expect_used)]
    pub(crate) fn into_inner(mut self) -> OwnedFd {
        self.0.take().expect("is there until it is dropped")
    }
}

impl AsFd for Later {
    // There is one until the drop.
    #[allow(clippy::expect_used)]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0
            .as_ref()
            .expect("is there until it is dropped")
            .as_fd()
    }
}

impl AsRawFd for Later {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        if let Some(fd) = self.0.take() {
            done(fd);
        }
    }
}

/// The ranges from `first` to [`LAST`] that hold none of `keep`.
fn gaps(first: u32, keep: &[RawFd]) -> Vec<(u32, u32)> {
    let mut keep: Vec<u32> = keep
        .iter()
        .filter_map(|fd| u32::try_from(*fd).ok())
        .filter(|fd| *fd >= first)
        .collect();
    keep.sort_unstable();
    let mut ranges = Vec::with_capacity(keep.len() + 1);
    let mut next = first;
    for fd in keep {
        if fd > next {
            ranges.push((next, fd - 1));
        }
        next = fd.saturating_add(1);
    }
    ranges.push((next, LAST));
    ranges
}

/// A second descriptor of the same open file, close-on-exec at birth. libc's fcntl sets that a second time.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    // SAFETY: the call takes integers.
    let ret = unsafe { libc::syscall(libc::SYS_fcntl, fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
    let raw = RawFd::try_from(check(ret)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// dup2(2) onto a standard number, without close-on-exec.
pub(crate) fn replace_stdio(fd: BorrowedFd<'_>, number: RawFd) -> Result<()> {
    match number {
        0 => nix::unistd::dup2_stdin(fd),
        1 => nix::unistd::dup2_stdout(fd),
        2 => nix::unistd::dup2_stderr(fd),
        _ => Err(Errno::EBADF),
    }
}

/// Lets a descriptor, given by number because nobody in this process owns it, survive execve.
pub(crate) fn clear_cloexec(fd: u32) -> Result<()> {
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: F_SETFD changes one flag of a descriptor and fails for one that is not open.
    let ret = unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    check(ret.into()).map(drop)
}

/// Takes a descriptor that the caller of the program has passed by number. EBADF for one that is not open, or that is this
/// process's own: those are close-on-exec at birth, and what came over execve is not.
pub(crate) fn take_passed(number: RawFd) -> Result<OwnedFd> {
    // SAFETY: F_GETFD on any number is harmless.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if number < 3 || flags < 0 || flags & libc::FD_CLOEXEC != 0 {
        return Err(Errno::EBADF);
    }
    // SAFETY: it is open, and not one of this process's own, so nothing else in it owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    nix::fcntl::fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(fd)
}

/// F1: opens /dev/null on those of 0, 1, 2 that the caller closed, so that no later open lands there and becomes the stdio of
/// a container.
pub(crate) fn ensure_stdio_open() -> Result<()> {
    let mut polled = [0, 1, 2].map(|fd| libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    });
    // SAFETY: three whole entries; it does not wait.
    let asked = unsafe { libc::poll(polled.as_mut_ptr(), 3, 0) };
    for (wanted, polled) in (0..=2).zip(polled) {
        let closed = polled.revents & libc::POLLNVAL != 0;
        if asked >= 0 && !closed || asked < 0 && is_open(wanted) {
            continue;
        }
        // The lowest free number is taken: `wanted`, all below it being open.
        let null = open("/dev/null", OFlag::O_RDWR, Mode::empty())?;
        if null.as_raw_fd() != wanted {
            return Err(Errno::EBADF);
        }
        // It stays for the life of the process.
        let _ = null.into_raw_fd();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn gaps_leave_out_what_is_kept() {
        assert_eq!(gaps(3, &[]), [(3, LAST)]);
        assert_eq!(gaps(3, &[7, 3, 5]), [(4, 4), (6, 6), (8, LAST)]);
        assert_eq!(gaps(5, &[0, 2, 4, 6]), [(5, 5), (7, LAST)]);
    }

    #[test]
    fn what_is_done_with_is_closed_together_and_nothing_else() {
        testing::in_own_process("sys::fd::tests::done_alone");
    }

    #[test]
    #[ignore = "run by what_is_done_with_is_closed_together_and_nothing_else in a process of its own"]
    fn done_alone() {
        testing::single_threaded(|| {
            let null =
                || open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
            let [one, two, three, four] = [null(), null(), null(), null()];
            let raw = [&one, &two, &three, &four].map(AsRawFd::as_raw_fd);
            for fd in [four, one, two] {
                done(fd);
            }
            assert_eq!(raw.map(is_open), [true; 4]);
            close_done();
            assert_eq!(raw.map(is_open), [false, false, true, false]);
            drop(Later::new(three));
            for _ in 1..BATCH {
                done(null());
            }
            assert!(!is_open(raw[2]), "a whole batch");
            let kept = null();
            done(null());
            close_all_but(kept.as_raw_fd().cast_unsigned() + 1, &[]).unwrap();
            close_done();
            assert!(is_open(kept.as_raw_fd()));
        });
    }

    #[test]
    fn closing_and_stdio() {
        testing::in_own_process("sys::fd::tests::closing_and_stdio_alone");
    }

    #[test]
    #[ignore = "run by closing_and_stdio in a process of its own"]
    fn closing_and_stdio_alone() {
        testing::single_threaded(closing_and_stdio_body);
    }

    fn closing_and_stdio_body() {
        // `into_raw_fd` keeps all four open, so the numbers ascend.
        let null = || {
            open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
                .unwrap()
                .into_raw_fd()
        };
        let raw = [null(), null(), null(), null()];
        close_all_but(raw[0].cast_unsigned(), &[raw[1], raw[3]]).unwrap();
        assert_eq!(raw.map(is_open), [false, true, false, true]);

        clear_cloexec(raw[1].cast_unsigned()).unwrap();
        assert_eq!(clear_cloexec(raw[2].cast_unsigned()), Err(Errno::EBADF));
        close_range(raw[1].cast_unsigned(), LAST, Fate::CloseOnExec).unwrap();
        assert!(is_open(raw[1]) && is_open(raw[3]));

        let saved = nix::unistd::dup(std::io::stdout()).unwrap();
        close_range(0, 1, Fate::Close).unwrap();
        let outcome = ensure_stdio_open();
        let devices = [std::io::stdin().as_raw_fd(), 1].map(|fd| {
            let path = format!("/proc/self/fd/{fd}");
            nix::sys::stat::stat(path.as_str()).map(|stat| stat.st_rdev)
        });
        // The harness reports there.
        nix::unistd::dup2_stdout(&saved).unwrap();
        assert_eq!(outcome, Ok(()));
        assert_eq!(devices, [Ok(nix::sys::stat::makedev(1, 3)); 2]);
    }
}
