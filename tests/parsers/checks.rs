//! What holds whatever is given to a parser: asked here by properties, and by the fuzz targets of `tests/fuzz`.
//! Each panics where it does not.

use serde_json::Value;
use video_notifier::{
    notification::{InvalidPost, Notification, Post},
    position::{Epoch, MAX_OFFSET, MAX_POSITION_LENGTH, Position},
    publication::{Publication, Timestamp},
    region::{InvalidRegions, Region, Regions},
    transport::{SubscriptionQuery, parameter},
};

/// The body of a post; answers the message where one is published.
pub fn body(body: &[u8]) -> Option<Value> {
    let plain = serde_json::from_slice::<Value>(body);
    match Notification::parse(body, &Regions::All) {
        Ok(Post::Publish(notification)) => {
            let message = message(notification);
            assert!(message.len() <= 8 * 1024, "{} bytes", message.len());
            assert!(!message.contains(['\n', '\r']), "{message}");
            let message: Value = serde_json::from_str(&message).expect("a message is JSON");
            let posted = plain.expect("what is published is JSON");
            let ids = |value: &Value| -> Vec<Value> {
                value["videos"].as_array().into_iter().flatten().map(|video| video["id"].clone()).collect()
            };
            let posted_ids = ids(&posted);
            assert_eq!(&ids(&message)[..], &posted_ids[..posted_ids.len().min(5)]);
            assert!(message["count"].as_u64().expect("a number") >= posted_ids.len() as u64);
            Some(message)
        }
        Ok(Post::NoVideos { .. }) => {
            assert!(plain.expect("what is answered is JSON")["videos"].as_array().is_none_or(Vec::is_empty));
            None
        }
        Err(InvalidPost::Syntax(why)) => {
            assert!(!why.is_empty() && plain.is_err(), "{why}");
            None
        }
        Err(InvalidPost::Fields(faults)) => {
            assert!((1..=20).contains(&faults.len()), "{faults:?}");
            assert!(faults.iter().all(|fault| fault.pointer.starts_with('#') && !fault.detail.is_empty()));
            assert!(plain.is_ok(), "a body that is no JSON has no fields: {faults:?}");
            None
        }
    }
}

fn message(notification: Notification) -> String {
    let Notification { region, count, videos, .. } = notification;
    let position = "k3f9x2ab-9223372036854775807".parse().expect("a position");
    Publication { position, region, count, videos, timestamp: Timestamp::now() }.to_json()
}

/// A text is read as a position exactly where it is written as one is printed.
pub fn position(text: &str) {
    let (epoch, offset) = text.split_at_checked(Epoch::LENGTH).unwrap_or((text, ""));
    let number = offset.strip_prefix('-').and_then(|digits| digits.parse::<u64>().ok());
    let is_one = epoch.len() == Epoch::LENGTH
        && epoch.bytes().all(|letter| matches!(letter, b'0'..=b'9' | b'a'..=b'z'))
        && number.is_some_and(|number| number <= MAX_OFFSET && offset == format!("-{number}"));
    match text.parse::<Position>() {
        Ok(position) => {
            assert!(is_one, "{text:?} is none");
            assert_eq!(position.to_string(), text);
            assert_eq!(position.epoch.as_str().parse(), Ok(position.epoch));
            assert!(text.len() <= MAX_POSITION_LENGTH);
        }
        Err(error) => assert!(!is_one, "{text:?}: {error}"),
    }
}

/// A query is taken apart as forms are, its list of regions as lists are.
pub fn query(query: &str) {
    let plain = |name| pairs(query).into_iter().find(|(key, _)| key == name).map(|(_, value)| value);
    for name in ["regions", "since", ""] {
        assert_eq!(parameter(Some(query), name), plain(name), "{name:?} in {query:?}");
    }
    let asked = SubscriptionQuery::parse(Some(query));
    assert_eq!(asked.since, plain("since"));
    regions(&plain("regions").unwrap_or_default(), asked.regions);
}

fn regions(list: &str, read: Result<Regions, InvalidRegions>) {
    let mut wanted: Vec<&str> = Vec::new();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if !wanted.contains(&name) {
            wanted.push(name);
        }
    }
    let is_name = |name: &&str| {
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
        name.len() <= Region::MAX_LENGTH && name.chars().all(is_letter)
    };
    match read {
        Ok(Regions::All) => assert!(wanted.is_empty(), "{list:?} is all"),
        Ok(Regions::Only(names)) => {
            let names: Vec<&str> = names.iter().map(Region::as_str).collect();
            assert_eq!(names, wanted);
            assert!(names.len() <= Regions::MAX && names.iter().all(is_name), "{names:?}");
        }
        Err(InvalidRegions::Name) => assert!(!wanted.iter().all(is_name), "{list:?} has a bad name"),
        Err(InvalidRegions::TooMany) => assert!(wanted.len() > Regions::MAX, "{list:?} has too many"),
    }
}

/// A query taken apart by hand (application/x-www-form-urlencoded, as the URL standard has it).
fn pairs(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((&first, after)) = rest.split_first() {
            rest = after;
            let hex =
                (first == b'%').then(|| after.get(..2)).flatten().filter(|it| it.iter().all(u8::is_ascii_hexdigit));
            match hex {
                Some(hex) => {
                    let hex = std::str::from_utf8(hex).expect("ASCII");
                    bytes.push(u8::from_str_radix(hex, 16).expect("hex"));
                    rest = &after[2..];
                }
                None if first == b'+' => bytes.push(b' '),
                None => bytes.push(first),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}
