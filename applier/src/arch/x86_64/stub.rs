//! The injected code: makes system calls for lp-apply and then takes the thread home without any help.
//!
//! ```text
//! stack of a borrowed thread, growing down          the stub, in the zero tail of the vdso
//!   rsp ────────► its own data                      next:  pop  %rax             the number of a call; negative: none
//!   rsp -   8 ─┐                                           js   home
//!              │  red zone, 128 bytes: untouched           pop  %rdi, %rsi, %rdx
//!   rsp - 128 ─┘                                           syscall
//!   rsp - 136     rip                                      0, or the address that was asked for?  next
//!   ...           eflags rax r11 rcx ... rdi        skip:  over the other calls
//!   rsp - 224     signal mask       ◄── context     home:  note the last address and result
//!   rsp - 240     what the stub notes                      rt_sigprocmask(SIG_SETMASK, mask, NULL, 8)
//!   rsp - 248     end mark                                 pop  all registers, flags
//!   ...           rdx rsi rdi rax, of each call            ret  $128             rip, and over the red zone
//! ```
//! The thread's whole context lies on its own stack before it is sent into the stub. If lp-apply dies, the thread makes its
//! calls, gets its signal mask and its registers back and goes on. The stub is constant, so writing it twice is harmless,
//! also for a thread that is still inside it.
//!
//! Source: Linux x86-64 system call convention (syscall(2)); Intel SDM vol. 2 for the encodings.

use super::{SYS_MMAP, error_of, unaided};
use crate::identify::seccomp::Call;
use crate::sys::ptrace::Regs;
use lpb::RunAddr;
use lpb::addr::{to_u64, to_usize};

/// The code above.
#[rustfmt::skip]
pub const STUB: [u8; 85] = [
    0x58,                               // next: pop %rax
    0x48, 0x85, 0xc0,                   // test %rax, %rax
    0x78, 0x1b,                         // js   home
    0x5f, 0x5e, 0x5a,                   // pop  %rdi; pop %rsi; pop %rdx
    0x0f, 0x05,                         // syscall
    0x48, 0x85, 0xc0,                   // test %rax, %rax
    0x74, 0xf0,                         // je   next
    0x48, 0x39, 0xf8,                   // cmp  %rdi, %rax
    0x74, 0xeb,                         // je   next
    0x59,                               // skip: pop %rcx
    0x48, 0x85, 0xc9,                   // test %rcx, %rcx
    0x78, 0x06,                         // js   home
    0x48, 0x83, 0xc4, 24,               // add  $24, %rsp
    0xeb, 0xf4,                         // jmp  skip
    0x48, 0x89, 0x3c, 0x24,             // home: mov %rdi, (%rsp)
    0x48, 0x89, 0x44, 0x24, 8,          // mov  %rax, 8(%rsp)
    0x59, 0x59,                         // pop  %rcx; pop %rcx
    0xb8, 14, 0, 0, 0,                  // mov  $14, %eax     rt_sigprocmask(
    0xbf, 2, 0, 0, 0,                   // mov  $2, %edi        SIG_SETMASK,
    0x48, 0x89, 0xe6,                   // mov  %rsp, %rsi      saved mask,
    0x31, 0xd2,                         // xor  %edx, %edx      NULL,
    0x41, 0xba, 8, 0, 0, 0,             // mov  $8, %r10d       8)
    0x0f, 0x05,                         // syscall
    0x5f,                               // pop  %rdi          (drops the mask)
    0x5f, 0x5e, 0x5a,                   // pop  %rdi; pop %rsi; pop %rdx
    0x41, 0x5a, 0x41, 0x58, 0x41, 0x59, // pop  %r10; pop %r8; pop %r9
    0x59, 0x41, 0x5b, 0x58,             // pop  %rcx; pop %r11; pop %rax
    0x9d,                               // popfq
    0xc2, 128, 0,                       // ret  $128
];

/// Distances in the stub: its first `syscall`, the instruction behind it, `skip`.
const AT_SYSCALL: u64 = 9;
const AFTER_SYSCALL: u64 = 11;
const SKIP: u64 = 21;

/// The saved context starts this far below the stack pointer: 96 bytes of context and the red zone of 128.
const CONTEXT_BELOW: u64 = 224;
/// Behind the calls of a list and below the context: the end mark, and what the stub notes.
const TAIL: [u64; 3] = [END, PENDING, PENDING];
const TAIL_LEN: u64 = 24;
/// Distance of the notes from the end mark.
const NOTES_OFF: u64 = 8;
/// Ends a list of calls: no number of a system call, and no result of one.
const END: u64 = 0xc0de_0e9d_c0de_0e9d;
/// Stands where nothing has been noted yet: the same.
const PENDING: u64 = 0xc0de_9e4d_c0de_9e4d;
/// Bytes that each call takes in a list.
const CALL_LEN: u64 = 32;
/// Calls that one list may have.
pub const MAX_CALLS: usize = 64;
/// Bytes of the stack that the longest list and its context take.
pub const LIST_ROOM: u64 = 4096;

const SYS_RT_SIGPROCMASK: u64 = 14;

/// The call that the stub makes when it is left alone, as a seccomp filter sees it; the mask's address is the thread's.
pub const HOMEWARD_CALL: Call = Call { nr: SYS_RT_SIGPROCMASK, args: [2, 0, 0, 8, 0, 0] };

/// What a seccomp filter sees as the instruction pointer of a call in the stub.
pub fn call_site(stub: RunAddr) -> RunAddr {
    RunAddr(stub.0.wrapping_add(AFTER_SYSCALL))
}

/// The context that code restores which takes a thread home, and where it goes.
pub fn saved_context(regs: &Regs, signal_mask: u64) -> Option<(RunAddr, Vec<u8>)> {
    let r = unaided(regs);
    let words = [signal_mask, r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9, r.rcx, r.r11, r.rax, r.eflags, r.rip];
    let mut bytes = Vec::with_capacity(size_of_val(&words));
    put(&mut bytes, &words);
    RunAddr(regs.rsp).minus(CONTEXT_BELOW).map(|at| (at, bytes))
}

/// Everything that has to lie on the stack of a thread before it is sent through this list of calls, and where it goes:
/// [`through_list`] begins at its first word.
pub fn saved_list(regs: &Regs, signal_mask: u64, calls: &[Call]) -> Option<(RunAddr, Vec<u8>)> {
    let (context_at, context) = saved_context(regs, signal_mask)?;
    let list = to_u64(calls.len()).checked_mul(CALL_LEN)?.checked_add(TAIL_LEN)?;
    // All at once: the thread stands still.
    let mut all = Vec::with_capacity(to_usize(list).saturating_add(context.len()));
    for Call { nr, args: [rdi, rsi, rdx, ..] } in calls {
        put(&mut all, &[*nr, *rdi, *rsi, *rdx]);
    }
    put(&mut all, &TAIL);
    all.extend(context);
    Some((context_at.minus(list)?, all))
}

fn put(bytes: &mut Vec<u8>, words: &[u64]) {
    words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
}

/// The registers that make a thread run one system call in the stub at `stub`, with the context of an empty list below it.
pub fn armed(regs: &Regs, stub: RunAddr, call: &Call) -> Regs {
    let [rdi, rsi, rdx, r10, r8, r9] = call.args;
    let rip = stub.0.wrapping_add(AT_SYSCALL);
    let rsp = regs.rsp.wrapping_sub(CONTEXT_BELOW).wrapping_sub(TAIL_LEN);
    Regs { rax: call.nr, orig_rax: u64::MAX, rip, rsp, rdi, rsi, rdx, r10, r8, r9, ..*regs }
}

/// The registers that send a thread through the calls of [`saved_list`]. Their last three arguments are those of `mmap`.
pub fn through_list(regs: &Regs, stub: RunAddr, calls: &[Call]) -> Regs {
    let tail = |call: &Call| (call.nr == SYS_MMAP).then_some(call.args);
    let [_, _, _, r10, r8, r9] = calls.iter().find_map(tail).unwrap_or_default();
    let list = to_u64(calls.len()).wrapping_mul(CALL_LEN).wrapping_add(TAIL_LEN);
    let rsp = regs.rsp.wrapping_sub(CONTEXT_BELOW).wrapping_sub(list);
    Regs { orig_rax: u64::MAX, rip: stub.0, rsp, r10, r8, r9, ..*regs }
}

/// The registers that send a thread through code that takes it home by itself, from the context of [`saved_context`].
pub fn sent(regs: &Regs, code: RunAddr) -> Regs {
    Regs { orig_rax: u64::MAX, rip: code.0, rsp: regs.rsp.wrapping_sub(CONTEXT_BELOW), ..*regs }
}

/// What a thread has noted of its list of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// Nothing yet.
    Nothing,
    /// All were made.
    All,
    /// This one failed, counted from 0; those before it were made, those behind it were not.
    Failed(usize, i32),
    /// The kernel has made a mapping elsewhere than this one asked for.
    Elsewhere(usize, RunAddr),
    /// Something else has been written there: the thread is through, but nobody knows how far it came.
    Lost,
}

/// Where the thread sent through [`saved_list`] notes what came of it: [`noted`] wants these 16 bytes.
pub fn notes_at(regs: &Regs) -> Option<RunAddr> {
    RunAddr(regs.rsp).minus(CONTEXT_BELOW)?.minus(TAIL_LEN)?.plus(NOTES_OFF)
}

/// See [`Noted`].
pub fn noted(words: [u64; 2], calls: &[Call]) -> Noted {
    let [address, result] = words;
    let asked = |call: &Call| call.args.first() == Some(&address);
    match (result, calls.iter().position(asked)) {
        (PENDING, _) => Noted::Nothing,
        (END, _) => Noted::All,
        (result, Some(n)) => match error_of(result) {
            Some(errno) => Noted::Failed(n, errno),
            None if result.is_multiple_of(lpb::limits::PAGE) => Noted::Elsewhere(n, RunAddr(result)),
            None => Noted::Lost,
        },
        (_, None) => Noted::Lost,
    }
}

/// Where an armed thread stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InStub {
    /// Before the injected call.
    Before,
    /// The call is done; its result.
    Done(u64),
    /// Anywhere else.
    Elsewhere,
}

/// See [`InStub`].
pub fn in_stub(regs: &Regs, stub: RunAddr) -> InStub {
    match RunAddr(regs.rip).since(stub) {
        Some(AT_SYSCALL) => InStub::Before,
        Some(AFTER_SYSCALL) => InStub::Done(regs.rax),
        _ => InStub::Elsewhere,
    }
}

/// The registers with which a thread in the stub goes home without making the calls that are left; `None`: it makes none.
pub fn without_calls(regs: &Regs, stub: RunAddr) -> Option<Regs> {
    // Bytes of the present call that are still on the stack.
    let left = match RunAddr(regs.rip).since(stub)? {
        0 | AT_SYSCALL..SKIP => 0,
        1..=6 if regs.rax.cast_signed() < 0 => return None,
        1..=6 => 24,
        7 => 16,
        8 => 8,
        _ => return None,
    };
    let (rip, rsp) = (stub.0.wrapping_add(SKIP), regs.rsp.wrapping_add(left));
    Some(Regs { rip, rsp, orig_rax: u64::MAX, ..*regs })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SP: u64 = 0x7000_0000;

    fn calls() -> [Call; 2] {
        let mmap = |at| Call { nr: SYS_MMAP, args: [at, 0x2000, 5, 0x22, u64::MAX, 0] };
        [mmap(0x1000), mmap(0x9000)]
    }

    #[test]
    fn a_list_lies_below_the_context() {
        let regs = Regs { rsp: SP, rdi: 7, rip: 0x40, rax: 1, orig_rax: u64::MAX, ..Regs::default() };
        let (at, bytes) = saved_list(&regs, 0xff, &calls()).unwrap();
        let words: Vec<u64> = bytes.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(words[..9], [SYS_MMAP, 0x1000, 0x2000, 5, SYS_MMAP, 0x9000, 0x2000, 5, END]);
        assert_eq!(words[9..11], [PENDING; 2]);
        assert_eq!((words[11], words[12], words.len()), (0xff, 7, 11 + 12), "mask, rdi, and the rest of the context");
        assert_eq!(at.0 + 8 * 11, SP - CONTEXT_BELOW);
        assert_eq!(notes_at(&regs), Some(RunAddr(at.0 + 8 * 9)));
        let set_off = through_list(&regs, RunAddr(0x5000), &calls());
        assert_eq!((set_off.rip, set_off.rsp, set_off.r10, set_off.r8), (0x5000, at.0, 0x22, u64::MAX));
        assert_eq!(saved_list(&Regs::default(), 0, &calls()), None, "no stack at all");
    }

    #[test]
    fn one_call_alone_is_at_the_end_of_its_list() {
        let regs = Regs { rsp: SP, ..Regs::default() };
        let (at, bytes) = saved_list(&regs, 0, &[]).unwrap();
        assert_eq!(armed(&regs, RunAddr(0x5000), &calls()[0]).rsp, at.0);
        assert_eq!(bytes[..8], END.to_le_bytes());
    }

    #[test]
    fn what_a_thread_has_noted() {
        let fail = |errno: i64| (-errno).cast_unsigned();
        for (why, words, want) in [
            ("as it was written", [PENDING; 2], Noted::Nothing),
            ("half noted", [0x9000, PENDING], Noted::Nothing),
            ("overwritten with zeroes", [0, 0], Noted::Lost),
            ("through", [0x9000, END], Noted::All),
            ("the second was refused", [0x9000, fail(12)], Noted::Failed(1, 12)),
            ("the first is elsewhere", [0x1000, 0x4000], Noted::Elsewhere(0, RunAddr(0x4000))),
            ("somebody's words", [0x1234, 0x5678], Noted::Lost),
            ("a page, but of no call", [0x1234, 0x5000], Noted::Lost),
        ] {
            assert_eq!(noted(words, &calls()), want, "{why}");
        }
    }

    #[test]
    fn calls_that_are_left_are_left_out() {
        let stub = RunAddr(0x5000);
        let at = |off: u64, rax: i64| Regs { rip: stub.0 + off, rsp: SP, rax: rax.cast_unsigned(), ..Regs::default() };
        for (why, off, rax, left) in [
            ("before the next", 0, 0, Some(0)),
            ("has the number", 1, 9, Some(24)),
            ("has the end mark", 4, -1, None),
            ("has one argument", 7, 9, Some(16)),
            ("has two", 8, 9, Some(8)),
            ("before the call", AT_SYSCALL, 9, Some(0)),
            ("behind it", AFTER_SYSCALL, 0, Some(0)),
            ("compares", 16, 0, Some(0)),
            ("leaves them out already", SKIP, 0, None),
            ("on its way home", 40, 0, None),
        ] {
            let regs = without_calls(&at(off, rax), stub);
            assert_eq!(regs.map(|r| (r.rip, r.rsp)), left.map(|n| (stub.0 + SKIP, SP + n)), "{why}");
        }
        assert_eq!(without_calls(&Regs { rip: 0x4fff, ..Regs::default() }, stub), None, "elsewhere");
    }

    #[test]
    fn the_stub_is_what_its_comments_say() {
        // Offsets of the first byte of each instruction, decoded by another decoder.
        let mut decoder = iced_x86::Decoder::with_ip(64, &STUB, 0, 0);
        let mut text = Vec::new();
        while decoder.can_decode() {
            let i = decoder.decode();
            text.push((
                i.ip(),
                i.mnemonic(),
                if i.is_jmp_short_or_near() || i.is_jcc_short_or_near() { i.near_branch64() } else { 0 },
            ));
        }
        use iced_x86::Mnemonic::{Je, Jmp, Js, Mov, Pop, Ret, Syscall};
        let at = |ip| text.iter().find(|(at, ..)| *at == ip).map(|(_, what, to)| (*what, *to));
        assert_eq!(at(AT_SYSCALL), Some((Syscall, 0)));
        assert_eq!(at(SKIP), Some((Pop, 0)));
        let home = 33;
        assert_eq!(at(home), Some((Mov, 0)));
        let jumps: Vec<_> =
            text.iter().filter(|(_, what, _)| matches!(what, Je | Js | Jmp)).map(|(_, _, to)| *to).collect();
        assert_eq!(jumps, [home, 0, 0, home, SKIP]);
        assert_eq!(text.last().map(|(_, what, _)| *what), Some(Ret));
    }
}
