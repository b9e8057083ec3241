//! Obstacles that can be seen from outside, each named with its control, before anything is touched.
//!
//! Pure: texts of `/proc` in, verdict out. Source: proc(5), ptrace(2) "Ptrace access mode checking", seccomp(2).

use crate::sys::proc::stat_field;

/// What stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// Dead, not yet reaped.
    #[error("it is a zombie: it has ended and waits for its parent")]
    Zombie,
    /// On its way there.
    #[error("it is ending: its memory is gone already")]
    Ending,
    /// Runs in the kernel.
    #[error("it is a kernel thread")]
    KernelThread,
    /// Another debugger.
    #[error("process {pid} ({name}) traces it already")]
    Traced {
        /// The tracer.
        pid: i32,
        /// Its name.
        name: String,
    },
    /// Seccomp's strict mode. A filter is another matter: it is asked, see [`super::seccomp`].
    #[error("it runs in seccomp's strict mode, which kills it for the mmap that a patch needs")]
    Strict,
    /// User shadow stack.
    #[error("it runs with a user shadow stack, which the injected code would violate")]
    ShadowStack,
    /// Another instruction set.
    #[error("it is a 32-bit process (i386 or x32), and patches are 64-bit code")]
    ThirtyTwoBit,
}

/// `PF_KTHREAD` of the kernel's sched.h, in the flags of `/proc/PID/stat`.
const KERNEL_THREAD: u64 = 0x20_0000;

/// Looks through `/proc/PID/status` and `stat`. `name_of`: the name of another process.
pub fn check(status: &str, stat: &str, name_of: impl Fn(i32) -> String) -> Result<(), Obstacle> {
    let field = |key: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
        line.map(str::trim).unwrap_or_default()
    };
    if field("State").starts_with(['Z', 'X']) {
        return Err(Obstacle::Zombie);
    }
    if is_kernel_thread(stat) {
        return Err(Obstacle::KernelThread);
    }
    if field("VmSize").is_empty() {
        return Err(Obstacle::Ending);
    }
    match field("TracerPid").parse() {
        Ok(0) | Err(_) => {}
        Ok(pid) => return Err(Obstacle::Traced { pid, name: name_of(pid) }),
    }
    if field("Seccomp") == "1" {
        return Err(Obstacle::Strict);
    }
    if field("x86_Thread_features").split_ascii_whitespace().any(|f| f == "shstk") {
        return Err(Obstacle::ShadowStack);
    }
    Ok(())
}

fn is_kernel_thread(stat: &str) -> bool {
    let flags = stat_field(stat, 9).and_then(|flags| flags.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & KERNEL_THREAD != 0)
}

/// Whether a process is a 32-bit one, by its `/proc/PID/auxv`: pairs of words, the first of which is a small number. Where
/// words are 32 bits, what looks like the upper half of the first is the value of a pair.
///
/// Source: getauxval(3); the first pair is AT_SYSINFO or AT_SYSINFO_EHDR, with an address, or AT_HWCAP.
pub fn is_32_bit(auxv: &[u8]) -> bool {
    auxv.get(4..8).is_some_and(|upper| upper != [0; 4])
}

/// Whether a `uid_map` is that of the first user namespace.
pub fn maps_all_users(uid_map: &str) -> bool {
    uid_map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_obstacle_is_named() {
        let fine = "State:\tS (sleeping)\nTracerPid:\t0\nVmSize:\t 2 kB\nSeccomp:\t0\nx86_Thread_features:\t\n";
        let with = |from: &str, to: &str| fine.replace(from, to);
        for (why, text, want) in [
            ("nothing", fine.to_owned(), Ok(())),
            ("dead", with("S (sleeping)", "Z (zombie)"), Err(Obstacle::Zombie)),
            ("no memory", with("VmSize:\t 2 kB\n", ""), Err(Obstacle::Ending)),
            ("gdb", with("Pid:\t0", "Pid:\t7"), Err(Obstacle::Traced { pid: 7, name: "gdb".into() })),
            ("strict", with("Seccomp:\t0", "Seccomp:\t1"), Err(Obstacle::Strict)),
            ("filter", with("Seccomp:\t0", "Seccomp:\t2"), Ok(())),
            ("cet", with("features:\t", "features:\tshstk wrss"), Err(Obstacle::ShadowStack)),
        ] {
            let stat = "7 (a) b) S 1 7 7 0 -1 4194304 99 0";
            assert_eq!(check(&text, stat, |_| "gdb".into()), want, "{why}");
        }
        let kernel = "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0";
        assert_eq!(check("State:\tS (sleeping)\n", kernel, |_| String::new()), Err(Obstacle::KernelThread));
    }

    #[test]
    fn words_of_the_auxiliary_vector() {
        let wide: Vec<u8> = [33_u64, 0x7fff_0000_1000].iter().flat_map(|w| w.to_le_bytes()).collect();
        let narrow: Vec<u8> = [32_u32, 0xf7fc_8570].iter().flat_map(|w| w.to_le_bytes()).collect();
        assert!(!is_32_bit(&wide));
        assert!(is_32_bit(&narrow));
        assert!(!is_32_bit(&[]), "unknown");
    }
}
