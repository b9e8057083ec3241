//! Everything that knows an instruction or a relocation number. One module per processor.

pub mod x86_64;
