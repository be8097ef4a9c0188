//! What bindgen made of `c-bpf/cartouche.h` and of bpftool's skeletons.
#![allow(
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    dead_code,
    improper_ctypes,
    missing_docs,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used
)]

include!(concat!(env!("OUT_DIR"), "/skeletons.rs"));

/// Plain bytes: no pointer, and every bit pattern is a value.
///
/// # Safety
/// Only for `repr(C)` types without padding, made of fixed-width integers and arrays of them.
pub unsafe trait Plain: Copy + 'static {
    /// All bytes zero.
    fn zeroed() -> Self {
        // SAFETY: every bit pattern is a value of a `Plain`.
        unsafe { std::mem::zeroed() }
    }
}

macro_rules! plain {
    ($($type:ty),* $(,)?) => { $(
        // SAFETY: fixed-width integers, or made of them by bindgen; cartouche.h has no pointers and
        // names its padding.
        unsafe impl Plain for $type {}
    )* };
}

plain!(
    u8,
    u32,
    u64,
    i32,
    slot,
    holder,
    subject,
    subject_key,
    guarded,
    guarded_id,
    keeper_key,
    unit_key,
    unit_program_key,
    claim_key,
    claim,
    claim_name_key,
    short_key,
    long_key,
    file_rule,
    net_key,
    rule,
    grant_key,
    code_key,
    measured_key,
    target_key,
    net_range,
    slot_counts,
    event,
    identity,
    label,
    bound_task,
);

/// The bytes of a value.
pub fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: a `Plain` has no padding, and the slice borrows `value`.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// A value from bytes, copied; None if they are too few.
pub fn from_bytes<T: Plain>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: long enough (above), any bit pattern is a `Plain`, and no alignment is assumed.
    Some(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) })
}
