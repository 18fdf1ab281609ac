//! What reads bytes that anybody may have written, by properties: nothing makes it panic, what is valid is read whole,
//! and what is not changes nothing else. The frame codec has a suite of its own, `tests/codec`.
//!
//! Inputs are made by rules, and by mutating the lines of `corpus/`: each is worth trying, and what once failed is added
//! there. `PROPTEST_CASES=1000000` runs more.

mod checks;
mod forwarded;
mod notify;
mod queries;

use proptest::{collection::vec, prelude::*, sample::Index};

/// What fails is printed, shrunk; it becomes a line of the corpus, not a seed in a file.
fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    // What a filter passes over grows with the cases.
    let max_local_rejects = u32::MAX;
    ProptestConfig { cases: default.cases.max(cases), failure_persistence: None, max_local_rejects, ..default }
}

/// The lines of a corpus, each mutated a few times or not at all.
fn mutated(corpus: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let lines: Vec<&str> = corpus.lines().collect();
    assert!(!lines.is_empty());
    let line = || proptest::sample::select(lines.clone());
    let mutation = (any::<Index>(), any::<Index>(), any::<u8>(), 0..6_u8);
    (line(), line(), vec(mutation, 0..6)).prop_map(|(line, other, mutations)| {
        let mut bytes = line.as_bytes().to_vec();
        for (at, until, byte, kind) in mutations {
            let at = at.index(bytes.len() + 1);
            match kind {
                0 => bytes.insert(at, byte),
                1 => bytes.truncate(at),
                2 if at < bytes.len() => bytes[at] ^= 1 << (byte % 8),
                3 if at < bytes.len() => drop(bytes.remove(at)),
                // A piece of another line, and one twice.
                4 => drop(bytes.splice(at..at, other.bytes().take(until.index(other.len() + 1)))),
                _ => bytes.extend_from_within(at.min(until.index(bytes.len() + 1))..at),
            }
        }
        bytes
    })
}
