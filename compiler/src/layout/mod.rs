//! Where everything of the patch lies, before any of it has an address.
//!
//! ```text
//! area 0           the patch's image (+ added code, the gate word, thunks, code that registers its unwind tables), near the first
//!                  patched module
//! area 1, 2, ...   one island per patched module, near it: the code that the module's own text jumps to
//! ```

pub mod added;
pub mod image;
pub mod island;
pub mod preserve;
pub mod registrar;
