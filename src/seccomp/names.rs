//! Names of system calls to numbers, and what a filter must know of each architecture. Pure. Called by
//! `lookup`, `rules` and `compile`.

use std::cmp::Ordering;

use super::tables::{ROWS, Row};
use crate::plan::seccomp::Arch;

/// The architecture this program runs on. A filter always covers it.
#[cfg(target_arch = "x86_64")]
pub(crate) const NATIVE: Arch = Arch::X86_64;
#[cfg(target_arch = "x86")]
pub(crate) const NATIVE: Arch = Arch::X86;
#[cfg(target_arch = "aarch64")]
pub(crate) const NATIVE: Arch = Arch::Aarch64;
#[cfg(target_arch = "arm")]
pub(crate) const NATIVE: Arch = Arch::Arm;
#[cfg(target_arch = "riscv64")]
pub(crate) const NATIVE: Arch = Arch::Riscv64;
#[cfg(target_arch = "loongarch64")]
pub(crate) const NATIVE: Arch = Arch::Loongarch64;
#[cfg(target_arch = "s390x")]
pub(crate) const NATIVE: Arch = Arch::S390x;
#[cfg(target_arch = "powerpc")]
pub(crate) const NATIVE: Arch = Arch::Ppc;
#[cfg(all(target_arch = "powerpc64", target_endian = "big"))]
pub(crate) const NATIVE: Arch = Arch::Ppc64;
#[cfg(all(target_arch = "powerpc64", target_endian = "little"))]
pub(crate) const NATIVE: Arch = Arch::Ppc64le;
#[cfg(all(target_arch = "mips", target_endian = "big"))]
pub(crate) const NATIVE: Arch = Arch::Mips;
#[cfg(all(target_arch = "mips", target_endian = "little"))]
pub(crate) const NATIVE: Arch = Arch::Mipsel;
#[cfg(all(target_arch = "mips64", target_endian = "big"))]
pub(crate) const NATIVE: Arch = Arch::Mips64;
#[cfg(all(target_arch = "mips64", target_endian = "little"))]
pub(crate) const NATIVE: Arch = Arch::Mipsel64;

/// Bit 30 of the number marks an x32 call; to the kernel the architecture is x86_64 all the same.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// What differs between architectures besides the numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Abi {
    pub(super) arch: Arch,
    /// `seccomp_data.arch`: AUDIT_ARCH_* of <linux/audit.h>.
    pub(super) audit: u32,
    column: usize,
    /// Registers of 64 bits: arguments are compared whole. Elsewhere only the low half is the argument.
    pub(super) wide: bool,
    pub(super) big_endian: bool,
}

/// The description of an architecture; `Native` is the one given.
pub(super) fn abi(arch: Arch, native: Arch) -> Abi {
    let arch = if arch == Arch::Native { native } else { arch };
    let (column, audit) = match arch {
        // `Native` of `native` cannot be; it would be a caller's slip and gets the build's own architecture.
        Arch::Native => return abi(NATIVE, NATIVE),
        Arch::X86_64 => (0, 0xc000_003e),
        Arch::X32 => (1, 0xc000_003e),
        Arch::X86 => (2, 0x4000_0003),
        Arch::Aarch64 => (3, 0xc000_00b7),
        Arch::Arm => (4, 0x4000_0028),
        Arch::Riscv64 => (5, 0xc000_00f3),
        Arch::Loongarch64 => (6, 0xc000_0102),
        Arch::Ppc => (7, 0x0000_0014),
        Arch::Ppc64 => (8, 0x8000_0015),
        Arch::Ppc64le => (8, 0xc000_0015),
        Arch::S390 => (9, 0x0000_0016),
        Arch::S390x => (10, 0x8000_0016),
        Arch::Mips => (11, 0x0000_0008),
        Arch::Mipsel => (11, 0x4000_0008),
        Arch::Mips64 => (12, 0x8000_0008),
        Arch::Mipsel64 => (12, 0xc000_0008),
        Arch::Mips64n32 => (13, 0xa000_0008),
        Arch::Mipsel64n32 => (13, 0xe000_0008),
        Arch::Parisc => (14, 0x0000_000f),
        Arch::Parisc64 => (15, 0x8000_000f),
        Arch::M68k => (16, 0x0000_0004),
        Arch::Sheb => (17, 0x0000_002a),
        Arch::Sh => (17, 0x4000_002a),
    };
    // AUDIT_ARCH_* carry both facts in their top bits. n32 is a 64-bit ABI to audit, but its registers hold
    // 32-bit arguments, as x32's do.
    let narrow = matches!(arch, Arch::X32 | Arch::Mips64n32 | Arch::Mipsel64n32);
    Abi {
        arch,
        audit,
        column,
        wide: audit & 0x8000_0000 != 0 && !narrow,
        big_endian: audit & 0x4000_0000 == 0,
    }
}

impl Abi {
    /// The number of a call, without `X32_BIT`.
    pub(super) fn number(&self, row: &Row) -> Option<u32> {
        row.number(self.column)
    }

    /// The number of a call by name.
    #[cfg(any(test, fuzzing))]
    pub(super) fn number_of(&self, name: &str) -> Option<u32> {
        row(name).and_then(|row| self.number(row))
    }

    /// Whether a number belongs to the list that grows with every kernel, so that a larger one is a newer call.
    /// x32's own calls (512 to 547) and arm's private ones lie beside it.
    pub(super) fn counts(&self, number: u32) -> bool {
        match self.arch {
            Arch::X32 => number < 512,
            Arch::Arm => number < 0xf_0000,
            _ => true,
        }
    }
}

/// Calls from here on have one number and, in the kernel's symbols, one name on all architectures (Linux 5.1).
pub(super) const UNIFIED_NUMBERS: u32 = 424;

/// The row of a name; `None` when no architecture has such a call.
pub(super) fn row(name: &str) -> Option<&'static Row> {
    row_from(0, name).map(|(_, row)| row)
}

/// The same, and its place, searched for upwards from the row at `from`, in steps that double; where the name stands before that,
/// in what is before.
pub(super) fn row_from(from: usize, name: &str) -> Option<(usize, &'static Row)> {
    let (mut low, mut high) = (0, from);
    let mut step = 1;
    while let Some(row) = ROWS.get(high) {
        match row.order(name) {
            Ordering::Less => low = high + 1,
            Ordering::Equal => return Some((high, row)),
            Ordering::Greater => break,
        }
        high += step;
        step *= 2;
    }
    let between = ROWS.get(low..high.min(ROWS.len()))?;
    let place = between.binary_search_by(|row| row.order(name)).ok()?;
    Some((low + place, between.get(place)?))
}

/// Which call of socketcall(2) or ipc(2) does what the call `name` does, on architectures that have those two.
pub(super) fn multiplexed(name: &str) -> Option<(&'static str, u64)> {
    let (by, call) = match name {
        "socket" => ("socketcall", 1),
        "bind" => ("socketcall", 2),
        "connect" => ("socketcall", 3),
        "listen" => ("socketcall", 4),
        "accept" => ("socketcall", 5),
        "getsockname" => ("socketcall", 6),
        "getpeername" => ("socketcall", 7),
        "socketpair" => ("socketcall", 8),
        "send" => ("socketcall", 9),
        "recv" => ("socketcall", 10),
        "sendto" => ("socketcall", 11),
        "recvfrom" => ("socketcall", 12),
        "shutdown" => ("socketcall", 13),
        "setsockopt" => ("socketcall", 14),
        "getsockopt" => ("socketcall", 15),
        "sendmsg" => ("socketcall", 16),
        "recvmsg" => ("socketcall", 17),
        "accept4" => ("socketcall", 18),
        "recvmmsg" => ("socketcall", 19),
        "sendmmsg" => ("socketcall", 20),
        "semop" => ("ipc", 1),
        "semget" => ("ipc", 2),
        "semctl" => ("ipc", 3),
        "semtimedop" => ("ipc", 4),
        "msgsnd" => ("ipc", 11),
        "msgrcv" => ("ipc", 12),
        "msgget" => ("ipc", 13),
        "msgctl" => ("ipc", 14),
        "shmat" => ("ipc", 21),
        "shmdt" => ("ipc", 22),
        "shmget" => ("ipc", 23),
        "shmctl" => ("ipc", 24),
        _ => return None,
    };
    Some((by, call))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_names_unique() {
        assert!(ROWS.windows(2).all(|pair| pair[0].name() < pair[1].name()));
        assert!(ROWS.len() > 500);
    }

    #[test]
    fn every_row_is_found_from_everywhere() {
        for (place, row) in ROWS.iter().enumerate() {
            for from in [0, place / 2, place, place + 1, place + 40, ROWS.len()] {
                let found = row_from(from, row.name()).map(|(place, _)| place);
                assert_eq!(found, Some(place), "{} from {from}", row.name());
            }
        }
        for name in ["", "_", "opena", "openatt", "zzz"] {
            for from in 0..=ROWS.len() {
                assert!(row_from(from, name).is_none(), "{name} from {from}");
            }
        }
    }

    /// Numbers taken from the kernel's tables by hand, one or two an architecture: they catch swapped columns.
    #[test]
    fn known_numbers() {
        for (arch, name, number) in [
            (Arch::X86_64, "rt_sigaction", 13),
            (Arch::X86_64, "uretprobe", 335),
            (Arch::X32, "rt_sigaction", 512),
            (Arch::X86, "socketcall", 102),
            (Arch::X86, "socket", 359),
            (Arch::Aarch64, "openat", 56),
            (Arch::Arm, "openat", 322),
            (Arch::Arm, "set_tls", 0xf_0005),
            (Arch::Riscv64, "riscv_flush_icache", 259),
            (Arch::Loongarch64, "openat", 56),
            (Arch::Ppc, "swapcontext", 249),
            (Arch::Ppc64le, "openat", 286),
            (Arch::S390, "mmap2", 192),
            (Arch::S390x, "s390_runtime_instr", 342),
            (Arch::Mips, "openat", 4288),
            (Arch::Mipsel64, "openat", 5247),
            (Arch::Mips64n32, "openat", 6251),
            (Arch::Parisc, "openat", 275),
            (Arch::Parisc64, "openat", 275),
            (Arch::M68k, "openat", 288),
            (Arch::Sh, "openat", 295),
        ] {
            assert_eq!(
                abi(arch, NATIVE).number_of(name),
                Some(number),
                "{arch:?} {name}"
            );
        }
        assert_eq!(abi(Arch::X86_64, NATIVE).number_of("socketcall"), None);
        assert!(row("no_such_call").is_none());
    }

    #[test]
    fn the_native_table_is_that_of_libc() {
        let native = abi(Arch::Native, NATIVE);
        for (name, number) in [
            ("read", libc::SYS_read),
            ("execve", libc::SYS_execve),
            ("clone3", libc::SYS_clone3),
            ("openat2", libc::SYS_openat2),
        ] {
            assert_eq!(
                native.number_of(name).map(i64::from),
                Some(number),
                "{name}"
            );
        }
    }

    #[test]
    fn widths() {
        let wide: Vec<_> = [
            Arch::X86_64,
            Arch::Aarch64,
            Arch::Mips64,
            Arch::S390x,
            Arch::X86,
            Arch::X32,
            Arch::Mipsel64n32,
            Arch::S390,
        ]
        .map(|arch| abi(arch, NATIVE).wide)
        .into();
        assert_eq!(wide, [true, true, true, true, false, false, false, false]);
        assert!(abi(Arch::S390x, NATIVE).big_endian && !abi(Arch::Mipsel64n32, NATIVE).big_endian);
    }

    #[test]
    fn multiplexed_names_exist() {
        for row in ROWS {
            if let Some((by, _)) = multiplexed(row.name()) {
                assert!(
                    abi(Arch::X86, NATIVE).number_of(by).is_some(),
                    "{}",
                    row.name()
                );
            }
        }
    }
}
