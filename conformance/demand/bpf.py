"""The seccomp filters of a process, as the kernel keeps them (ptrace(2), PTRACE_SECCOMP_GET_FILTER), and what a call costs in them."""

import ctypes
import os
import struct

SEIZE, INTERRUPT, DETACH, GET_FILTER = 0x4206, 0x4207, 17, 0x420C
WALL = 0x40000000
AUDIT_ARCH_X86_64 = 0xC000003E
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes, LIBC.ptrace.restype = [ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_void_p], ctypes.c_long


def _ptrace(request, pid, address=0, data=None):
    result = LIBC.ptrace(request, pid, address, data)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of {pid}")
    return result


def of(pid):
    """The instructions (code, jt, jf, k) of the newest filter of a sleeping process."""
    _ptrace(SEIZE, pid)
    try:
        _ptrace(INTERRUPT, pid)
        os.waitpid(pid, WALL)
        length = _ptrace(GET_FILTER, pid)
        raw = ctypes.create_string_buffer(8 * length)
        _ptrace(GET_FILTER, pid, 0, ctypes.cast(raw, ctypes.c_void_p))
    finally:
        _ptrace(DETACH, pid)
    return list(struct.iter_unpack("=HBBI", raw.raw))


def steps(program, number, args=()):
    """How many instructions the kernel executes for one call of x86_64."""
    data = struct.pack("=iIQ6Q", number, AUDIT_ARCH_X86_64, 0, *args, *[0] * (6 - len(args)))
    at, accumulator, count = 0, 0, 0
    while True:
        code, true, false, k = program[at]
        count += 1
        at += 1
        kind = code & 0x07
        if kind == 0x06:  # ret
            return count
        if kind == 0x00:  # ld, of the call's data alone
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif kind == 0x04:  # alu: and
            assert code == 0x54, hex(code)
            accumulator &= k
        elif kind == 0x05:
            if code == 0x05:
                at += k
                continue
            holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k, 0x45: accumulator & k != 0}[code]
            at += true if holds else false
        else:
            raise ValueError(f"instruction {code:#x}")
