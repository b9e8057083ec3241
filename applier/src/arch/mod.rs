//! Everything that knows an instruction or a register of one processor; the rest of the applier names none.

pub mod x86_64;
