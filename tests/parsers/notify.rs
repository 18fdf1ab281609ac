//! The body of a post: read whole or refused with reasons.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};
use video_notifier::{
    notification::{InvalidPost, Notification, Post},
    publication::{Publication, Timestamp},
    region::Regions,
};

use crate::{config, mutated};

const CORPUS: &str = include_str!("corpus/bodies.txt");

fn message(notification: Notification) -> String {
    let Notification { region, count, videos, .. } = notification;
    let position = "k3f9x2ab-9223372036854775807".parse().expect("a position");
    Publication { position, region, count, videos, timestamp: Timestamp::now() }.to_json()
}

/// Checks what holds for any body; answers the message where there is one.
fn check(body: &[u8]) -> Result<Option<Value>, TestCaseError> {
    let plain = serde_json::from_slice::<Value>(body);
    match Notification::parse(body, &Regions::All) {
        Ok(Post::Publish(notification)) => {
            let message = message(notification);
            prop_assert!(message.len() <= 8 * 1024, "{} bytes", message.len());
            prop_assert!(!message.contains(['\n', '\r']), "{}", message);
            let message: Value = serde_json::from_str(&message).expect("a message is JSON");
            let posted = plain.expect("what is published is JSON");
            let ids = |value: &Value| -> Vec<Value> {
                value["videos"].as_array().into_iter().flatten().map(|video| video["id"].clone()).collect()
            };
            let posted_ids = ids(&posted);
            prop_assert_eq!(&ids(&message)[..], &posted_ids[..posted_ids.len().min(5)]);
            prop_assert!(message["count"].as_u64().expect("a number") >= posted_ids.len() as u64);
            Ok(Some(message))
        }
        Ok(Post::NoVideos { .. }) => {
            prop_assert!(plain.expect("what is answered is JSON")["videos"].as_array().is_none_or(Vec::is_empty));
            Ok(None)
        }
        Err(InvalidPost::Syntax(why)) => {
            prop_assert!(!why.is_empty());
            Ok(None)
        }
        Err(InvalidPost::Fields(faults)) => {
            prop_assert!((1..=20).contains(&faults.len()), "{:?}", faults);
            prop_assert!(faults.iter().all(|fault| fault.pointer.starts_with('#') && !fault.detail.is_empty()));
            prop_assert!(plain.is_ok(), "a body that is no JSON has no fields: {:?}", faults);
            Ok(None)
        }
    }
}

/// A title or another text that may be sent.
fn text() -> impl Strategy<Value = String> {
    "[^\u{0}-\u{1f}\u{7f}-\u{9f}\u{202a}-\u{202e}\u{2066}-\u{2069}\u{2028}\u{2029}]{0,40}"
}

fn video() -> impl Strategy<Value = Value> {
    let id = prop_oneof![
        text().prop_filter("not empty", |id| !id.trim().is_empty()).prop_map(Value::from),
        any::<u64>().prop_map(Value::from)
    ];
    let more = proptest::collection::btree_map("x[a-z]{0,6}", text(), 0..3);
    (id, text(), more).prop_map(|(id, title, more): (Value, String, BTreeMap<String, String>)| {
        let mut video = json!({ "id": id, "title": title });
        more.into_iter().for_each(|(name, value)| video[name] = value.into());
        video
    })
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn no_body_breaks_anything(body in prop_oneof![mutated(CORPUS), vec(any::<u8>(), 0..200)]) {
        check(&body)?;
    }

    #[test]
    fn what_is_valid_is_sent_as_it_came(videos in vec(video(), 1..8), region in select(vec!["US", "a-b_C9"])) {
        let body = json!({ "region": region, "videos": videos }).to_string();
        let message = check(body.as_bytes())?.expect("it is published");
        prop_assert_eq!(&message["region"], region);
        prop_assert_eq!(message["count"].as_u64(), Some(videos.len() as u64));
        prop_assert_eq!(message["videos"].as_array().expect("a list"), &videos[..videos.len().min(5)]);
    }
}
