//! The runtime on a kernel that pretends to be older: a seccomp filter refuses what that one would.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;

/// Refuses `call` with `errno` where its second argument is `argument`, for the command and all that it starts.
pub(crate) fn refuse(command: &mut Command, call: libc::c_long, argument: u32, errno: Errno) {
    /// Offsets in struct `seccomp_data`.
    const NUMBER: u32 = 0;
    const SECOND_ARGUMENT: u32 = 24;
    let statement = |code: u32, k: u32| instruction(code, 0, k);
    let unless = |k: u32, skip: u8| instruction(libc::BPF_JMP | libc::BPF_JEQ, skip, k);
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let filter = [
        statement(load, NUMBER),
        unless(u32::try_from(call).unwrap(), 3),
        statement(load, SECOND_ARGUMENT),
        unless(argument, 1),
        statement(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW),
    ];
    // SAFETY: between fork and exec `install` makes one system call and nothing else.
    unsafe { command.pre_exec(move || install(&filter)) };
}

fn instruction(code: u32, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt: 0,
        jf,
        k,
    }
}

fn install(filter: &[libc::sock_filter]) -> std::io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap(),
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: `program` and what it points to live until the call is back; the kernel only reads them.
    let ret = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    match ret {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
