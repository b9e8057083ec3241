//! No unwinder: with `panic = "abort"` nothing ever unwinds, but std's panic message wants a backtrace, and that brings
//! an unwinder and a DWARF reader of 250 KiB into the static binary. These definitions stand in for the unwinder: a
//! backtrace ends before its first frame. The panic message with its place in the source stays.
//!
//! Source: Itanium C++ ABI, "Exception Handling", level I, for the signatures and reason codes.

use std::ffi::{c_int, c_void};

/// `_URC_END_OF_STACK`.
const END_OF_STACK: c_int = 5;

/// Walks no frame.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_each: *const c_void, _argument: *mut c_void) -> c_int {
    END_OF_STACK
}

macro_rules! unreachable_parts_of_an_unwinder {
    ($($name:ident)*) => {$(
        /// Only called while unwinding.
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> ! {
            std::process::abort()
        }
    )*};
}

unreachable_parts_of_an_unwinder! {
    _Unwind_DeleteException _Unwind_FindEnclosingFunction _Unwind_GetCFA _Unwind_GetDataRelBase _Unwind_GetIP
    _Unwind_GetIPInfo _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart _Unwind_GetTextRelBase
    _Unwind_RaiseException _Unwind_Resume _Unwind_SetGR _Unwind_SetIP
}
