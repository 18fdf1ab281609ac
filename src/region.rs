//! Regions: the name that a notification carries, and the set of names that a subscription asks for.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Serialize, Serializer};

/// The name of a region: 1 to 32 ASCII letters, digits, `-` and `_`. Case matters.
///
/// In place, with zeros behind it: strangers choose the names that their subscriptions hold, and an allocation for each
/// would cost more than the longest name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region([u8; Region::MAX_LENGTH]);

/// A text that names no region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {} ASCII letters, digits, '-' or '_'", Region::MAX_LENGTH)]
pub struct InvalidRegion;

impl Region {
    /// The longest name, in bytes.
    pub const MAX_LENGTH: usize = 32;

    /// The region of a post that names none.
    pub fn unknown() -> Self {
        "unknown".parse().expect("it is short and plain")
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|letter| *letter == 0).unwrap_or(Self::MAX_LENGTH);
        std::str::from_utf8(&self.0[..length]).expect("a name is ASCII")
    }
}

impl FromStr for Region {
    type Err = InvalidRegion;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let length = (1..=Self::MAX_LENGTH).contains(&name.len());
        let letters = name.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'-' || letter == b'_');
        if !length || !letters {
            return Err(InvalidRegion);
        }
        let mut region = Self([0; Self::MAX_LENGTH]);
        region.0[..name.len()].copy_from_slice(name.as_bytes());
        Ok(region)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

impl Serialize for Region {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The regions that a subscription asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Regions {
    /// Every region, also those that come up later.
    All,
    /// These; at most [`Regions::MAX`], each once.
    Only(Arc<[Region]>),
}

/// A list of regions that can't be taken as one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRegions {
    #[error("a region {InvalidRegion}")]
    Name,
    #[error("at most {} regions", Regions::MAX)]
    TooMany,
}

impl Regions {
    /// The most regions that one subscription can name; whoever wants more asks for all.
    pub const MAX: usize = 64;

    /// Whether a publication of `region` belongs to the subscription.
    pub fn contains(&self, region: &Region) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(region),
        }
    }
}

impl FromStr for Regions {
    type Err = InvalidRegions;

    /// Reads names with commas between them; none at all means all of them.
    fn from_str(list: &str) -> Result<Self, Self::Err> {
        let mut names = Vec::new();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let name = name.parse().map_err(|InvalidRegion| InvalidRegions::Name)?;
            if !names.contains(&name) {
                names.push(name);
            }
            if names.len() > Self::MAX {
                return Err(InvalidRegions::TooMany);
            }
        }
        Ok(if names.is_empty() { Self::All } else { Self::Only(names.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_a_short_plain_name() {
        for name in ["US", "unknown", "a", "south-east_2", &"x".repeat(32)] {
            assert_eq!(name.parse::<Region>().unwrap().as_str(), name);
        }
        for name in ["", " US", "US,GB", "Ü", "a/b", "<b>", "a\0", &"x".repeat(33)] {
            assert_eq!(name.parse::<Region>(), Err(InvalidRegion), "{name:?}");
        }
    }

    #[test]
    fn a_list_names_some_regions_and_an_empty_one_all() {
        let some: Regions = "US, GB,,US".parse().unwrap();
        assert_eq!(some, Regions::Only(["US", "GB"].map(|name| name.parse().unwrap()).into()));
        assert!(some.contains(&"GB".parse().unwrap()) && !some.contains(&"gb".parse().unwrap()));
        assert_eq!("".parse(), Ok(Regions::All));
        assert_eq!(" , ".parse(), Ok(Regions::All));
        assert_eq!("US,G B".parse::<Regions>(), Err(InvalidRegions::Name));
        let many: Vec<String> = (0..65).map(|number| format!("r{number}")).collect();
        assert_eq!(many.join(",").parse::<Regions>(), Err(InvalidRegions::TooMany));
    }
}
