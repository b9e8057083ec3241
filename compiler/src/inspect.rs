//! A bundle for people: what it is for, what it changes, where every value comes from.
//!
//! The page says only what the bundle's checked records say; names of symbols of the patch come from the report inside
//! it, which is for people only. For programs, [`document`] is the whole [`lpb::Patch`] as JSON.

use crate::analyse::prologue;
use crate::arch::x86_64::INT3;
use crate::read::symbols::printable;
use lpb::addr::{to_u64, to_usize};
use lpb::{
    Area, AreaId, AreaOff, Bundle, Candidate, Change, Consistency, ElfType, Fixup, Form, Jump, LinkAddr, Module, Patch,
    Prot, Redirect, Signature, Value,
};
use serde_json::{Value as Json, json};
use std::fmt::{self, Write as _};
use std::path::Path;

/// What was built, in a few lines.
pub fn summary(bundle: &Bundle<'_>, report: &Json, path: &Path, size: usize) -> String {
    let patch = &bundle.patch;
    let mut out = format!(
        "{}: patch {} ({}), {size} bytes: {}, {} by name\n",
        path.display(),
        patch.name,
        bundle.digest.short(),
        counted(patch.redirects.len(), "change"),
        counted(patch.fixups.iter().filter(|f| !f.name.is_empty()).count(), "value"),
    );
    for finding in report["findings"].as_array().into_iter().flatten() {
        out.push_str(&format!("  {}\n", finding_line(finding)));
    }
    for note in report["notes"].as_array().into_iter().flatten() {
        out.push_str(&format!("  note: {}\n", text(note)));
    }
    for replacement in report["replacements"].as_array().into_iter().flatten() {
        for note in replacement["notes"].as_array().into_iter().flatten() {
            out.push_str(&format!("  note: {}: {}\n", text(&replacement["old"]), text(note)));
        }
    }
    out
}

fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// The whole bundle for programs.
pub fn document(bundle: &Bundle<'_>) -> Json {
    let meta: Json = serde_json::from_str(&bundle.patch.meta).unwrap_or(Json::Null);
    let mut patch = serde_json::to_value(&bundle.patch).unwrap_or_default();
    if let Some(fields) = patch.as_object_mut() {
        fields.remove("meta");
    }
    json!({
        "tool": "lp-compile", "version": env!("CARGO_PKG_VERSION"), "exit": 0,
        "digest": bundle.digest.to_string(), "signatures": bundle.signatures.len(), "patch": patch, "meta": meta,
    })
}

/// A JSON string of the report, safe for a terminal.
fn text(value: &Json) -> String {
    value.as_str().map(|s| printable(s.as_bytes())).unwrap_or_default()
}

/// What was accepted or noted when the bundle was built.
fn finding_line(finding: &Json) -> String {
    let how = if finding["severity"] == "warning" { "accepted" } else { "note" };
    format!("{how}: {} [{}]", text(&finding["message"]), text(&finding["id"]))
}

/// The whole bundle for people.
pub fn page(bundle: &Bundle<'_>) -> String {
    let meta: Json = serde_json::from_str(&bundle.patch.meta).unwrap_or(Json::Null);
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = Page { bundle, patch: &bundle.patch, meta: &meta }.write(&mut out);
    out
}

struct Page<'a> {
    bundle: &'a Bundle<'a>,
    patch: &'a Patch<'a>,
    meta: &'a Json,
}

impl Page<'_> {
    fn write(&self, out: &mut String) -> fmt::Result {
        self.head(out)?;
        writeln!(out, "\nModules of the target")?;
        self.patch.modules.iter().try_for_each(|m| module(out, m))?;
        writeln!(out, "\nMemory that the patch brings")?;
        for (id, area) in (0_u16..).zip(&self.patch.areas) {
            self.area(out, AreaId(id), area)?;
        }
        writeln!(out, "\nChanges of the target")?;
        self.patch.redirects.iter().try_for_each(|r| self.redirect(out, r))?;
        writeln!(out, "\nValues by name (the first that holds is taken)")?;
        self.patch.fixups.iter().filter(|f| !f.name.is_empty()).try_for_each(|f| self.fixup(out, f))?;
        let unnamed = self.patch.fixups.iter().filter(|f| f.name.is_empty()).count();
        writeln!(
            out,
            "  and {} without a name: pointers inside the patch, jumps of the islands",
            counted(unnamed, "value")
        )?;
        for u in &self.patch.unwind {
            let [table, enter, leave, done] = [u.eh_frame, u.enter, u.leave, u.done].map(|off| self.place(u.area, off));
            let provider = u.provider.map_or("the program (only sleepers are sent)", |m| self.module_name(m));
            writeln!(out, "\nUnwind table at {table}, {} bytes, for the unwinder of {provider}", u.eh_frame_len)?;
            writeln!(out, "  registered by the code at {enter}, taken back by that at {leave}; done word at {done}")?;
        }
        Ok(())
    }

    fn head(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "Patch        {}", self.patch.name)?;
        writeln!(out, "Digest       {}", self.bundle.digest)?;
        let signatures: Vec<String> = self.bundle.signatures.iter().map(signature).collect();
        let signed = if signatures.is_empty() { "no".to_owned() } else { signatures.join(", ") };
        writeln!(out, "Signed       {signed}")?;
        let description = text(&self.meta["description"]);
        if !description.is_empty() {
            writeln!(out, "Description  {description}")?;
        }
        let cve: Vec<String> = self.meta["cve"].as_array().into_iter().flatten().map(text).collect();
        if !cve.is_empty() {
            writeln!(out, "CVE          {}", cve.join(", "))?;
        }
        for (label, part) in [("Built for   ", "target"), ("Built from  ", "patch")] {
            let file = self.meta.get(part).and_then(|p| p.get("file")).map(text).unwrap_or_default();
            if !file.is_empty() {
                writeln!(out, "{label} {file}")?;
            }
        }
        for finding in self.meta["findings"].as_array().into_iter().flatten() {
            writeln!(out, "Finding      {}", finding_line(finding))?;
            for line in finding["evidence"].as_array().into_iter().flatten() {
                writeln!(out, "             {}", text(line))?;
            }
        }
        for note in self.meta["notes"].as_array().into_iter().flatten() {
            writeln!(out, "Note         {}", text(note))?;
        }
        if self.patch.replace {
            writeln!(out, "Replaces     active patches of the same name")?;
        }
        if let Some((area, off)) = self.patch.gate {
            writeln!(out, "Gate         {}: one word switches all functions", self.place(area, off))?;
        }
        Ok(())
    }

    fn module_name(&self, id: lpb::ModuleId) -> &str {
        self.patch.modules.get(id.index()).map_or("?", |m| &m.name)
    }

    /// The module that a redirect changes, and which build of it where there are several.
    fn built(&self, r: &Redirect<'_>) -> String {
        let several = self.patch.modules.get(r.module.index()).is_some_and(|m| m.builds.len() > 1);
        let build = if several { format!(" build {}", r.build.0) } else { String::new() };
        format!("{}{build}", self.module_name(r.module))
    }

    fn place(&self, area: AreaId, off: AreaOff) -> String {
        format!("area {}+{off}", area.0)
    }

    /// The old code of what a redirect replaces.
    fn old_code(&self, redirect: u32) -> String {
        let of = self.patch.redirects.get(to_usize(redirect.into()));
        let part = of.and_then(|r| if let Change::Jump(j) = &r.change { j.fragments.first() } else { None });
        format!("the old code of {}, if that was chosen", part.map_or("?", |f| &f.name))
    }

    fn area(&self, out: &mut String, id: AreaId, area: &Area<'_>) -> fmt::Result {
        let near = area.near.map(|m| format!(", within 2 GiB of {}", self.module_name(m))).unwrap_or_default();
        writeln!(out, "  area {}  {} bytes{near}", id.0, area.size)?;
        for s in &area.segments {
            let prot = match s.prot {
                Prot::Read => "R  ",
                Prot::ReadExec => "R-X",
                Prot::ReadWrite => "RW ",
            };
            writeln!(out, "    {:<8}  {prot}  {:>7} bytes, {} stored", s.off.to_string(), s.size, s.data.len())?;
        }
        Ok(())
    }

    fn redirect(&self, out: &mut String, r: &Redirect<'_>) -> fmt::Result {
        let when = match r.consistency {
            Consistency::Quiescent => "when no thread is inside",
            Consistency::Immediate => "when no thread is inside the overwritten bytes",
        };
        let module = self.built(r);
        match &r.change {
            Change::Jump(j) => self.jump(out, r, j, when),
            Change::Slot(s) => {
                // Only `--slot` is reported; `--set` writes plain pointers.
                let reported = self.meta["slots"].as_array().into_iter().flatten();
                let slot = reported.into_iter().find(|m| {
                    text(&m["name"]) == r.name && text(&m["address"]) == s.slot.to_string() && m["build"] == r.build.0
                });
                let what = if slot.is_some() { "slot" } else { "pointer" };
                let new = slot.map(|m| format!(" ({})", text(&m["new"]))).unwrap_or_default();
                writeln!(out, "  {what} {} of {module} at {}", r.name, s.slot)?;
                writeln!(out, "    from  {}", self.expected(r.module, s))?;
                writeln!(out, "    to    {}{new}", self.list(&s.new))
            }
            Change::Data(d) => {
                writeln!(out, "  data {} of {module} at {}, {} bytes", r.name, d.addr, d.new.len())?;
                writeln!(out, "    from  {}", bytes(&d.expected))?;
                writeln!(out, "    to    {}", bytes(&d.new))
            }
        }
    }

    fn jump(&self, out: &mut String, r: &Redirect<'_>, j: &Jump<'_>, when: &str) -> fmt::Result {
        let module = self.module_name(r.module);
        writeln!(out, "  function {} of {} at {}, {when}", r.name, self.built(r), j.function)?;
        let reported = self.meta["replacements"].as_array().into_iter().flatten();
        let new = reported.into_iter().find(|m| text(&m["old"]) == r.name && text(&m["module"]) == module);
        let name = new.map(|m| text(&m["new"])).filter(|n| !n.is_empty());
        let name = name.map(|n| format!(" ({n})")).unwrap_or_default();
        writeln!(out, "    new code  {}{name}", self.list(&j.new))?;
        writeln!(out, "    jump      at {} over {}", j.site, bytes(&j.expected))?;
        for f in &j.fragments {
            writeln!(out, "    part      {} at {}, {} bytes", f.name, f.addr, f.size)?;
        }
        if !j.chosen.is_empty() {
            writeln!(out, "    only if   it is {}", self.list(&j.chosen))?;
        }
        for (what, off) in [("gate", j.gate), ("far jump", j.far)] {
            if let Some(off) = off {
                writeln!(out, "    {what:<9} {}", self.place(j.island, off))?;
            }
        }
        let Some(original) = j.original else { return Ok(()) };
        writeln!(out, "    old code  {}, addresses are those of {module}:", self.place(j.island, original))?;
        self.disassemble(out, j.island, original)
    }

    /// The moved prologue. Displacements are filled in so that targets read as link addresses of the module.
    fn disassemble(&self, out: &mut String, area: AreaId, start: AreaOff) -> fmt::Result {
        const LONGEST: usize = 96; // far more than five bytes of instructions can become
        let segments = self.patch.areas.get(area.index()).map(|a| a.segments.as_slice()).unwrap_or_default();
        let from = segments.iter().find_map(|s| s.data.get(to_usize(start.since(s.off)?)..));
        let mut code: Vec<u8> = from.unwrap_or_default().iter().copied().take(LONGEST).collect();
        for f in self.patch.fixups.iter().filter(|f| f.area == area && f.form == Form::Rel32) {
            let Some(at) = f.place.since(start).map(to_usize) else { continue };
            let Some(Candidate { value: Value::Module { addr, .. }, delta, .. }) = f.candidates.first() else {
                continue;
            };
            let value = addr.0.wrapping_add_signed(*delta).wrapping_sub(f.place.0).cast_signed();
            let field = at.checked_add(4).and_then(|end| code.get_mut(at..end));
            if let (Some(field), Ok(value)) = (field, i32::try_from(value)) {
                field.copy_from_slice(&value.to_le_bytes());
            }
        }
        for i in prologue::decode(&code, LinkAddr(start.0)) {
            let at = to_usize(LinkAddr(i.ip()).0.saturating_sub(start.0));
            if i.is_invalid() || code.get(at) == Some(&INT3) {
                break;
            }
            writeln!(out, "      {:#06x}  {}", i.ip(), prologue::text(&i))?;
            if prologue::is_final(&i) {
                break;
            }
        }
        Ok(())
    }

    fn fixup(&self, out: &mut String, f: &Fixup<'_>) -> fmt::Result {
        writeln!(out, "  {}  at {}", f.name, self.place(f.area, f.place))?;
        f.candidates.iter().try_for_each(|c| writeln!(out, "    {}", self.candidate(c)))
    }

    /// What a slot may hold. Its own word vouches for code of any file: see `SPEC.md`, "Slot".
    fn expected(&self, module: lpb::ModuleId, s: &lpb::Slot) -> String {
        let itself =
            |c: &Candidate| matches!(c.value, Value::Witness { module: m, slot, .. } if m == module && slot == s.slot);
        let one = |c: &Candidate| if itself(c) { "code of any file".to_owned() } else { self.candidate(c) };
        s.expected.iter().map(one).collect::<Vec<_>>().join(", or ")
    }

    fn list(&self, candidates: &[Candidate]) -> String {
        candidates.iter().map(|c| self.candidate(c)).collect::<Vec<_>>().join(", else ")
    }

    fn candidate(&self, c: &Candidate) -> String {
        let mut line = match c.value {
            Value::Abs(value) => format!("the number {value:#x}"),
            Value::Patch { area, off } => self.place(area, off),
            Value::Original { redirect } => self.old_code(redirect),
            Value::Module { module, addr } => format!("{}+{addr}", self.module_name(module)),
            Value::Witness { module, slot, unbound } => {
                let name = self.module_name(module);
                format!("what the slot {name}+{slot} holds, if bound (unbound: {unbound:#x})")
            }
        };
        if c.delta != 0 {
            let sign = if c.delta < 0 { '-' } else { '+' };
            let _ = write!(line, " {sign} {:#x}", c.delta.unsigned_abs());
        }
        if let Some((module, build)) = c.guard {
            let _ = write!(line, " [only with build {} of {}]", build.0, self.module_name(module));
        }
        if c.closed {
            line.push_str(" [only without unexpected modules]");
        }
        line
    }
}

fn signature(signature: &Signature<'_>) -> String {
    match signature {
        Signature::Minisign(_) => "minisign (not verified here)".to_owned(),
        Signature::Unknown(kind) => format!("unknown kind {kind}"),
    }
}

fn module(out: &mut String, m: &Module<'_>) -> fmt::Result {
    for (number, b) in m.builds.iter().enumerate() {
        let number = if m.builds.len() > 1 { format!(" build {number}") } else { String::new() };
        let id = match b.build_id.is_empty() {
            true => format!("no build-id, {} bytes of its headers at {}", b.proof.len(), b.proof_addr),
            false => format!(
                "build-id {} at {}",
                b.build_id.iter().map(|b| format!("{b:02x}")).collect::<String>(),
                b.build_id_addr
            ),
        };
        let kind = match b.e_type {
            ElfType::Exec => "fixed address",
            ElfType::Dyn => "any address",
        };
        let optional = if m.optional { ", optional" } else { "" };
        writeln!(out, "  {}{number}  {kind}, {}, {id}{optional}", m.name, counted(b.segments.len(), "segment"))?;
    }
    Ok(())
}

/// Bytes in hex; long runs are cut short, saying so.
fn bytes(data: &[u8]) -> String {
    const MOST: usize = 32;
    let mut line: String = data.iter().take(MOST).map(|b| format!("{b:02x} ")).collect();
    if data.len() > MOST {
        let _ = write!(line, "... ({} bytes)", to_u64(data.len()));
    }
    line.trim_end().to_owned()
}
