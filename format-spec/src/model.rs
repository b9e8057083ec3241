//! What a bundle says, as types that cannot say anything meaningless.
//!
//! ```text
//! Patch
//!  ├─ modules    ELF objects of the target ──► builds ──► PT_LOADs, build-id
//!  ├─ areas      memory the patch brings    ──► image segments (R, R-X or RW) with their bytes
//!  ├─ fixups     words of the areas that depend on the process ──► candidates, first that holds wins
//!  ├─ redirects  changes to the target's own memory: jumps, GOT slots, data
//!  └─ unwind     .eh_frame tables of the areas, and the code that registers them
//! ```
//! Text and bytes are borrowed from the file when read and may be owned when written.

use crate::addr::{AreaOff, FileOff, LinkAddr};
use std::borrow::Cow;

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(transparent))]
        pub struct $name(pub u16);

        impl $name {
            /// As an index into the list it numbers.
            pub fn index(self) -> usize {
                usize::from(self.0)
            }
        }
    };
}

index! {
    /// Number of a [`Module`] in its patch.
    ModuleId
}
index! {
    /// Number of a [`Build`] in its module.
    BuildIdx
}
index! {
    /// Number of an [`Area`] in its patch.
    AreaId
}

/// A whole patch: all that the digest and the signature cover.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct Patch<'a> {
    /// Name given by the author; patches of one name succeed each other.
    pub name: Cow<'a, str>,
    /// Retire active patches of the same name in the same commit.
    pub replace: bool,
    /// The word that opens all gate thunks at once: 0 = closed (old code), 1 = open. 4-aligned, in an RW segment.
    pub gate: Option<(AreaId, AreaOff)>,
    /// ELF objects of the target.
    pub modules: Vec<Module<'a>>,
    /// Memory that lp-apply maps into the target.
    pub areas: Vec<Area<'a>>,
    /// Words of the areas that depend on the process.
    pub fixups: Vec<Fixup<'a>>,
    /// Changes to the target's own memory.
    pub redirects: Vec<Redirect<'a>>,
    /// Unwind tables of the areas.
    pub unwind: Vec<Unwind>,
    /// JSON for people and pipelines; lp-apply never reads it. Empty: no META section.
    pub meta: Cow<'a, str>,
}

/// One ELF object of the target process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct Module<'a> {
    /// Soname or file name: for messages, and to tell a module that is not there from another build of it.
    pub name: Cow<'a, str>,
    /// It is expected in the process but need not be there: then candidates that name it do not hold.
    #[cfg_attr(feature = "serde", serde(default))]
    pub optional: bool,
    /// The builds that this patch knows; exactly one must be found in the process.
    pub builds: Vec<Build<'a>>,
}

/// One build of a module, recognised in memory by its segments and its build-id.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct Build<'a> {
    /// Whether the object is loaded at a bias.
    pub e_type: ElfType,
    /// Descriptor of `NT_GNU_BUILD_ID`; empty if the object has none.
    #[cfg_attr(feature = "serde", serde(with = "hex"))]
    pub build_id: Cow<'a, [u8]>,
    /// Where the build-id's bytes are mapped; 0 if there is none.
    pub build_id_addr: LinkAddr,
    /// Every `PT_LOAD`, ascending.
    pub segments: Vec<Segment>,
    /// Without a build-id: bytes that tell this build from others (ELF header and program headers).
    #[cfg_attr(feature = "serde", serde(with = "hex"))]
    pub proof: Cow<'a, [u8]>,
    /// Where `proof` is mapped; 0 if it is empty.
    pub proof_addr: LinkAddr,
}

/// `e_type` of an object that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub enum ElfType {
    /// `ET_EXEC`: loaded at its link addresses; the bias is 0.
    Exec,
    /// `ET_DYN`: loaded at a bias.
    Dyn,
}

/// One `PT_LOAD`. Source: gABI ch. 5, "Program Header".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct Segment {
    /// `p_vaddr`.
    pub vaddr: LinkAddr,
    /// `p_offset`.
    pub offset: FileOff,
    /// `p_filesz` in bytes.
    pub filesz: u64,
    /// `p_memsz` in bytes.
    pub memsz: u64,
    /// `p_flags`: `PF_X` 1, `PF_W` 2, `PF_R` 4.
    pub flags: u32,
}

/// One contiguous range of addresses that lp-apply maps into the target.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct Area<'a> {
    /// Every byte of the area must lie within ±2 GiB of every byte of this module. `None`: anywhere.
    pub near: Option<ModuleId>,
    /// Bytes, a multiple of 4096.
    pub size: u64,
    /// Mappings, ascending, not overlapping; gaps stay unmapped.
    pub segments: Vec<ImageSegment<'a>>,
}

/// One mapping of an area.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct ImageSegment<'a> {
    /// Start, a multiple of 4096.
    pub off: AreaOff,
    /// Bytes, a multiple of 4096, not 0.
    pub size: u64,
    /// How it is mapped. There is no way to say "writable and executable".
    pub prot: Prot,
    /// The first bytes; the rest is zero.
    #[cfg_attr(feature = "serde", serde(with = "hex"))]
    pub data: Cow<'a, [u8]>,
}

/// Protection of an image segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub enum Prot {
    /// `PROT_READ`.
    Read,
    /// `PROT_READ | PROT_EXEC`.
    ReadExec,
    /// `PROT_READ | PROT_WRITE`.
    ReadWrite,
}

/// One word of an area that depends on the process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct Fixup<'a> {
    /// The area.
    pub area: AreaId,
    /// Where in the area; inside the bytes of a segment's `size`.
    pub place: AreaOff,
    /// How the value is written.
    pub form: Form,
    /// Symbol (`puts@GLIBC_2.2.5`) for messages; may be empty.
    pub name: Cow<'a, str>,
    /// The first that holds is taken; none holding refuses the patch.
    pub candidates: Vec<Candidate>,
}

/// How a value is written into its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub enum Form {
    /// 8 bytes: the value.
    Abs64,
    /// 4 bytes: the value minus the run address of the place; refused if it does not fit `i32`.
    Rel32,
}

impl Form {
    /// Bytes written.
    pub fn width(self) -> u64 {
        match self {
            Self::Abs64 => 8,
            Self::Rel32 => 4,
        }
    }
}

/// One way to get a value: `value + delta`, if the guard holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct Candidate {
    /// Holds only if this module was found as this build; `None`: always.
    pub guard: Option<(ModuleId, BuildIdx)>,
    /// Holds only if no *unexpected* module is in the process: one that the patch does not list could define the symbol
    /// too, and come first.
    #[cfg_attr(feature = "serde", serde(default))]
    pub closed: bool,
    /// The base of the value.
    pub value: Value,
    /// Added to it, modulo 2^64.
    pub delta: i64,
}

impl Candidate {
    /// A candidate without condition or addend.
    pub fn of(value: Value) -> Self {
        Self { guard: None, closed: false, value, delta: 0 }
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub enum Value {
    /// A constant.
    Abs(u64),
    /// A place in one of the patch's areas.
    Patch {
        /// The area.
        area: AreaId,
        /// Where in it; at most its size.
        off: AreaOff,
    },
    /// Load bias of a module + a link address.
    Module {
        /// The module.
        module: ModuleId,
        /// Address in its ELF file.
        addr: LinkAddr,
    },
    /// The 8 bytes that the live process holds at a slot. Does not hold if they are 0, or `unbound` (what the file says: not
    /// relocated yet), or equal to the module's bias + `unbound` (the same, relocated: not bound yet).
    Witness {
        /// The module that owns the slot.
        module: ModuleId,
        /// Link address of the slot.
        slot: LinkAddr,
        /// The 8 bytes stored in the file at the slot.
        unbound: u64,
    },
    /// The relocated prologue of a [`Jump`]: the old code of what it replaces. Holds if that redirect is in force in this
    /// process.
    Original {
        /// Its place in the patch's redirects.
        redirect: u32,
    },
}

/// One change to the target's own memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct Redirect<'a> {
    /// The module that is changed.
    pub module: ModuleId,
    /// The build of it that this redirect is for; with another build it is left out.
    pub build: BuildIdx,
    /// Name of what is changed, for messages.
    pub name: Cow<'a, str>,
    /// When it may be changed.
    pub consistency: Consistency,
    /// The change.
    pub change: Change<'a>,
}

/// When a function may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub enum Consistency {
    /// No thread is inside it or will return into it.
    Quiescent,
    /// No thread is inside, or will return into, the bytes that are overwritten.
    Immediate,
}

/// The kinds of change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub enum Change<'a> {
    /// A jump over the first bytes of a function.
    Jump(Jump<'a>),
    /// A GOT slot.
    Slot(Slot),
    /// Plain data.
    Data(Data<'a>),
}

/// A jump over the first bytes of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct Jump<'a> {
    /// `st_value` of the function.
    pub function: LinkAddr,
    /// Where the jump is written: the function, or behind its `endbr64`.
    pub site: LinkAddr,
    /// The [`JUMP_LEN`] bytes that must stand at `site`.
    #[cfg_attr(feature = "serde", serde(with = "hex"))]
    pub expected: Cow<'a, [u8]>,
    /// All parts of the function: body, `.cold`, `.part`. The first holds `site`.
    pub fragments: Vec<Fragment<'a>>,
    /// Address of the new code.
    pub new: Vec<Candidate>,
    /// The area, near the module, that holds the three pieces of code below.
    pub island: AreaId,
    /// Relocated prologue: runs the overwritten instructions and goes on in the old function.
    pub original: Option<AreaOff>,
    /// Gate thunk: to the new code if the patch's gate is open, else to `original`.
    pub gate: Option<AreaOff>,
    /// Far thunk: an absolute jump to the new code, for when it lies out of reach of `site`.
    pub far: Option<AreaOff>,
    /// Slots that hold the implementation that was chosen for an IFUNC, best first. If there are any, the redirect is in
    /// force only if the first one that holds has the run address of `function`; of neighbouring redirects of one build
    /// with the same list, exactly one must be. All are [`Value::Witness`].
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Vec::is_empty"))]
    pub chosen: Vec<Candidate>,
}

/// Bytes of the `jmp rel32` that a [`Jump`] writes. Source: Intel SDM vol. 2A, "JMP—Jump", `E9 cd`.
pub const JUMP_LEN: u64 = 5;

/// One contiguous part of a replaced function.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct Fragment<'a> {
    /// Its symbol, for messages.
    pub name: Cow<'a, str>,
    /// First byte.
    pub addr: LinkAddr,
    /// Bytes, not 0.
    pub size: u64,
    /// What must stand there: `size` bytes, or none where the loader changes the text (`DT_TEXTREL`).
    #[cfg_attr(feature = "serde", serde(with = "hex"))]
    pub bytes: Cow<'a, [u8]>,
}

/// A change of one 8-byte GOT slot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct Slot {
    /// Link address of the slot.
    pub slot: LinkAddr,
    /// The slot must hold one of these values.
    pub expected: Vec<Candidate>,
    /// What is written.
    pub new: Vec<Candidate>,
}

/// A change of plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct Data<'a> {
    /// Link address of the first byte.
    pub addr: LinkAddr,
    /// What must stand there.
    #[cfg_attr(feature = "serde", serde(with = "hex"))]
    pub expected: Cow<'a, [u8]>,
    /// What is written; as long as `expected`.
    #[cfg_attr(feature = "serde", serde(with = "hex"))]
    pub new: Cow<'a, [u8]>,
}

/// One unwind table, and the code that makes it known to an unwinder of the process. `SPEC.md` section 7 says how a thread
/// comes to `enter` and `leave`, and how it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct Unwind {
    /// The area that holds all that follows.
    pub area: AreaId,
    /// The module with the unwinder: a thread that is in its code must not be sent. `None`: a thread's place does not show
    /// whether it is, because the unwinder, or `malloc`, is a part of the program or of what is redirected.
    pub provider: Option<ModuleId>,
    /// Code that registers the table; in an R-X segment.
    pub enter: AreaOff,
    /// Code that takes it back.
    pub leave: AreaOff,
    /// A 4-byte word, 4-aligned, in an RW segment: 1 while the table is registered.
    pub done: AreaOff,
    /// Start of `.eh_frame`.
    pub eh_frame: AreaOff,
    /// Its length in bytes, terminator included.
    pub eh_frame_len: u64,
}

/// Bytes as a hex string in JSON.
#[cfg(feature = "serde")]
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::{borrow::Cow, fmt::Write};

    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        let mut text = String::new();
        for byte in bytes {
            write!(text, "{byte:02x}").map_err(serde::ser::Error::custom)?;
        }
        s.serialize_str(&text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Cow<'static, [u8]>, D::Error> {
        let text = String::deserialize(d)?;
        let pair = |pair: &[u8]| {
            let digits = std::str::from_utf8(pair).map_err(D::Error::custom)?;
            if pair.len() != 2 || !pair.iter().all(u8::is_ascii_hexdigit) {
                return Err(D::Error::custom("bytes are pairs of hex digits"));
            }
            u8::from_str_radix(digits, 16).map_err(D::Error::custom)
        };
        text.as_bytes().chunks(2).map(pair).collect::<Result<Vec<u8>, _>>().map(Cow::Owned)
    }
}
