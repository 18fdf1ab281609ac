//! A place in a history: which history (`Epoch`) and how far into it (`Offset`).
//!
//! A position prints as `EPOCH-OFFSET`, for example `k3f9x2ab-1042`. It is the id of a publication, the `id:` of
//! a server-sent event and the `since` of a client that comes back.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// How far into a history. Offsets only rise, may have holes, and go on after an emptied log.
/// 0 is before the first publication; the highest is `i64::MAX`, which every store can hold.
pub type Offset = u64;

/// The highest offset that a position can carry.
pub const MAX_OFFSET: Offset = i64::MAX as u64;

/// The longest text a position prints as, in bytes.
pub const MAX_POSITION_LENGTH: usize = Epoch::LENGTH + 1 + 19;

/// Which history: drawn when one is created, so that offsets of another are never taken for its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch([u8; Epoch::LENGTH]);

impl Epoch {
    /// Letters and digits in an epoch.
    pub const LENGTH: usize = 8;

    const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

    /// Draws a new epoch from the system's randomness: one of 36^8.
    ///
    /// # Panics
    /// When the system has no randomness to give.
    pub fn draw() -> Self {
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("the system gives randomness");
        Self::from_seed(u64::from_le_bytes(random))
    }

    /// The epoch that a number stands for; only its remainder by 36^8 counts.
    pub fn from_seed(mut seed: u64) -> Self {
        Self(std::array::from_fn(|_| {
            let letter = Self::ALPHABET[(seed % 36) as usize];
            seed /= 36;
            letter
        }))
    }

    /// The epoch as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("an epoch is ASCII")
    }
}

impl FromStr for Epoch {
    type Err = UnreadablePosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let letters: [u8; Self::LENGTH] = text.as_bytes().try_into().map_err(|_| UnreadablePosition)?;
        let known = letters.iter().all(|letter| letter.is_ascii_digit() || letter.is_ascii_lowercase());
        known.then_some(Self(letters)).ok_or(UnreadablePosition)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A place in one history. What a position in a message says: all of this subscription up to here was sent before.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    pub epoch: Epoch,
    pub offset: Offset,
}

/// A text that is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position: expected EPOCH-OFFSET, such as k3f9x2ab-1042")]
pub struct UnreadablePosition;

impl FromStr for Position {
    type Err = UnreadablePosition;

    /// Reads exactly what `Display` prints: no sign, no leading zero, no white space.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, offset) = text.split_once('-').ok_or(UnreadablePosition)?;
        let canonical =
            offset.bytes().all(|digit| digit.is_ascii_digit()) && (offset == "0" || !offset.starts_with('0'));
        if !canonical {
            return Err(UnreadablePosition);
        }
        let offset = offset.parse().ok().filter(|offset| *offset <= MAX_OFFSET).ok_or(UnreadablePosition)?;
        Ok(Self { epoch: epoch.parse()?, offset })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.epoch, self.offset)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_what_it_prints() {
        for offset in [0, 1, 1042, MAX_OFFSET] {
            let position = Position { epoch: Epoch::draw(), offset };
            let text = position.to_string();
            assert_eq!(text.parse(), Ok(position));
            assert!(text.len() <= MAX_POSITION_LENGTH);
        }
    }

    #[test]
    fn anything_else_is_no_position() {
        let texts = [
            "",
            "-",
            "k3f9x2ab",
            "k3f9x2ab-",
            "k3f9x2ab-01",
            "k3f9x2ab-+1",
            "k3f9x2ab--1",
            "k3f9x2ab- 1",
            "k3f9x2ab-1 ",
            "K3F9X2AB-1",
            "k3f9x2a-1",
            "k3f9x2abc-1",
            "k3f9x2ab-9223372036854775808",
            "k3f9x2ab-99999999999999999999",
            "k3f9x2ab-1-2",
            "k3f9x2ab-\u{0661}",
            "k3f9x2é-1",
            "null",
            "0",
        ];
        for text in texts {
            assert_eq!(text.parse::<Position>(), Err(UnreadablePosition), "{text:?}");
        }
    }
}
