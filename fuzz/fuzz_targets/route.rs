//! Routes and a request: the router finds what a look at every route finds.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| plimsoll_fuzz::route::check(input));
