//! Queries, and the lists of regions in them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| fuzz::checks::query(input));
