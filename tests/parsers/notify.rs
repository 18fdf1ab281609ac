//! The body of a post: read whole or refused with reasons.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

use crate::{checks, config, mutated};

const CORPUS: &str = include_str!("corpus/bodies.txt");

/// A title or another text that may be sent.
fn text() -> impl Strategy<Value = String> {
    "[^\u{0}-\u{1f}\u{7f}-\u{9f}\u{202a}-\u{202e}\u{2066}-\u{2069}\u{2028}\u{2029}]{0,40}"
}

/// Any that JSON can have and a browser can read.
fn number() -> impl Strategy<Value = Value> {
    use proptest::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    (POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO).prop_map(Value::from)
}

fn video() -> impl Strategy<Value = Value> {
    let id = prop_oneof![
        text().prop_filter("not empty", |id| !id.trim().is_empty()).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        number(),
    ];
    let more = prop_oneof![text().prop_map(Value::from), number()];
    let more = proptest::collection::btree_map("x[a-z]{0,6}", more, 0..3);
    (id, text(), more).prop_map(|(id, title, more): (Value, String, BTreeMap<String, Value>)| {
        let mut video = json!({ "id": id, "title": title });
        more.into_iter().for_each(|(name, value)| video[name] = value);
        video
    })
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn no_body_breaks_anything(body in prop_oneof![mutated(CORPUS), vec(any::<u8>(), 0..200)]) {
        checks::body(&body);
    }

    #[test]
    fn what_is_valid_is_sent_as_it_came(videos in vec(video(), 1..8), region in select(vec!["US", "a-b_C9"])) {
        let body = json!({ "region": region, "videos": videos }).to_string();
        let message = checks::body(body.as_bytes()).expect("it is published");
        prop_assert_eq!(&message["region"], region);
        prop_assert_eq!(message["count"].as_u64(), Some(videos.len() as u64));
        prop_assert_eq!(message["videos"].as_array().expect("a list"), &videos[..videos.len().min(5)]);
    }
}
