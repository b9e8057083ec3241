//! The memory of another process, and which of its pages there are.

use super::fault;
use super::ptrace::{self, Tid};
use lpb::RunAddr;
use lpb::addr::{to_u64, to_usize};
use lpb::limits::PAGE;
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// Places that process_vm_readv(2) takes at a time (`IOV_MAX`).
const MOST_PLACES: usize = 1024;

/// The memory of a process. Writing also works where the target itself may only read or execute: the page becomes a
/// private copy (`FOLL_FORCE`), so no mapping is ever writable and executable.
///
/// A kernel may refuse that for this file (`proc_mem.force_override`) but not for ptrace; then a stopped thread serves,
/// eight bytes at a time.
#[derive(Debug)]
pub struct Memory {
    file: File,
    stopped: Cell<Option<Tid>>,
    refuses: Cell<bool>,
}

impl Memory {
    /// Of an open `/proc/PID/mem`.
    pub fn of(file: File) -> Self {
        Self { file, stopped: Cell::new(None), refuses: Cell::new(false) }
    }

    /// Whether the file has refused to be written, so that a stopped thread has to serve.
    pub fn refuses(&self) -> bool {
        self.refuses.get()
    }

    /// Whether its process has ended, or become another program, since it was opened.
    ///
    /// Source: `mem_rw` of fs/proc/base.c: memory without a user has no bytes, what is not mapped cannot be read.
    pub fn is_nobodys(&self) -> bool {
        matches!(self.file.read_at(&mut [0], 0), Ok(0))
    }

    /// Fills `buf` from `at`.
    pub fn read(&self, at: RunAddr, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, at.0)
    }

    /// Reads many places at once, through a thread that lives: `buf` is filled with one after the other. How many of them have
    /// been read, from the first on.
    ///
    /// Source: process_vm_readv(2); what it reads is whole places, and what it cannot read ends it.
    pub fn read_many(tid: Tid, places: &[Range<RunAddr>], buf: &mut [u8]) -> usize {
        let len = |place: &Range<RunAddr>| place.end.since(place.start).map_or(0, to_usize);
        let places = places.get(..MOST_PLACES).unwrap_or(places);
        let base = |at: RunAddr| std::ptr::with_exposed_provenance_mut(to_usize(at.0));
        let remote: Vec<_> = places.iter().map(|p| libc::iovec { iov_base: base(p.start), iov_len: len(p) }).collect();
        let local = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
        let count = libc::c_ulong::try_from(remote.len()).unwrap_or(0);
        // SAFETY: process_vm_readv(2) writes at most `buf.len()` bytes of `buf`, which is borrowed for the call; `remote` are
        // addresses of the other process, which it only reads.
        let got = unsafe { libc::process_vm_readv(tid.0, &raw const local, 1, remote.as_ptr(), count, 0) };
        let mut left = usize::try_from(got).unwrap_or(0);
        let whole = |place: &&Range<RunAddr>| left.checked_sub(len(place)).map(|rest| left = rest).is_some();
        places.iter().take_while(whole).count()
    }

    /// Bytes `[at, at + len)`; `len` is the caller's bound on memory.
    pub fn read_vec(&self, at: RunAddr, len: usize) -> io::Result<Vec<u8>> {
        let mut buf = vec![0; len];
        self.read(at, &mut buf)?;
        Ok(buf)
    }

    /// The bytes of each place, or `None`. While a thread is stopped, in one system call; what may be executed but not read needs
    /// one for each place.
    pub fn read_all(&self, places: &[Range<RunAddr>]) -> Vec<Option<Vec<u8>>> {
        let len = |place: &Range<RunAddr>| place.end.since(place.start).map_or(0, to_usize);
        let mut buf = vec![0; places.iter().fold(0, |sum: usize, place| sum.saturating_add(len(place)))];
        let at_once = self.stopped.get().map_or(0, |tid| Self::read_many(tid, places, &mut buf));
        let mut rest = buf.as_slice();
        let each = places.iter().enumerate().map(|(n, place)| {
            let (bytes, behind) = rest.split_at_checked(len(place))?;
            rest = behind;
            if n < at_once { Some(bytes.to_vec()) } else { self.read_vec(place.start, len(place)).ok() }
        });
        each.collect()
    }

    /// One little-endian word.
    pub fn read_u64(&self, at: RunAddr) -> io::Result<u64> {
        let mut buf = [0; 8];
        self.read(at, &mut buf)?;
        Ok(u64::from_le_bytes(buf))
    }

    /// Names a thread that is stopped now, by which to write if the file cannot be written.
    pub fn with_stopped(&self, tid: Option<Tid>) {
        self.stopped.set(tid);
    }

    /// Writes all of `bytes` at `at`.
    pub fn write(&self, at: RunAddr, bytes: &[u8]) -> io::Result<()> {
        let written = match fault::memory_refuses() {
            true => Err(io::Error::from_raw_os_error(libc::EIO)),
            false => self.file.write_all_at(bytes, at.0),
        };
        match (written, self.stopped.get()) {
            (Err(_), Some(tid)) => {
                self.refuses.set(true);
                self.poke(tid, at, bytes)
            }
            (written, _) => written,
        }
    }

    fn poke(&self, tid: Tid, at: RunAddr, bytes: &[u8]) -> io::Result<()> {
        for (place, part) in (at.0..).step_by(8).map(RunAddr).zip(bytes.chunks(8)) {
            // The last word may reach into what follows; near the end of a mapping it starts earlier instead.
            let missing = to_u64(8_usize.saturating_sub(part.len()));
            let (start, mut word) = match self.read_vec(place, 8) {
                Ok(word) => (place, word),
                Err(_) => (
                    RunAddr(place.0.saturating_sub(missing)),
                    self.read_vec(RunAddr(place.0.saturating_sub(missing)), 8)?,
                ),
            };
            let skip = to_usize(place.since(start).unwrap_or(0));
            word.iter_mut().skip(skip).zip(part).for_each(|(old, new)| *old = *new);
            ptrace::poke(tid, start, word.try_into().map(u64::from_le_bytes).unwrap_or(0))?;
        }
        Ok(())
    }
}

/// An open `/proc/PID/pagemap`: a word for each page of the address space. Source: Documentation/admin-guide/mm/pagemap.rst.
#[derive(Debug)]
pub struct PageMap {
    file: File,
}

impl PageMap {
    /// Of an open `/proc/PID/pagemap`.
    pub fn of(file: File) -> Self {
        Self { file }
    }

    /// The page is swapped out (bit 62) or present (bit 63): in the last byte of its word.
    const USED: u8 = 0xc0;
    /// Most bytes of the file that are read at a time: the words of 64 MiB.
    const WINDOW: usize = 128 << 10;

    /// The first run of pages of `part` that are present or swapped out. If that cannot be told, all of them count.
    pub fn first_run(&self, part: Range<RunAddr>) -> Option<Range<RunAddr>> {
        let pages = part.start.0 / PAGE..part.end.0.div_ceil(PAGE);
        let run = self.ask_for_run(&pages).or_else(|_| self.read_run(&pages)).unwrap_or(Some(pages))?;
        let at = |page: u64| RunAddr(page.saturating_mul(PAGE));
        let run = at(run.start).max(part.start)..at(run.end).min(part.end);
        (run.start < run.end).then_some(run)
    }

    /// By PAGEMAP_SCAN of linux/fs.h, since Linux 6.7: it passes over memory that was never touched in no time.
    fn ask_for_run(&self, pages: &Range<u64>) -> io::Result<Option<Range<u64>>> {
        /// `_IOWR('f', 16, struct pm_scan_arg)`.
        const PAGEMAP_SCAN: u64 = 0xc060_6610;
        /// PAGE_IS_PRESENT and PAGE_IS_SWAPPED.
        const USED: u64 = 1 << 3 | 1 << 4;
        // struct page_region: start, end, categories.
        let mut region = [0_u64; 3];
        let (start, end) = (pages.start.saturating_mul(PAGE), pages.end.saturating_mul(PAGE));
        // struct pm_scan_arg: size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted, category_mask,
        // category_anyof_mask, return_mask.
        let vec = to_u64(region.as_mut_ptr().expose_provenance());
        let mut arg: [u64; 12] = [96, 0, start, end, 0, vec, 1, 0, 0, 0, USED, USED];
        // SAFETY: the ioctl reads and writes the 96 bytes of `arg` and writes one `page_region` of 24 bytes to `region`; both
        // are as long and live until it returns.
        let found = unsafe { libc::syscall(libc::SYS_ioctl, self.file.as_raw_fd(), PAGEMAP_SCAN, arg.as_mut_ptr()) };
        match found {
            ..0 => Err(io::Error::last_os_error()),
            0 => Ok(None),
            _ => Ok(Some(region[0] / PAGE..region[1] / PAGE)),
        }
    }

    fn read_run(&self, pages: &Range<u64>) -> io::Result<Option<Range<u64>>> {
        let mut words = vec![0; Self::WINDOW];
        let (mut run, mut page, mut window) = (None, pages.start, Self::WINDOW / 256);
        while page < pages.end {
            let want = to_usize(pages.end.saturating_sub(page)).saturating_mul(8).min(window);
            window = window.saturating_mul(2).min(Self::WINDOW);
            let got = self.file.read_at(words.get_mut(..want).unwrap_or_default(), page.saturating_mul(8))?;
            let words = words.get(..got).unwrap_or_default().chunks_exact(8);
            if words.len() == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            for word in words {
                match (word.last().is_some_and(|byte| byte & Self::USED != 0), run) {
                    (true, None) => run = Some(page),
                    (false, Some(first)) => return Ok(Some(first..page)),
                    _ => {}
                }
                page = page.saturating_add(1);
            }
        }
        Ok(run.map(|first| first..pages.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_places_up_to_one_that_cannot_be_read() {
        let words = [1_u64.to_le_bytes(), 2_u64.to_le_bytes(), 3_u64.to_le_bytes()];
        let at = |n: usize| RunAddr(to_u64(words.as_ptr().expose_provenance()).saturating_add(to_u64(n)));
        let me = Tid(i32::try_from(std::process::id()).unwrap());
        let (hole, [one, two]) = (RunAddr(0)..RunAddr(8), [at(0)..at(8), at(8)..at(24)]);
        for (places, want) in [
            (vec![two.clone(), one.clone()], 2),
            (vec![one.clone(), hole.clone(), two.clone()], 1),
            (vec![hole, one.clone()], 0),
            (vec![one; 2000], 1024),
            (vec![], 0),
        ] {
            let mut buf = vec![0xff; 16_000];
            assert_eq!(Memory::read_many(me, &places, &mut buf), want, "{places:?}");
            if want == 2 {
                assert_eq!(buf[..24], [words[1], words[2], words[0]].concat());
            }
        }
    }
}
