//! A configuration: never a panic, and what it is shown to mean means the same again.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| plimsoll_fuzz::config::check(input));
