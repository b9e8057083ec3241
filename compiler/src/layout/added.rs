//! What lp-compile adds behind the patch's own segments: code that resolves at run time what no file can say.
//!
//! ```text
//! area 0   │ the patch's segments │ R-X  bind, __tls_get_addr, descriptor functions, │ RW  slots of │ RW  gate
//!                                 │      thunks, borrowed descriptors                │     thunks   │
//! ```
//! The patch's imports point to the thunks; see `arch/x86_64/lazy.rs` and `tls.rs` for what they do. Offsets are given out
//! while imports are resolved; the bytes are made at the end, when the slots have their place.

use crate::arch::x86_64::frames::Described;
use crate::arch::x86_64::{INT3, lazy, tls};
use crate::layout::image::{IMAGE, Image};
use lpb::addr::{to_u64, to_usize};
use lpb::{AreaOff, Candidate, Fixup, Form, Prot, Value};
use std::borrow::Cow;

/// Where the code stands that every patch with something added has; from the start of the R-X segment.
#[derive(Debug, Default)]
struct Common {
    bind: u64,
    descriptor_static: u64,
    descriptor_borrowed: u64,
}

/// The added code, while it grows.
#[derive(Debug)]
pub struct Added {
    start: AreaOff,
    code: Vec<u8>,
    common: Common,
    thunks: Vec<Thunk>,
    /// Where each of our `__tls_get_addr` and `pthread_key_create` is, and what the target's own is for it: one for each
    /// build of the library.
    wrappers: Vec<(u64, Vec<Candidate>)>,
    fixups: Vec<Fixup<'static>>,
    used: bool,
}

#[derive(Debug)]
struct Thunk {
    /// From the start of the code.
    at: u64,
    resolver: Vec<Candidate>,
    name: String,
}

impl Added {
    /// Nothing yet; it will stand behind what `image` has now.
    pub fn behind(image: &Image) -> Self {
        let mut added = Self {
            start: AreaOff(image.size),
            code: Vec::new(),
            common: Common::default(),
            thunks: Vec::new(),
            wrappers: Vec::new(),
            fixups: Vec::new(),
            used: false,
        };
        added.common = Common {
            bind: added.push(&lazy::BIND, 16),
            descriptor_static: added.push(&tls::DESCRIPTOR_STATIC, 16),
            descriptor_borrowed: added.push(&tls::DESCRIPTOR_BORROWED, 16),
        };
        added
    }

    fn push(&mut self, bytes: &[u8], align: usize) -> u64 {
        self.code.resize(self.code.len().next_multiple_of(align), INT3);
        let at = to_u64(self.code.len());
        self.code.extend_from_slice(bytes);
        at
    }

    fn off(&self, at: u64) -> AreaOff {
        AreaOff(self.start.0.saturating_add(at))
    }

    fn value(&self, at: u64) -> Value {
        Value::Patch { area: IMAGE, off: self.off(at) }
    }

    fn fix(&mut self, at: u64, name: &str, candidates: Vec<Candidate>) {
        let (place, name) = (self.off(at), Cow::Owned(name.to_owned()));
        self.fixups.push(Fixup { area: IMAGE, place, form: Form::Abs64, name, candidates });
    }

    /// A function that calls what `resolver` chooses.
    pub fn thunk(&mut self, name: &str, resolver: Vec<Candidate>) -> Value {
        self.used = true;
        if let Some(old) = self.thunks.iter().find(|t| t.resolver == resolver) {
            return self.value(old.at);
        }
        let at = self.push(&[INT3; lazy::THUNK_LEN], lazy::THUNK_LEN);
        self.thunks.push(Thunk { at, resolver, name: name.to_owned() });
        self.value(at)
    }

    /// The function that knows the pairs of `arch::x86_64::tls`; `real`: the target's own `__tls_get_addr`.
    pub fn get_addr(&mut self, real: Vec<Candidate>) -> Value {
        self.used = true;
        if let Some((at, _)) = self.wrappers.iter().find(|(_, old)| *old == real) {
            return self.value(*at);
        }
        let at = self.push(&tls::GET_ADDR, 16);
        self.fix(at.saturating_add(tls::GET_ADDR_REAL), "__tls_get_addr", real.clone());
        self.wrappers.push((at, real));
        self.value(at)
    }

    /// `pthread_key_create` that takes `other` for the destructor `own`; `real`: the target's.
    pub fn key_create(&mut self, own: Vec<Candidate>, other: Vec<Candidate>, real: Vec<Candidate>) -> Value {
        self.used = true;
        if let Some((at, _)) = self.wrappers.iter().find(|(_, old)| *old == real) {
            return self.value(*at);
        }
        let at = self.push(&tls::KEY_CREATE, 16);
        let [first, second, third] = tls::KEY_CREATE_WORDS.map(|word| at.saturating_add(word));
        self.fix(first, "", own);
        self.fix(second, "free", other);
        self.fix(third, "pthread_key_create", real.clone());
        self.wrappers.push((at, real));
        self.value(at)
    }

    /// The function of a descriptor that holds an offset from the thread pointer.
    pub fn descriptor_static(&mut self) -> Value {
        self.used = true;
        self.value(self.common.descriptor_static)
    }

    /// The function of a descriptor that holds the address of a borrowed one.
    pub fn descriptor_borrowed(&mut self) -> Value {
        self.used = true;
        self.value(self.common.descriptor_borrowed)
    }

    /// A copy of a live descriptor: its two words, and the distance from its variable to the wanted one.
    pub fn borrowed(&mut self, name: &str, function: Vec<Candidate>, argument: Vec<Candidate>, delta: u64) -> Value {
        self.used = true;
        let mut bytes = [0; tls::BORROWED_LEN];
        bytes.iter_mut().skip(16).zip(delta.to_le_bytes()).for_each(|(to, from)| *to = from);
        let at = self.push(&bytes, 8);
        self.fix(at, name, function);
        self.fix(at.saturating_add(8), name, argument);
        self.value(at)
    }

    /// Makes the bytes, appends them to the image, and returns their fix-ups and what an unwinder has to know of them.
    pub fn finish(mut self, image: &mut Image) -> (Vec<Fixup<'static>>, Vec<Described>) {
        if !self.used {
            return (Vec::new(), Vec::new());
        }
        let mut described: Vec<_> = self.thunks.iter().map(|t| lazy::thunk_described(self.off(t.at))).collect();
        if !described.is_empty() {
            described.push(lazy::bind_described(self.off(self.common.bind)));
        }
        let slots = to_u64(self.code.len()).next_multiple_of(lpb::limits::PAGE);
        let bind = self.common.bind;
        for (number, thunk) in (0_u64..).zip(std::mem::take(&mut self.thunks)) {
            let slot = slots.saturating_add(number.saturating_mul(8));
            // Both lie in one area, which is smaller than 1 GiB.
            let distance = |to: u64| i32::try_from(to.wrapping_sub(thunk.at).cast_signed()).unwrap_or(0);
            let code = lazy::thunk(distance(slot), distance(bind));
            let place = self.code.iter_mut().skip(to_usize(thunk.at));
            place.zip(code).for_each(|(to, from)| *to = from);
            let at = |n: u64| thunk.at.saturating_add(n);
            self.fix(at(lazy::THUNK_RESOLVER), &thunk.name, thunk.resolver);
            self.fix(at(lazy::THUNK_SLOT), "", vec![Candidate::of(self.value(slot))]);
            self.fix(slot, "", vec![Candidate::of(self.value(at(lazy::THUNK_BIND)))]);
        }
        let count = self.fixups.iter().filter(|f| f.place >= self.off(slots)).count();
        image.append(Prot::ReadExec, self.code);
        if count != 0 {
            image.append(Prot::ReadWrite, vec![0; count.saturating_mul(8)]);
        }
        (self.fixups, described)
    }
}
