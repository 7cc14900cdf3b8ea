//! Load reports from any bytes: none, or numbers that can be reckoned with.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| plimsoll_fuzz::load_report::check(input));
