//! A seccomp agent (seccomp_unotify(2)): takes the notify descriptors of containers over a socket and answers calls as the
//! test says, in threads of the test's process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;

use super::tty::receive_message;
use super::{Cx, eventually};

/// What an agent does with a call.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    /// The kernel carries it out.
    Continue,
    Errno(i32),
    /// Nothing is carried out; the program is told that this came of it.
    Value(i64),
    /// It takes the descriptor and closes it.
    Leave,
}

pub(crate) struct Agent {
    pub(crate) path: PathBuf,
    states: Arc<Mutex<Vec<Value>>>,
    calls: Arc<Mutex<Vec<i64>>>,
}

impl Agent {
    /// Gives every call the same answer, until the test ends.
    pub(crate) fn start(cx: &Cx, answer: Answer) -> Agent {
        Agent::listen(cx, matches!(answer, Answer::Leave), move |_| answer)
    }

    /// Looks at each call.
    pub(crate) fn deciding(cx: &Cx, decide: fn(&libc::seccomp_notif) -> Answer) -> Agent {
        Agent::listen(cx, false, decide)
    }

    fn listen<F>(cx: &Cx, leaves: bool, decide: F) -> Agent
    where
        F: Fn(&libc::seccomp_notif) -> Answer + Copy + Send + 'static,
    {
        let agent = Agent {
            path: cx.dir.join("agent"),
            states: Arc::default(),
            calls: Arc::default(),
        };
        let listener = UnixListener::bind(&agent.path).unwrap();
        let (states, calls) = (agent.states.clone(), agent.calls.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut received = receive_message(&stream.unwrap());
                assert_eq!(received.fds.len(), 1, "one descriptor");
                let fd = received.fds.remove(0);
                let state = serde_json::from_slice(&received.data).expect("a state in JSON");
                if !leaves {
                    let calls = calls.clone();
                    std::thread::spawn(move || serve(&fd, decide, &calls));
                }
                states.lock().unwrap().push(state);
            }
        });
        agent
    }

    /// The states that came so far; waits for `count` of them.
    pub(crate) fn states(&self, count: usize) -> Vec<Value> {
        eventually("the agent got its descriptors", 10, || {
            self.states.lock().unwrap().len() >= count
        });
        self.states.lock().unwrap().clone()
    }

    /// Whether it was asked about this call.
    pub(crate) fn saw(&self, number: i64) -> bool {
        self.calls.lock().unwrap().contains(&number)
    }
}

/// Answers until all processes with the filter have ended.
fn serve(fd: &OwnedFd, decide: impl Fn(&libc::seccomp_notif) -> Answer, calls: &Mutex<Vec<i64>>) {
    loop {
        let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::NONE).unwrap();
        let events = polled[0].revents().unwrap();
        if !events.contains(PollFlags::POLLIN) {
            return;
        }
        // ENOENT: the caller was killed meanwhile.
        let Ok(call) = receive(fd.as_fd()) else {
            continue;
        };
        calls.lock().unwrap().push(i64::from(call.data.nr));
        let answer = decide(&call);
        let response = libc::seccomp_notif_resp {
            id: call.id,
            val: match answer {
                Answer::Value(value) => value,
                _ => 0,
            },
            error: match answer {
                Answer::Errno(errno) => -errno,
                _ => 0,
            },
            flags: match answer {
                Answer::Continue => 1, // SECCOMP_USER_NOTIF_FLAG_CONTINUE
                _ => 0,
            },
        };
        let _ = send(fd.as_fd(), response);
    }
}

fn receive(fd: BorrowedFd<'_>) -> io::Result<libc::seccomp_notif> {
    // SAFETY: a structure of integers, for which all-zero is what the kernel asks for.
    let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: `call` is a whole seccomp_notif that the kernel may write.
    let ret = unsafe {
        libc::ioctl(
            fd.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            &raw mut call,
        )
    };
    if ret < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(call)
}

fn send(fd: BorrowedFd<'_>, mut response: libc::seccomp_notif_resp) -> io::Result<()> {
    let request = libc::SECCOMP_IOCTL_NOTIF_SEND;
    // SAFETY: `response` is a whole seccomp_notif_resp.
    let ret = unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut response) };
    if ret < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
