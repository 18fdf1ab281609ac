//! A notification that the history accepted, and the receipt that its poster gets.

use serde::{Serialize, Serializer};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    position::{Epoch, MAX_OFFSET, MAX_POSITION_LENGTH, Position},
    region::Region,
};

/// When something happened: UTC by the wall clock, in whole milliseconds since 1970; prints as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The last millisecond of the year 9999, the last that RFC 3339 can write.
    const MAX: i64 = 253_402_300_799_999;

    /// By the wall clock, which may step.
    pub fn now() -> Self {
        Self::from_millis((OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000) as i64)
    }

    /// The moment `millis` after the start of 1970; what lies outside 1970 to 9999 is moved to its edge.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(0, Self::MAX))
    }

    /// Milliseconds since 1970.
    pub fn as_millis(self) -> i64 {
        self.0
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000);
        let text = moment.ok().and_then(|moment| moment.format(&Rfc3339).ok());
        formatter.write_str(&text.expect("a timestamp lies between 1970 and 9999"))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A notification with its place in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Its id.
    pub position: Position,
    pub region: Region,
    /// How many videos are new in all.
    pub count: u64,
    /// The videos that are sent, as a JSON array without line breaks.
    pub videos: String,
    /// When the history accepted it.
    pub timestamp: Timestamp,
}

impl Publication {
    /// The message that clients get (`new_trending`), without line breaks, so that it fits one `data:` line.
    pub fn to_json(&self) -> String {
        let Self { position, region, count, videos, timestamp } = self;
        // Nothing here needs escapes: a position, a region and a time stamp hold none of the characters that do.
        format!(
            r#"{{"type":"new_trending","id":"{position}","region":"{region}","count":{count},"videos":{videos},"timestamp":"{timestamp}"}}"#
        )
    }

    /// The longest that the message of these can get, wherever the history places it, in bytes.
    pub fn longest_json(region: &Region, count: u64, videos: &str) -> usize {
        let longest = Self {
            position: Position { epoch: Epoch::from_seed(0), offset: MAX_OFFSET },
            region: region.clone(),
            count,
            videos: String::new(),
            timestamp: Timestamp(Timestamp::MAX),
        };
        debug_assert_eq!(longest.position.to_string().len(), MAX_POSITION_LENGTH);
        longest.to_json().len() + videos.len()
    }
}

/// What a poster is told once a post is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// The position of the publication; none where there was nothing to publish.
    pub id: Option<Position>,
    pub region: Region,
    pub count: u64,
    pub timestamp: Timestamp,
    /// Whether this repeats the receipt of an earlier, equal post.
    pub deduplicated: bool,
    /// This node's clients whose regions include this one, counted at the append.
    pub subscribers: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_is_one_line_of_json() {
        let publication = Publication {
            position: "k3f9x2ab-7".parse().unwrap(),
            region: "US".parse().unwrap(),
            count: 37,
            videos: r#"[{"id":1,"title":"t"}]"#.into(),
            timestamp: Timestamp::from_millis(1_700_000_000_120),
        };
        assert_eq!(
            publication.to_json(),
            r#"{"type":"new_trending","id":"k3f9x2ab-7","region":"US","count":37,"videos":[{"id":1,"title":"t"}],"timestamp":"2023-11-14T22:13:20.12Z"}"#
        );
    }

    #[test]
    fn a_timestamp_prints_whatever_a_store_holds() {
        assert_eq!(Timestamp::from_millis(i64::MIN).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp::from_millis(i64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }
}
