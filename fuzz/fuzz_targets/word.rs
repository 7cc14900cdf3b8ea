//! A server's word from any bytes: bounded, in one line, the same when written anew.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| plimsoll_fuzz::word::check(input));
