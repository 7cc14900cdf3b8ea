//! Lists of servers from any bytes: refused in a line, or servers that read the same when written anew.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| plimsoll_fuzz::list::check(input));
