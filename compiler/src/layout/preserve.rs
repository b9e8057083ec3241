//! Pages of the image with the thunks of replaced functions whose callers know their inside, and with what an unwinder has to
//! know of all code that was added.
//!
//! ```text
//! R-X  │ thunk │ thunk ...     16-aligned, int3 between │ .eh_frame of them and of `added` │
//! ```
//! There is one thunk for each replacement; it does what any build of the function needs.

use super::image::Image;
use crate::analyse::Function;
use crate::arch::x86_64::frames::{self, Described};
use crate::arch::x86_64::preserve::Thunk;
use crate::arch::x86_64::{self as arch, preserve};
use lpb::addr::to_u64;
use lpb::{AreaOff, Prot};

/// Where the unwind table of added code is, and how long.
pub type Table = Option<(AreaOff, u64)>;

/// Appends the thunks to the image. `new`, the code of each replacement, becomes its thunk where it has one; `described` is
/// the code that was added before.
pub fn add(image: &mut Image, functions: &[Function], new: &mut [AreaOff], mut described: Vec<Described>) -> Table {
    let page = AreaOff(image.size);
    let mut bytes = Vec::new();
    for (number, entry) in new.iter_mut().enumerate() {
        let Some(thunk) = merged(functions, number) else { continue };
        let at = align(&mut bytes, page);
        let code = preserve::code(thunk, at, *entry);
        described.push(preserve::described(at, to_u64(code.len())));
        bytes.extend(code);
        *entry = at;
    }
    if described.is_empty() {
        return None;
    }
    let at = align(&mut bytes, page);
    let table = frames::table(at, &described);
    let len = to_u64(table.len());
    bytes.extend(table);
    image.append(Prot::ReadExec, bytes);
    Some((at, len))
}

/// What all builds of a replaced function need together.
fn merged(functions: &[Function], number: usize) -> Option<Thunk> {
    let thunks = functions.iter().filter(|f| f.number == number).filter_map(|f| f.thunk);
    thunks.reduce(|a, b| Thunk { keep: a.keep | b.keep, words: a.words.max(b.words) })
}

/// The next 16-aligned place.
fn align(bytes: &mut Vec<u8>, page: AreaOff) -> AreaOff {
    bytes.resize(bytes.len().next_multiple_of(16), arch::INT3);
    AreaOff(page.0.saturating_add(to_u64(bytes.len())))
}
