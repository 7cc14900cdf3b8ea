//! `traceparent` from any bytes: read as a slow reading of the grammar reads it.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| plimsoll_fuzz::trace_context::check(input));
