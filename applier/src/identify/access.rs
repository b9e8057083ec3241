//! Which control forbids to open the memory of a process, as far as can be told from outside.
//!
//! The kernel asks in this order, and says only "no": users, dumpable, capabilities and user namespace, then security
//! modules (Yama among them). Source: ptrace(2), "Ptrace access mode checking"; `cap_ptrace_access_check` of Linux.

use super::preflight::maps_all_users;
use crate::sys::proc::Process;
use std::fs;

/// What forbids it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Control {
    /// Yama, for good.
    #[error("kernel.yama.ptrace_scope is 3: no process may trace another until the next boot")]
    YamaForGood,
    /// Yama.
    #[error("kernel.yama.ptrace_scope is {scope} and lp-apply has no CAP_SYS_PTRACE")]
    Yama {
        /// Its value.
        scope: String,
    },
    /// lp-apply is in a user namespace, and the target outside of it.
    #[error("lp-apply runs in a user namespace of its own, where its capabilities do not count for the target outside")]
    UserNamespace,
    /// All capabilities, and still no.
    #[error("a security module (SELinux, AppArmor) forbids it although lp-apply has CAP_SYS_PTRACE")]
    SecurityModule,
    /// Another user.
    #[error("the target belongs to user {theirs}, lp-apply runs as user {ours} without CAP_SYS_PTRACE")]
    User {
        /// Of the target.
        theirs: String,
        /// Of lp-apply.
        ours: String,
    },
    /// Same user, more rights.
    #[error("the target has capabilities ({more:#x}) that lp-apply has not, and lp-apply has no CAP_SYS_PTRACE")]
    Capabilities {
        /// Bits of linux/capability.h.
        more: u64,
    },
    /// Not dumpable.
    #[error(
        "the target is not dumpable (prctl PR_SET_DUMPABLE, a set-uid program or a file that its user cannot read), and lp-apply has no CAP_SYS_PTRACE"
    )]
    NotDumpable,
}

impl Control {
    /// The cure.
    pub fn hint(&self, pid: i32) -> String {
        match self {
            Self::YamaForGood => "reboot with another value of it, or restart the program with the fix".into(),
            Self::Yama { scope } if scope == "1" => {
                "run lp-apply as root, give it CAP_SYS_PTRACE, or set kernel.yama.ptrace_scope=0".into()
            }
            Self::UserNamespace => format!(
                "run lp-apply where the target was started: outside of the container or `unshare`, or in the target's \
                 (`nsenter --user --target {pid}`), as root or with CAP_SYS_PTRACE"
            ),
            Self::SecurityModule => {
                "look for the denial in the audit log (`dmesg`, `ausearch -m avc`) and allow it".into()
            }
            Self::User { theirs, .. } => {
                format!("run lp-apply as root, or give it CAP_SYS_PTRACE; as user {theirs} may do too")
            }
            Self::Yama { .. } | Self::Capabilities { .. } | Self::NotDumpable => {
                "run lp-apply as root, or give it CAP_SYS_PTRACE".into()
            }
        }
    }
}

/// What `/proc` tells of lp-apply and of the target.
#[derive(Clone, Copy, Debug, Default)]
struct Texts<'a> {
    own_status: &'a str,
    own_uid_map: &'a str,
    status: &'a str,
    uid_map: &'a str,
    /// Both `ns/user` are the same, if the target's can be seen.
    same_namespace: Option<bool>,
    /// Owner of the target's files in `/proc`.
    owner: Option<u32>,
    yama: &'a str,
}

/// Finds the control that keeps lp-apply from a process.
pub fn control(process: &Process) -> Control {
    let system = |path| fs::read_to_string(path).unwrap_or_default();
    let its = |name| process.text(name).unwrap_or_default();
    let same = |(ours, theirs)| ours == theirs;
    judge(&Texts {
        own_status: &system("/proc/self/status"),
        own_uid_map: &system("/proc/self/uid_map"),
        status: &its("status"),
        uid_map: &its("uid_map"),
        same_namespace: fs::read_link("/proc/self/ns/user").ok().zip(process.link("ns/user").ok()).map(same),
        owner: process.owner("status").ok(),
        yama: &system("/proc/sys/kernel/yama/ptrace_scope"),
    })
}

fn judge(t: &Texts<'_>) -> Control {
    /// Bit of CAP_SYS_PTRACE in linux/capability.h.
    const CAP_SYS_PTRACE: u64 = 1 << 19;
    let caps = |text, key| u64::from_str_radix(words(text, key).first().copied().unwrap_or_default(), 16).unwrap_or(0);
    let own_caps = caps(t.own_status, "CapEff:");
    let (ours, theirs) = (words(t.own_status, "Uid:"), words(t.status, "Uid:"));
    let own_user = ours.get(1).copied().unwrap_or_default();
    // The rights of the target are real, effective and saved user.
    let stranger = theirs.iter().take(3).find(|user| **user != own_user);
    let more = caps(t.status, "CapPrm:") & !own_caps;
    let scope = t.yama.trim();
    if scope == "3" {
        Control::YamaForGood
    } else if !maps_all_users(t.own_uid_map) && !t.same_namespace.unwrap_or(t.own_uid_map == t.uid_map) {
        Control::UserNamespace
    } else if own_caps & CAP_SYS_PTRACE != 0 {
        Control::SecurityModule
    } else if let Some(theirs) = stranger {
        Control::User { theirs: (*theirs).to_owned(), ours: own_user.to_owned() }
    } else if t.owner.is_some_and(|owner| own_user != owner.to_string()) {
        // The files of what is not dumpable are root's.
        Control::NotDumpable
    } else if more != 0 {
        Control::Capabilities { more }
    } else if !scope.is_empty() && scope != "0" {
        Control::Yama { scope: scope.to_owned() }
    } else {
        Control::NotDumpable
    }
}

fn words<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let line = text.lines().find_map(|l| l.strip_prefix(key));
    line.map(|l| l.split_ascii_whitespace().collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = "         0          0 4294967295\n";
    const ROOT: &str = "Uid:\t0\t0\t0\t0\nCapPrm:\t000001ffffffffff\nCapEff:\t000001ffffffffff\n";
    const USER: &str = "Uid:\t5\t5\t5\t5\nCapPrm:\t0\nCapEff:\t0\n";
    const SETUID: &str = "Uid:\t5\t0\t0\t0\nCapPrm:\t0\nCapEff:\t0\n";
    const CAPABLE: &str = "Uid:\t5\t5\t5\t5\nCapPrm:\t400\nCapEff:\t0\n";

    #[test]
    fn the_control_is_named() {
        let base = Texts { own_uid_map: ALL, uid_map: ALL, owner: Some(5), ..Texts::default() };
        let user = |theirs: &str| Control::User { theirs: theirs.into(), ours: "5".into() };
        let yama = |scope: &str| Control::Yama { scope: scope.into() };
        for (why, texts, want) in [
            ("root", Texts { own_status: ROOT, status: ROOT, ..base }, Control::SecurityModule),
            ("Yama 3", Texts { own_status: ROOT, status: ROOT, yama: "3\n", ..base }, Control::YamaForGood),
            ("another user", Texts { own_status: USER, status: ROOT, owner: Some(0), ..base }, user("0")),
            ("set-uid", Texts { own_status: USER, status: SETUID, owner: Some(0), ..base }, user("0")),
            ("capable", Texts { own_status: USER, status: CAPABLE, ..base }, Control::Capabilities { more: 0x400 }),
            ("Yama 1", Texts { own_status: USER, status: USER, yama: "1\n", ..base }, yama("1")),
            ("Yama 0", Texts { own_status: USER, status: USER, yama: "0\n", ..base }, Control::NotDumpable),
            (
                "dumpable",
                Texts { own_status: USER, status: USER, owner: Some(0), yama: "1\n", ..base },
                Control::NotDumpable,
            ),
            (
                "a container of ours, the target outside",
                Texts { own_status: ROOT, status: ROOT, own_uid_map: "0 5 1\n", ..base },
                Control::UserNamespace,
            ),
            (
                "both in it",
                Texts { own_status: USER, status: ROOT, own_uid_map: "0 5 1\n", uid_map: "0 5 1\n", ..base },
                user("0"),
            ),
        ] {
            assert_eq!(judge(&texts), want, "{why}");
        }
    }
}
