//! Returns the same megabyte a thousand times, by hand: lists in an answer may overlap in the guest's memory,
//! and the host must not copy a gigabyte out of a small one.

use std::alloc::{Layout, alloc};

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "handler" });
}

const MEGABYTE: usize = 1024 * 1024;
const OUTPUTS: usize = 1000;

/// `output` in the canonical ABI, 32 bits: topic, key, payload are options (tag, pointer, length).
#[repr(C)]
#[derive(Clone, Copy)]
struct Output {
    topic: [u32; 3],
    key: [u32; 3],
    payload: [u32; 3],
    headers: [u32; 2],
}

#[unsafe(export_name = "handle")]
extern "C" fn handle(_events: *const u8, len: usize) -> *const u32 {
    let bytes: &'static [u8] = vec![7; MEGABYTE].leak();
    let output = Output {
        topic: [0; 3],
        key: [0; 3],
        payload: [1, bytes.as_ptr() as u32, MEGABYTE as u32],
        headers: [0; 2],
    };
    let outputs: &'static [Output] = vec![output; OUTPUTS].leak();
    // A `result` is its tag and then the list's pointer and length.
    let ok = [0, outputs.as_ptr() as u32, OUTPUTS as u32, 0];
    let results: &'static [[u32; 4]] = vec![ok; len].leak();
    vec![results.as_ptr() as u32, len as u32].leak().as_ptr()
}

/// Where the host puts the events.
#[unsafe(export_name = "cabi_realloc")]
unsafe extern "C" fn realloc(_old: *mut u8, _old_len: usize, align: usize, len: usize) -> *mut u8 {
    if len == 0 {
        return align as *mut u8;
    }
    // SAFETY: the layout is not empty; the host asks for valid alignments.
    unsafe { alloc(Layout::from_size_align_unchecked(len, align)) }
}
