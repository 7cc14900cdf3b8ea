//! A message that was taken and is written anew: the next hop reads the one that was meant.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| plimsoll_fuzz::reading::targets::round_trip(input));
