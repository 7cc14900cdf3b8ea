//! Bytes from a server: the codec, the oracle and `httparse` read the same, however the bytes are cut.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| plimsoll_fuzz::reading::targets::response_to(input));
