//! The protocol between the runtime (parent: `container/create.rs`, `container/exec.rs`) and the process it cloned (`init`).
//!
//! One close-on-exec `SOCK_SEQPACKET` pair made before the clone; one message is one packet, tag first; the one descriptor that is
//! ever passed goes from the runtime to the init. Both sides know from the plan which meetings happen, so a meeting nobody needs costs nothing.
//!
//! ```text
//!    stage / init                      create / run / exec
//!    ------------                      -------------------
//!    InitPid{pid}         -->          only from a stage process: pid of the init that it cloned or has become, as the runtime
//!                                      sees it; the init then waits for a Placed of its own, so nothing overtakes this
//!                         <--  Placed  id maps, cgroup and its limits, rlimits, oom score are set
//!    TimeReady            -->          only with time offsets: the time namespace is made and still empty
//!                         <--  OffsetsSet
//!                         <--  (descriptor)  a network namespace that the runtime has made meanwhile
//!    RootReady            -->          only with prestart or createRuntime hooks: mounts are made, root not yet changed
//!                         <--  HooksDone
//!    InitPid{pid}         -->          only where a pid namespace is joined: the container stands, the init was born there
//!                         <--  Placed
//!    Listener{number}     -->          only with SCMP_ACT_NOTIFY, sent by write(2): the filter is loaded, its notify descriptor
//!                                      has this number in the sender; the runtime fetches it and hands it to the agent
//!                         <--  ListenerTaken
//!    Mounted{numbers}     -->          only from the process of `mounts`, instead of the next three: all is mounted, and is taken
//!                                      away again unless Committed follows
//!    Ready                -->          everything that can fail before the user's program has been done
//!                         <--  Committed  state and pid file are written; with `run` and `exec` also: go; `exec` sends it ahead where it
//!                                         has nothing left to do
//!    Failed{..}           -->          instead of any of the above; the sender then leaves by _exit
//!    (end of file)                     after Committed: the program runs (the socket is close-on-exec)
//! ```
//!
//! A child that reads end of file leaves: its runtime has died (X4).

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair};

use crate::error::StepFailed;
use crate::sys::scm;

/// Longest packet: a failure's text is cut to fit (I1: bounded, one packet each, nothing parsed but fixed fields).
const MAX_PACKET: usize = 8192;

/// The longest that the cloned side may take to its next message, less what hooks of its own may take: file systems to be mounted
/// and directories to be copied into a tmpfs take their time, and a server that does not answer must not take all of it.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(300);

/// What the cloned side says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FromInit {
    InitPid(i32),
    TimeReady,
    RootReady,
    /// The number of the notify descriptor in the sender.
    Listener(i32),
    Ready,
    /// Of the process that changes the mounts of a running container: the two numbers of each that it has added.
    Mounted(Vec<(u64, u64)>),
    Failed(StepFailed),
}

/// The runtime closed its end: it died, or gave up and has told its caller why. Nothing is left to be told.
#[derive(Debug)]
pub(crate) struct RuntimeGone;

impl std::fmt::Display for RuntimeGone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the runtime has gone")
    }
}

impl std::error::Error for RuntimeGone {}

/// What the runtime says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToInit {
    Placed(i32),
    OffsetsSet,
    HooksDone,
    ListenerTaken,
    Committed,
}

impl FromInit {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            FromInit::InitPid(pid) => [&[1], &pid.to_le_bytes()[..]].concat(),
            FromInit::RootReady => vec![2],
            FromInit::Ready => vec![3],
            FromInit::TimeReady => vec![6],
            FromInit::Listener(number) => listener_packet(*number).to_vec(),
            FromInit::Mounted(numbers) => {
                let both = numbers.iter().flat_map(|(one, other)| [*one, *other]);
                std::iter::once(7)
                    .chain(both.flat_map(u64::to_le_bytes))
                    .collect()
            }
            FromInit::Failed(failure) => {
                let mut packet = vec![4];
                packet.extend(failure.errno.to_le_bytes());
                packet.extend(failure.step.as_bytes());
                packet.push(0);
                packet.extend(failure.chain.as_bytes());
                packet.truncate(MAX_PACKET);
                packet
            }
        }
    }

    pub(crate) fn decode(packet: &[u8]) -> Option<FromInit> {
        let (tag, rest) = packet.split_first()?;
        match (tag, rest.len()) {
            (1, 4) => Some(FromInit::InitPid(i32::from_le_bytes(rest.try_into().ok()?))),
            (2, 0) => Some(FromInit::RootReady),
            (3, 0) => Some(FromInit::Ready),
            (6, 0) => Some(FromInit::TimeReady),
            (5, 4) => Some(FromInit::Listener(i32::from_le_bytes(
                rest.try_into().ok()?,
            ))),
            (7, _) => {
                let (pairs, rest) = rest.as_chunks::<16>();
                let number = |half: &[u8]| Some(u64::from_le_bytes(half.try_into().ok()?));
                let pair = |pair: &[u8; 16]| Some((number(&pair[..8])?, number(&pair[8..])?));
                let all: Option<_> = pairs.iter().map(pair).collect();
                rest.is_empty().then_some(FromInit::Mounted(all?))
            }
            (4, 4..) => {
                let (errno, text) = rest.split_at(4);
                let text = String::from_utf8_lossy(text);
                let (step, chain) = text.split_once('\0')?;
                let errno = i32::from_le_bytes(errno.try_into().ok()?);
                Some(FromInit::Failed(StepFailed {
                    step: step.to_owned(),
                    errno,
                    chain: chain.to_owned(),
                }))
            }
            _ => None,
        }
    }
}

fn listener_packet(number: i32) -> [u8; 5] {
    let [a, b, c, d] = number.to_le_bytes();
    [5, a, b, c, d]
}

impl ToInit {
    pub(crate) fn encode(self) -> Vec<u8> {
        match self {
            ToInit::Placed(pid) => [&[1], &pid.to_le_bytes()[..]].concat(),
            ToInit::HooksDone => vec![2],
            ToInit::Committed => vec![3],
            ToInit::OffsetsSet => vec![5],
            ToInit::ListenerTaken => vec![4],
        }
    }

    pub(crate) fn decode(packet: &[u8]) -> Option<ToInit> {
        match packet {
            [1, pid @ ..] => Some(ToInit::Placed(i32::from_le_bytes(pid.try_into().ok()?))),
            [2] => Some(ToInit::HooksDone),
            [3] => Some(ToInit::Committed),
            [5] => Some(ToInit::OffsetsSet),
            [4] => Some(ToInit::ListenerTaken),
            _ => None,
        }
    }
}

/// The runtime's end.
pub(crate) struct RuntimeEnd(OwnedFd);

/// The cloned side's end.
pub(crate) struct InitEnd(OwnedFd);

/// Makes both ends. That of the cloned side has the lower number: made first of all, it is the lowest, and what is to be closed
/// lies behind it in one piece.
pub(crate) fn pair() -> Result<(RuntimeEnd, InitEnd)> {
    let (init, runtime) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .context("make a socket pair for the container's init")?;
    Ok((RuntimeEnd(runtime), InitEnd(init)))
}

fn send(fd: BorrowedFd<'_>, packet: &[u8]) -> nix::Result<()> {
    loop {
        match sendmsg::<()>(
            fd.as_raw_fd(),
            &[IoSlice::new(packet)],
            &[],
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// The next packet; empty at end of file.
fn receive<'a>(fd: BorrowedFd<'_>, buffer: &'a mut [u8]) -> nix::Result<&'a [u8]> {
    let len = loop {
        match recvmsg::<()>(
            fd.as_raw_fd(),
            &mut [IoSliceMut::new(buffer)],
            None,
            MsgFlags::empty(),
        ) {
            // A peer that left with a message of ours unread resets the connection. The kernel says that once, and before
            // the peer's last words: the next call gives those, or the end.
            Err(Errno::ECONNRESET | Errno::EINTR) => {}
            other => break other?.bytes,
        }
    };
    Ok(&buffer[..len])
}

impl RuntimeEnd {
    /// Sends one message. A peer that is gone is not an error here: reading tells why it went.
    pub(crate) fn send(&self, message: ToInit) -> Result<()> {
        match send(self.0.as_fd(), &message.encode()) {
            Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(errno).context("send to the container's init"),
        }
    }

    /// Sends a descriptor, for [`InitEnd::await_descriptor`].
    pub(crate) fn give(&self, descriptor: OwnedFd) -> Result<()> {
        match scm::send_fds(self.0.as_fd(), &[descriptor]) {
            Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(errno).context("send a descriptor to the container's init"),
        }
    }

    /// The next message, or `None` when the other side has closed its end (died, or, after `Committed`, became the program).
    /// Watches `pidfd` as well, so that a killed child whose socket lives on in a sibling cannot hang the runtime.
    /// `limit` is none where a hook without a timeout may run meanwhile.
    pub(crate) fn receive(
        &self,
        pidfd: Option<BorrowedFd<'_>>,
        limit: Option<Duration>,
    ) -> Result<Option<FromInit>> {
        let mut polled = vec![PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        polled.extend(pidfd.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let until = limit.map(|limit| Instant::now() + limit);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                let left = left + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            });
            match poll(&mut polled, timeout) {
                Err(Errno::EINTR) => {}
                Ok(0) => bail!(
                    "no word from the container's init within {} s",
                    limit.unwrap_or_default().as_secs()
                ),
                other => break other.context("wait for the container's init").map(drop)?,
            }
        }
        // A message sent before the death is read first.
        if polled[0].revents().is_none_or(|events| events.is_empty()) {
            return Ok(None);
        }
        let mut buffer = [0_u8; MAX_PACKET];
        let packet =
            receive(self.0.as_fd(), &mut buffer).context("read from the container's init")?;
        if packet.is_empty() {
            return Ok(None);
        }
        let Some(message) = FromInit::decode(packet) else {
            bail!(
                "the container's init sent a packet of {} bytes that is no message (tag {})",
                packet.len(),
                packet[0]
            )
        };
        Ok(Some(message))
    }
}

impl InitEnd {
    pub(crate) fn send(&self, message: &FromInit) -> Result<()> {
        send(self.0.as_fd(), &message.encode()).context("send to the runtime")
    }

    /// Sends `Listener` and waits until the runtime has taken the descriptor. Until it is sent nobody answers for a call that
    /// the filter hands over, so it takes one write(2), the call that no profile may hand over, and no memory: brk(2) and
    /// mmap(2) may be filtered as well (N2).
    pub(crate) fn give_listener(&self, listener: BorrowedFd<'_>) -> Result<()> {
        let packet = listener_packet(listener.as_raw_fd());
        loop {
            match nix::unistd::write(&self.0, &packet) {
                Err(Errno::EINTR) => {}
                other => {
                    break other
                        .context("tell the runtime of the seccomp notify descriptor")
                        .map(drop)?;
                }
            }
        }
        self.expect(ToInit::ListenerTaken)
    }

    /// The next message, `wanted` for messages. End of file means that the runtime is dead.
    fn receive(&self, wanted: &str) -> Result<ToInit> {
        let mut buffer = [0_u8; MAX_PACKET];
        let packet = receive(self.0.as_fd(), &mut buffer).context("read from the runtime")?;
        if packet.is_empty() {
            return Err(RuntimeGone.into());
        }
        ToInit::decode(packet)
            .with_context(|| format!("expected {wanted} from the runtime, got tag {}", packet[0]))
    }

    /// Waits for `Placed`; returns this process's pid as the runtime sees it.
    pub(crate) fn await_placed(&self) -> Result<i32> {
        match self.receive("Placed")? {
            ToInit::Placed(pid) => Ok(pid),
            other => bail!("expected Placed from the runtime, got {other:?}"),
        }
    }

    /// Waits for a descriptor.
    pub(crate) fn await_descriptor(&self) -> Result<OwnedFd> {
        loop {
            match scm::await_fds(self.0.as_fd()) {
                // As in `receive`.
                Err(Errno::ECONNRESET | Errno::EINTR) => {}
                other => {
                    let given = other.context("read from the runtime")?.pop();
                    return given.ok_or_else(|| RuntimeGone.into());
                }
            }
        }
    }

    /// Waits for exactly `wanted`.
    pub(crate) fn expect(&self, wanted: ToInit) -> Result<()> {
        let got = self.receive(&format!("{wanted:?}"))?;
        if got == wanted {
            Ok(())
        } else {
            bail!("expected {wanted:?} from the runtime, got {got:?}")
        }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_wire() {
        let failure = StepFailed {
            step: "mounts".into(),
            errno: 2,
            chain: "mount `x`: no such file or directory".into(),
        };
        for message in [
            FromInit::InitPid(-7),
            FromInit::TimeReady,
            FromInit::RootReady,
            FromInit::Listener(7),
            FromInit::Ready,
            FromInit::Mounted(vec![(1, u64::MAX), (2, 0)]),
            FromInit::Mounted(vec![]),
            FromInit::Failed(failure),
        ] {
            assert_eq!(FromInit::decode(&message.encode()), Some(message));
        }
    }

    #[test]
    fn broken_packets_are_refused() {
        for packet in [
            &[][..],
            &[0],
            &[1],
            &[1, 2, 3],
            &[2, 0],
            &[4, 0, 0, 0],
            &[4, 0, 0, 0, 0, b'x'],
            &[9, 9],
            &[7, 0],
        ] {
            assert_eq!(FromInit::decode(packet), None, "{packet:?}");
        }
    }

    /// A step before the one that reads `Placed` has failed.
    #[test]
    fn last_words_outlive_a_message_that_was_not_read() {
        let (runtime, init) = pair().unwrap();
        let failure = FromInit::Failed(StepFailed {
            step: "session keyring".into(),
            errno: 22,
            chain: "invalid argument".into(),
        });
        init.send(&failure).unwrap();
        runtime.send(ToInit::Placed(1)).unwrap();
        drop(init);
        assert_eq!(
            runtime.receive(None, Some(ANSWER_LIMIT)).unwrap(),
            Some(failure)
        );
        assert_eq!(runtime.receive(None, Some(ANSWER_LIMIT)).unwrap(), None);
    }

    #[test]
    fn a_long_failure_is_cut_and_still_read() {
        let failure = StepFailed {
            step: "s".into(),
            errno: 1,
            // More than the kernel takes in one packet.
            chain: "y".repeat(1_000_000),
        };
        let (runtime, init) = pair().unwrap();
        init.send(&FromInit::Failed(failure)).unwrap();
        let Some(FromInit::Failed(read)) = runtime.receive(None, Some(ANSWER_LIMIT)).unwrap()
        else {
            panic!("no failure")
        };
        assert_eq!((read.step.as_str(), read.errno), ("s", 1));
        assert!(read.chain.len() > 8000);
    }

    #[test]
    fn a_listener_is_given_and_taken() {
        let (runtime, init) = pair().unwrap();
        runtime.send(ToInit::ListenerTaken).unwrap();
        init.give_listener(init.as_fd()).unwrap();
        let number = init.as_fd().as_raw_fd();
        assert_eq!(
            runtime.receive(None, Some(ANSWER_LIMIT)).unwrap(),
            Some(FromInit::Listener(number))
        );
    }

    #[test]
    fn a_dead_runtime_is_noticed() {
        let (runtime, init) = pair().unwrap();
        drop(runtime);
        assert!(init.await_placed().unwrap_err().is::<RuntimeGone>());
    }

    #[test]
    fn a_silent_init_is_not_waited_for_without_end() {
        let (runtime, init) = pair().unwrap();
        let limit = Some(Duration::from_millis(20));
        let error = runtime.receive(None, limit).unwrap_err().to_string();
        assert!(error.contains("no word from"), "{error}");
        drop(init);
    }

    #[test]
    fn a_wrong_message_names_both() {
        let (runtime, init) = pair().unwrap();
        runtime.send(ToInit::HooksDone).unwrap();
        let error = init.expect(ToInit::Committed).unwrap_err().to_string();
        assert!(
            error.contains("Committed") && error.contains("HooksDone"),
            "{error}"
        );
    }
}
