//! The command line, and what is printed.

use crate::build::Request;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Turns a patch .so and its target into a self-contained bundle for lp-apply.
#[derive(Debug, Parser)]
#[command(name = "lp-compile", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build a bundle from the target's ELF file and a patch .so
    Build(Box<BuildArgs>),
    /// Show what a bundle would do, for people or (--json) for programs
    Inspect {
        /// The bundle
        bundle: PathBuf,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Say which functions of a program or library could be replaced, and why not the others
    Survey {
        /// The program or library
        target: PathBuf,
        /// Separate debug file of it
        #[arg(long = "debug-file", value_name = "FILE")]
        debug_files: Vec<PathBuf>,
        /// Root directory of the target's machine, for debug files
        #[arg(long, value_name = "DIR")]
        sysroot: Option<PathBuf>,
        /// Print one JSON document that has every function
        #[arg(long)]
        json: bool,
    },
    /// Explain what the analysis finds: one finding by its id, or all of them
    Explain {
        /// The id in brackets behind a message
        id: Option<String>,
    },
    /// Print livepatch.h, the header for patch sources
    Header {
        /// Write it to this file instead of standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// The program or library to be patched, exactly as it runs; again for each other build of it
    #[arg(long = "target", value_name = "ELF", required = true)]
    targets: Vec<PathBuf>,
    /// The new code, built with -shared -fPIC
    #[arg(long, value_name = "SO")]
    patch: PathBuf,
    /// Replace function OLD of the target by NEW of the patch, both as they are linked, or as C++ and Rust write them;
    /// FILE.c may have directories if there is debug information
    #[arg(long, value_name = "[MODULE:][FILE.c:]OLD=NEW")]
    replace: Vec<String>,
    /// NAME in the patch means this symbol of the target. The patch may even define NAME, if it is a global that its code
    /// reaches through relocations
    #[arg(long, value_name = "NAME=[MODULE:][FILE.c:]SYM")]
    bind: Vec<String>,
    /// Set data of the target; TYPE is i8..i64, u8..u64, int, str, hex or addr
    #[arg(long, value_name = "[MODULE:][FILE.c:]SYM[+OFF]=TYPE:[OLD->]NEW")]
    set: Vec<String>,
    /// Send the calls that MODULE makes to SYM, and only those, to NEW of the patch or the target
    #[arg(long, value_name = "MODULE:SYM[@VERSION]=NEW")]
    slot: Vec<String>,
    /// Root directory of the target's machine, for libraries and debug files
    #[arg(long, value_name = "DIR")]
    sysroot: Option<PathBuf>,
    /// A library of the target, instead of searching for it; again for each other build of it. Also what the target
    /// does not need, but may find loaded: a preloaded library, a program that uses the library to be patched
    #[arg(long = "lib", value_name = "FILE")]
    libs: Vec<PathBuf>,
    /// A plugin that the target opens by itself (dlopen), to be patched or named by MODULE:
    #[arg(long = "module", value_name = "FILE")]
    modules: Vec<PathBuf>,
    /// Separate debug file of the target or of one of its libraries
    #[arg(long = "debug-file", value_name = "FILE")]
    debug_files: Vec<PathBuf>,
    /// Name of the patch [default: the patch file's name]
    #[arg(long)]
    name: Option<String>,
    /// What the patch is for
    #[arg(long, default_value = "", value_name = "TEXT")]
    description: String,
    /// A CVE that the patch fixes
    #[arg(long, value_name = "ID")]
    cve: Vec<String>,
    /// Accept warnings of this kind; the bundle says that they were accepted. `lp-compile explain` lists the kinds
    #[arg(long, value_name = "ID")]
    allow: Vec<String>,
    /// Replace OLD although threads may be inside it: they go on with the old code
    #[arg(long, value_name = "OLD")]
    immediate: Vec<String>,
    /// When functions may be replaced
    #[arg(long, value_enum, default_value_t = Consistency::Quiescent)]
    consistency: Consistency,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
    /// The bundle to write
    #[arg(short, long, value_name = "OUT.lpb")]
    pub(crate) output: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Consistency {
    /// No thread is inside a replaced function
    Quiescent,
    /// No thread is inside the bytes that are overwritten
    Immediate,
}

impl BuildArgs {
    /// The request, and where its result goes.
    pub(crate) fn request(self) -> (Request, PathBuf) {
        let consistency = match self.consistency {
            Consistency::Quiescent => lpb::Consistency::Quiescent,
            Consistency::Immediate => lpb::Consistency::Immediate,
        };
        let request = Request {
            targets: self.targets,
            patch: self.patch,
            replace: self.replace,
            bind: self.bind,
            set: self.set,
            slot: self.slot,
            sysroot: self.sysroot,
            libs: self.libs,
            modules: self.modules,
            debug_files: self.debug_files,
            name: self.name,
            description: self.description,
            cve: self.cve,
            allow: self.allow,
            immediate: self.immediate,
            consistency,
        };
        (request, self.output)
    }
}
