//! What the targets ask: the same as the tests that make their inputs by rules.

#[path = "../../codec/agreement.rs"]
pub mod agreement;
#[path = "../../parsers/checks.rs"]
pub mod checks;
