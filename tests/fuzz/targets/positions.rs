//! Positions, as a client's `since` has them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| fuzz::checks::position(input));
