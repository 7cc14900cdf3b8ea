//! Bytes of a body: the same data however they are cut, and for chunks the same as the oracle's.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| plimsoll_fuzz::reading::targets::body(input));
