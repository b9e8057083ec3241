//! Limits of the target that the patch's mappings could run into, found before any of them is made. Pure: texts of `/proc`
//! in, verdict out.
//!
//! Source: setrlimit(2), proc(5), capabilities(7); which mappings a limit counts: `may_expand_vm` and `mlock_future_ok` of
//! Linux, mm/.

/// What the patch brings.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Mappings.
    pub mappings: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Bytes of the writable ones.
    pub writable: u64,
}

/// What the target may have, and has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Texts<'a> {
    /// Its `limits`.
    pub limits: &'a str,
    /// Its `status`.
    pub status: &'a str,
    /// Number of its mappings.
    pub mappings: u64,
    /// `/proc/sys/vm/max_map_count`.
    pub max_map_count: &'a str,
}

/// A text that is read only if it matters.
#[derive(Clone, Copy, Debug)]
pub enum Rare {
    /// Its `uid_map`.
    UidMap,
    /// Its `smaps`.
    Smaps,
    /// `/sys/module/kernel/parameters/ignore_rlimit_data`: "Y" if the kernel only warns of RLIMIT_DATA.
    IgnoreRlimitData,
}

/// A limit that the patch would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} allows {allowed}{unit}, it uses {used} and the patch needs {needed} more")]
pub struct Full {
    /// Its name.
    pub limit: &'static str,
    /// " bytes" or " mappings".
    pub unit: &'static str,
    /// Its value.
    pub allowed: u64,
    /// What is used.
    pub used: u64,
    /// What the patch needs.
    pub needed: u64,
}

impl Full {
    /// What to do.
    pub fn hint(&self, pid: i32) -> String {
        let option = match self.limit {
            MAP_COUNT => {
                return format!("raise it (`sysctl -w {MAP_COUNT}=N`), then run the command again");
            }
            ADDRESS_SPACE => "as",
            DATA => "data",
            _ => "memlock",
        };
        format!("raise it (`prlimit --pid {pid} --{option}=BYTES:`), then run the command again")
    }
}

const MAP_COUNT: &str = "vm.max_map_count";
const ADDRESS_SPACE: &str = "RLIMIT_AS";
const DATA: &str = "RLIMIT_DATA";
const MEMLOCK: &str = "RLIMIT_MEMLOCK";

/// Compares.
pub fn check(texts: &Texts<'_>, need: &Need, rare: impl Fn(Rare) -> String) -> Result<(), Full> {
    let fits = |limit, unit, allowed: Option<u64>, used: u64, needed: u64| match allowed {
        Some(allowed) if used.saturating_add(needed) > allowed => Err(Full { limit, unit, allowed, used, needed }),
        _ => Ok(()),
    };
    let used = |key| kib(texts.status, key);
    let most = texts.max_map_count.trim().parse().ok();
    fits(MAP_COUNT, " mappings", most, texts.mappings, need.mappings)?;
    let bytes = " bytes";
    fits(ADDRESS_SPACE, bytes, limit(texts.limits, "Max address space").0, used("VmSize"), need.bytes)?;
    if need.writable != 0 {
        // A soft limit of 0 does not count, the hard one does.
        let data = match limit(texts.limits, "Max data size") {
            (Some(0), hard) => hard,
            (soft, _) => soft,
        };
        let full = fits(DATA, bytes, data, used("VmData"), need.writable);
        if full.is_err() && !rare(Rare::IgnoreRlimitData).starts_with('Y') {
            return full;
        }
    }
    let locked = used("VmLck");
    let full = fits(MEMLOCK, bytes, limit(texts.limits, "Max locked memory").0, locked, need.bytes);
    let counts = || !may_lock(texts.status, &rare(Rare::UidMap)) && locks_all(&rare(Rare::Smaps));
    if full.is_err() && locked != 0 && counts() { full } else { Ok(()) }
}

/// Whether RLIMIT_MEMLOCK does not hold for the target: CAP_IPC_LOCK, in the first user namespace.
fn may_lock(status: &str, uid_map: &str) -> bool {
    /// Bit of CAP_IPC_LOCK in linux/capability.h.
    const CAP_IPC_LOCK: u64 = 1 << 14;
    let effective = value(status, "CapEff:").and_then(|caps| u64::from_str_radix(caps, 16).ok());
    super::preflight::maps_all_users(uid_map) && effective.is_some_and(|caps| caps & CAP_IPC_LOCK != 0)
}

/// Whether the kernel locks what the target maps from now on, since that has called mlockall(2) with MCL_FUTURE. The kernel does
/// not tell; but locked code, stack or heap come from mlockall, and of MCL_CURRENT alone programs have little use.
fn locks_all(smaps: &str) -> bool {
    let mut telling = false;
    smaps.lines().any(|line| {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            return telling && flags.split_ascii_whitespace().any(|flag| flag == "lo");
        }
        // Other lines are `Name: value`; the first of a mapping is as in `maps`.
        let mut words = line.split_ascii_whitespace();
        if words.next().is_some_and(|range| range.contains('-') && !range.ends_with(':')) {
            let executable = words.next().is_some_and(|rights| rights.contains('x'));
            telling = executable || line.ends_with("[stack]") || line.ends_with("[heap]");
        }
        false
    })
}

/// Soft and hard limit; `None`: unlimited.
fn limit(limits: &str, name: &str) -> (Option<u64>, Option<u64>) {
    let line = limits.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
    let mut words = line.split_ascii_whitespace().map(|word| word.parse().ok());
    (words.next().flatten(), words.next().flatten())
}

fn value<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|l| l.strip_prefix(key))?.split_ascii_whitespace().next()
}

/// Bytes in a line of `status` that counts kB.
fn kib(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':')).unwrap_or_default();
    let kib: u64 = line.split_ascii_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
    kib.saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str =
        "VmPeak:\t 99 kB\nVmSize:\t  40 kB\nVmLck:\t 8 kB\nVmData:\t 16 kB\nCapEff:\t0000000000000000\n";
    const NEED: Need = Need { mappings: 3, bytes: 12288, writable: 4096 };

    /// Of a program that has called mlockall.
    const LOCKED: &str = "400000-401000 r-xp 00000000 fe:01 17   /p\nVmFlags: rd ex lo\n";

    fn rare(uid_map: &str, smaps: &str, ignore_rlimit_data: &str) -> impl Fn(Rare) -> String {
        move |text| match text {
            Rare::UidMap => uid_map.to_owned(),
            Rare::Smaps => smaps.to_owned(),
            Rare::IgnoreRlimitData => ignore_rlimit_data.to_owned(),
        }
    }

    fn limits(name: &str, soft: &str, hard: &str) -> String {
        format!("Limit   Soft Limit   Hard Limit   Units\n{name}   {soft}   {hard}   bytes\n")
    }

    #[test]
    fn each_limit_up_to_and_past_it() {
        for (why, name, soft, hard, want) in [
            ("unlimited", "Max address space", "unlimited", "unlimited", None),
            ("just room", "Max address space", "53248", "unlimited", None),
            ("a byte short", "Max address space", "53247", "unlimited", Some(ADDRESS_SPACE)),
            ("only writable memory is data", "Max data size", "20480", "unlimited", None),
            ("a byte of data short", "Max data size", "20479", "unlimited", Some(DATA)),
            ("0 means the hard limit", "Max data size", "0", "unlimited", None),
            ("the hard limit", "Max data size", "0", "20479", Some(DATA)),
            ("locked memory", "Max locked memory", "20480", "unlimited", None),
            ("a byte of locked memory short", "Max locked memory", "20479", "unlimited", Some(MEMLOCK)),
        ] {
            let limits = limits(name, soft, hard);
            let texts = Texts { limits: &limits, status: STATUS, ..Texts::default() };
            assert_eq!(check(&texts, &NEED, rare("", LOCKED, "")).err().map(|full| full.limit), want, "{why}");
        }
    }

    #[test]
    fn what_does_not_count() {
        let data = limits("Max data size", "1", "1");
        let texts = Texts { limits: &data, status: STATUS, ..Texts::default() };
        assert_eq!(check(&texts, &NEED, rare("", "", "Y\n")), Ok(()), "the kernel only warns");
        assert_eq!(check(&texts, &Need { writable: 0, ..NEED }, rare("", "", "N\n")), Ok(()), "no writable memory");
        let locked = limits("Max locked memory", "1", "1");
        let texts = Texts { limits: &locked, ..texts };
        assert_eq!(check(&texts, &NEED, rare("", "", "")), Ok(()), "new memory is not locked");
        let capable = STATUS.replace("CapEff:\t0000000000000000", "CapEff:\t0000000000004000");
        let texts = Texts { status: &capable, ..texts };
        assert_eq!(check(&texts, &NEED, rare("0 0 4294967295\n", LOCKED, "")), Ok(()), "CAP_IPC_LOCK");
        let its_own = check(&texts, &NEED, rare("0 1000 1\n", LOCKED, ""));
        assert!(its_own.is_err(), "CAP_IPC_LOCK in a namespace of its own");
    }

    #[test]
    fn number_of_mappings() {
        let texts = |mappings| Texts { mappings, max_map_count: "65530\n", ..Texts::default() };
        assert_eq!(check(&texts(65527), &NEED, rare("", "", "")), Ok(()));
        assert_eq!(check(&texts(65528), &NEED, rare("", "", "")).unwrap_err().limit, MAP_COUNT);
    }

    #[test]
    fn mlockall_shows() {
        let text = "\
400000-401000 r-xp 00000000 fe:01 17   /p
Size:                  4 kB
VmFlags: rd ex mr mw me
7f0000000000-7f0000001000 rw-p 00000000 00:00 0
VmFlags: rd wr mr lo
";
        assert!(!locks_all(text), "one locked page of a program that keeps a secret in it");
        assert!(locks_all(&text.replace("ex mr", "ex lo")), "code");
        assert!(locks_all(&text.replace(" 00:00 0", " 00:00 0   [heap]")), "the heap");
        assert!(!locks_all(""));
    }
}
