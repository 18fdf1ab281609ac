//! What a poster sends, checked: a `Notification` that exists is valid.
//!
//! The first step of the flow. All that is wrong with a post is told at once, each fault with a JSON pointer
//! (RFC 6901) to where it is.

use std::{cell::RefCell, fmt};

use serde::{
    Serialize,
    de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

use crate::{
    publication::Publication,
    region::{InvalidRegion, Region, Regions},
};

/// How many of the posted videos are sent to clients.
pub const MAX_VIDEOS: usize = 5;

/// The largest `count`: the largest whole number that every JSON reader keeps exact (RFC 7493 §2.2).
pub const MAX_COUNT: u64 = (1 << 53) - 1;

/// The longest publication on the wire, in bytes, its envelope included.
pub const MAX_ENCODED: usize = 8 * 1024;

/// How many faults one answer lists; a post of thousands of broken videos needs no more to be understood.
const MAX_ERRORS: usize = 20;

/// What a post asks for.
#[derive(Debug, Clone)]
pub enum Post {
    /// To publish this.
    Publish(Notification),
    /// Nothing: a fetch that found no videos, which disturbs nobody.
    NoVideos { region: Region, count: u64 },
}

/// Content that may be published.
#[derive(Debug, Clone)]
pub struct Notification {
    /// The region that the videos trend in.
    pub region: Region,
    /// How many videos are new in all; at least as many as were posted.
    pub count: u64,
    /// The first [`MAX_VIDEOS`] videos as a JSON array without line breaks.
    pub videos: String,
    /// What makes two posts the same.
    pub fingerprint: Fingerprint,
}

/// The region and the whole list of video ids in order, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// Why a post is no notification.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPost {
    /// Not JSON (RFC 8259), or nested too deep for the parser.
    #[error("{0}")]
    Syntax(String),
    /// JSON, but not a notification.
    #[error("{} fields are wrong", .0.len())]
    Fields(Vec<FieldError>),
}

/// One fault of a post.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where, as a JSON pointer in a URI fragment (RFC 6901 §6); `#` is the whole.
    pub pointer: String,
    /// What must hold there.
    pub detail: String,
}

impl FieldError {
    /// Both as they are told to the poster.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

impl Notification {
    /// Reads the body of a post; `allowed` are the regions that may be posted to.
    ///
    /// # Errors
    /// `InvalidPost::Syntax` for what does not parse, else `InvalidPost::Fields` with at most 20 faults.
    pub fn parse(body: &[u8], allowed: &Regions) -> Result<Post, InvalidPost> {
        let mut faults = Faults::default();
        let document = parse_json(body, &mut faults)?;
        let Value::Object(fields) = document else {
            return Err(InvalidPost::Fields(vec![FieldError::new("#", "must be an object")]));
        };

        let region = region(fields.get("region"), allowed, &mut faults);
        let videos = match fields.get("videos") {
            None => Vec::new(),
            Some(Value::Array(videos)) => {
                videos.iter().enumerate().map(|(at, it)| video(it, at, &mut faults)).collect()
            }
            Some(_) => {
                faults.add("#/videos", "must be a list");
                Vec::new()
            }
        };
        let count = count(fields.get("count"), videos.len(), &mut faults);
        faults.none()?;

        if videos.is_empty() {
            return Ok(Post::NoVideos { region, count });
        }
        let fingerprint = Fingerprint::of(&region, videos.iter().map(|video| &video["id"]));
        let sent = &videos[..videos.len().min(MAX_VIDEOS)];
        let videos = serde_json::to_string(sent).expect("a JSON value can be written");
        if Publication::longest_json(&region, count, &videos) > MAX_ENCODED {
            faults.add("#/videos", format!("the first {MAX_VIDEOS} come to more than {MAX_ENCODED} bytes on the wire"));
        }
        faults.none()?;
        Ok(Post::Publish(Self { region, count, videos, fingerprint }))
    }
}

impl Fingerprint {
    fn of<'a>(region: &Region, ids: impl Iterator<Item = &'a Value>) -> Self {
        // JSON between the hashed parts keeps them apart: "1" is not 1, and ["a", "b"] is not ["a,b"].
        let mut hash = Sha256::new();
        hash.update(region.as_str());
        for id in ids {
            hash.update([0]);
            hash.update(id.to_string());
        }
        Self(hash.finalize().into())
    }
}

fn region(field: Option<&Value>, allowed: &Regions, faults: &mut Faults) -> Region {
    let region = match field {
        None => Region::unknown(),
        Some(Value::String(name)) => match name.parse() {
            Ok(region) => region,
            Err(InvalidRegion) => {
                faults.add("#/region", InvalidRegion.to_string());
                return Region::unknown();
            }
        },
        Some(_) => {
            faults.add("#/region", "must be text");
            return Region::unknown();
        }
    };
    if !allowed.contains(&region) {
        faults.add("#/region", "is not one of the regions that this server takes");
    }
    region
}

fn count(field: Option<&Value>, posted: usize, faults: &mut Faults) -> u64 {
    let posted = posted as u64;
    let Some(field) = field else { return posted };
    match field.as_number().and_then(whole) {
        Some(count) if (posted..=MAX_COUNT).contains(&count) => count,
        _ => {
            faults
                .add("#/count", format!("must be a whole number from {posted}, the length of videos, to {MAX_COUNT}"));
            posted
        }
    }
}

/// The number where it is whole and not negative, however it was written: `37`, `37.0` and `3.7e1` are the same.
fn whole(number: &Number) -> Option<u64> {
    let exact = |float: &f64| float.fract() == 0.0 && (0.0..=MAX_COUNT as f64).contains(float);
    number.as_u64().or_else(|| number.as_f64().filter(exact).map(|float| float as u64))
}

/// The video as it will be sent: `thumb` and `url` that are null are left out, other fields pass through.
fn video(field: &Value, at: usize, faults: &mut Faults) -> Value {
    let Value::Object(fields) = field else {
        faults.add(format!("#/videos/{at}"), "must be an object");
        return Value::Null;
    };
    let mut wrong = |name: &str, detail: &str| faults.add(format!("#/videos/{at}/{name}"), detail);

    match fields.get("id") {
        Some(Value::Number(_)) => {}
        Some(Value::String(id)) if !id.is_empty() && is_displayable(id) => {}
        Some(Value::String(_)) => wrong("id", "must not be empty nor contain control characters"),
        Some(_) => wrong("id", "must be text or a number"),
        None => wrong("id", "is missing"),
    }
    match fields.get("title") {
        Some(Value::String(title)) if is_displayable(title) => {}
        Some(Value::String(_)) => wrong("title", "must not contain control or text direction characters"),
        Some(_) => wrong("title", "must be text"),
        None => wrong("title", "is missing"),
    }
    let mut fields = fields.clone();
    for name in ["thumb", "url"] {
        match fields.get(name) {
            None => {}
            // Posters write a missing thumbnail as null; that costs the others nothing.
            Some(Value::Null) => drop(fields.shift_remove(name)),
            Some(Value::String(url)) if is_safe_url(url) => {}
            Some(_) => wrong(name, "must be an http(s) URL or a path that starts with a single '/'"),
        }
    }
    Value::Object(fields)
}

/// No C0 control and none of the characters that override or isolate text direction (U+202A-202E, U+2066-2069):
/// those can make one text look like another. The marks RLM and LRM pass, since right-to-left titles need them.
fn is_displayable(text: &str) -> bool {
    !text.chars().any(|letter| matches!(letter, '\0'..='\x1f' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
}

/// Whether a browser takes the URL to http(s) or to the page's own site.
fn is_safe_url(url: &str) -> bool {
    // Browsers drop tabs and line breaks before they parse, so that "/\t/host" is "//host" to them.
    if url.chars().any(|letter| letter.is_whitespace()) || !is_displayable(url) {
        return false;
    }
    let after_scheme = ["https://", "http://"].iter().find_map(|scheme| {
        url.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme)).map(|_| &url[scheme.len()..])
    });
    match after_scheme {
        Some(rest) => rest.starts_with(|letter: char| !matches!(letter, '/' | '\\' | '?' | '#' | ':' | '@')),
        None => url.starts_with('/') && !url[1..].starts_with(['/', '\\']),
    }
}

/// Faults found so far.
#[derive(Default)]
struct Faults(Vec<FieldError>);

impl Faults {
    fn add(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        if self.0.len() < MAX_ERRORS {
            self.0.push(FieldError::new(pointer, detail));
        }
    }

    fn none(&mut self) -> Result<(), InvalidPost> {
        if self.0.is_empty() { Ok(()) } else { Err(InvalidPost::Fields(std::mem::take(&mut self.0))) }
    }
}

/// Parses JSON and adds a fault for every key that an object has twice: readers disagree on which one counts
/// (RFC 8259 §4), so a poster must not be left to guess.
fn parse_json(body: &[u8], faults: &mut Faults) -> Result<Value, InvalidPost> {
    let syntax = |error: serde_json::Error| InvalidPost::Syntax(error.to_string());
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let faults = RefCell::new(faults);
    let value = Json { path: &Path::Root, faults: &faults }.deserialize(&mut deserializer).map_err(syntax)?;
    deserializer.end().map_err(syntax)?;
    Ok(value)
}

/// Where the parser stands: a list that leads back to the root, printed only when there is something to say.
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => formatter.write_str("#"),
            Self::Index(parent, index) => write!(formatter, "{parent}/{index}"),
            Self::Key(parent, key) => {
                let key = key.replace('~', "~0").replace('/', "~1");
                let encoded: String = form_urlencoded::byte_serialize(key.as_bytes()).collect();
                // Forms write a space as '+', and '~' needlessly encoded; a URI fragment does neither.
                write!(formatter, "{parent}/{}", encoded.replace('+', "%20").replace("%7E", "~"))
            }
        }
    }
}

/// Reads any JSON value, like `serde_json::Value` but watching for keys given twice.
#[derive(Clone, Copy)]
struct Json<'a, 'f> {
    path: &'a Path<'a>,
    faults: &'a RefCell<&'f mut Faults>,
}

impl<'de> DeserializeSeed<'de> for Json<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Json<'_, '_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Json { path: &Path::Index(self.path, values.len()), ..self })? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            let path = Path::Key(self.path, &key);
            let value = object.next_value_seed(Json { path: &path, ..self })?;
            if fields.contains_key(&key) {
                self.faults.borrow_mut().add(path.to_string(), "is given twice");
            }
            fields.insert(key, value);
        }
        Ok(fields.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Post, InvalidPost> {
        Notification::parse(body.as_bytes(), &Regions::All)
    }

    fn published(body: &str) -> Notification {
        match parse(body) {
            Ok(Post::Publish(notification)) => notification,
            other => panic!("{body}: {other:?}"),
        }
    }

    fn pointers(body: &str) -> Vec<String> {
        match parse(body) {
            Err(InvalidPost::Fields(errors)) => errors.into_iter().map(|error| error.pointer).collect(),
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn a_full_post_is_taken_and_its_first_five_videos_kept() {
        let videos: Vec<String> = (0..9).map(|id| format!(r#"{{"id":{id},"title":"t","views":1e3}}"#)).collect();
        let notification = published(&format!(r#"{{"region":"US","count":37,"videos":[{}]}}"#, videos.join(",")));
        assert_eq!((notification.region.as_str(), notification.count), ("US", 37));
        let sent: Vec<Value> = serde_json::from_str(&notification.videos).unwrap();
        assert_eq!(sent.len(), 5);
        assert_eq!(sent[4], serde_json::json!({"id": 4, "title": "t", "views": 1000.0}));
    }

    #[test]
    fn what_is_absent_has_a_default() {
        assert_eq!(published(r#"{"videos":[{"id":1,"title":"t"}]}"#).region, Region::unknown());
        assert_eq!(published(r#"{"videos":[{"id":1,"title":"t"}]}"#).count, 1);
        for body in ["{}", r#"{"videos":[]}"#] {
            assert!(matches!(parse(body), Ok(Post::NoVideos { count: 0, .. })), "{body}");
        }
        assert!(matches!(parse(r#"{"count":3}"#), Ok(Post::NoVideos { count: 3, .. })));
    }

    #[test]
    fn every_wrong_field_has_its_pointer() {
        let title = |title: &str| format!(r#"{{"videos":[{{"id":1,"title":"{title}"}}]}}"#);
        let url = |url: &str| format!(r#"{{"videos":[{{"id":1,"title":"t","url":"{url}"}}]}}"#);
        let count =
            |count: &str| format!(r#"{{"count":{count},"videos":[{{"id":1,"title":"t"}},{{"id":2,"title":"t"}}]}}"#);
        let cases = [
            ("[]".into(), "#"),
            ("null".into(), "#"),
            (r#"{"videos":null}"#.into(), "#/videos"),
            (r#"{"videos":{}}"#.into(), "#/videos"),
            (r#"{"region":"a b"}"#.into(), "#/region"),
            (r#"{"region":null}"#.into(), "#/region"),
            (r#"{"region":""}"#.into(), "#/region"),
            (r#"{"videos":[3]}"#.into(), "#/videos/0"),
            (r#"{"videos":[{"title":"t"}]}"#.into(), "#/videos/0/id"),
            (r#"{"videos":[{"id":true,"title":"t"}]}"#.into(), "#/videos/0/id"),
            (r#"{"videos":[{"id":"","title":"t"}]}"#.into(), "#/videos/0/id"),
            (r#"{"videos":[{"id":1}]}"#.into(), "#/videos/0/title"),
            (r#"{"videos":[{"id":1,"title":["t"]}]}"#.into(), "#/videos/0/title"),
            (r#"{"videos":[{"id":1,"title":"t","thumb":"javascript:alert(1)"}]}"#.into(), "#/videos/0/thumb"),
            (r#"{"region":"US","region":"GB"}"#.into(), "#/region"),
            (r#"{"videos":[{"id":1,"title":"t","a/b~":{"c d":1,"c d":1}}]}"#.into(), "#/videos/0/a~1b~0/c%20d"),
            (title(r"a\u0000"), "#/videos/0/title"),
            (title(r"a\n"), "#/videos/0/title"),
            (title("a\u{202e}b"), "#/videos/0/title"),
            (title("a\u{2066}b"), "#/videos/0/title"),
            (url("//host/x"), "#/videos/0/url"),
            (url(r"/\\host"), "#/videos/0/url"),
            (url(r"/\t/host"), "#/videos/0/url"),
            (url(" https://h/"), "#/videos/0/url"),
            (url("https:///h"), "#/videos/0/url"),
            (url("data:text/html,x"), "#/videos/0/url"),
            (url("watch/1"), "#/videos/0/url"),
            (url(""), "#/videos/0/url"),
            (count("1"), "#/count"),
            (count("-1"), "#/count"),
            (count("2.5"), "#/count"),
            (count("9007199254740992"), "#/count"),
            (count("1e300"), "#/count"),
            (count("null"), "#/count"),
            (count(r#""3""#), "#/count"),
        ];
        for (body, pointer) in cases {
            assert_eq!(pointers(&body), [pointer], "{body}");
        }
    }

    #[test]
    fn what_looks_odd_but_is_fine_passes() {
        published("{\"videos\":[{\"id\":1,\"title\":\"\u{200f}\u{5e9}\u{5dc}\u{200e} \u{1f600} <b>&amp;\"}]}");
        for url in ["/watch/1", "/", "https://h", "HTTP://h:8/p?q#f", "https://[::1]/"] {
            published(&format!(r#"{{"videos":[{{"id":"a","title":"","url":"{url}","thumb":null}}]}}"#));
        }
        assert_eq!(published(r#"{"count":2.0,"videos":[{"id":1,"title":"t"}]}"#).count, 2);
        assert!(!published(r#"{"videos":[{"id":1,"title":"t","thumb":null}]}"#).videos.contains("thumb"));
    }

    #[test]
    fn all_faults_are_told_at_once_up_to_twenty() {
        assert_eq!(pointers(r#"{"region":1,"count":-1,"videos":[{}]}"#).len(), 4);
        assert_eq!(pointers(&format!(r#"{{"videos":[{}]}}"#, vec!["{}"; 10_000].join(","))).len(), MAX_ERRORS);
    }

    #[test]
    fn what_does_not_parse_is_a_syntax_error() {
        let deep = format!(r#"{{"videos":{}{}}}"#, "[".repeat(1000), "]".repeat(1000));
        for body in ["", "{", "nul", "{}x", "{'a':1}", r#"{"a":1,}"#, "\u{feff}{}", &deep] {
            assert!(matches!(parse(body), Err(InvalidPost::Syntax(_))), "{body:?}");
        }
        assert!(matches!(Notification::parse(b"{\"a\":\"\xff\"}", &Regions::All), Err(InvalidPost::Syntax(_))));
        assert!(matches!(Notification::parse(b"{\"a\":\"\0\"}", &Regions::All), Err(InvalidPost::Syntax(_))));
    }

    #[test]
    fn a_region_outside_the_allow_list_is_told() {
        let allowed: Regions = "US,GB".parse().unwrap();
        assert!(Notification::parse(br#"{"region":"US"}"#, &allowed).is_ok());
        for body in [r#"{"region":"UK"}"#, "{}"] {
            assert!(matches!(Notification::parse(body.as_bytes(), &allowed), Err(InvalidPost::Fields(_))), "{body}");
        }
    }

    #[test]
    fn more_than_eight_kibibytes_on_the_wire_is_told() {
        let body = |length: usize| format!(r#"{{"videos":[{{"id":1,"title":"{}"}}]}}"#, "x".repeat(length));
        published(&body(7900));
        assert_eq!(pointers(&body(8100)), ["#/videos"]);
        // Only what is sent counts: a long sixth video is cut off anyway.
        let short = r#"{"id":1,"title":"t"}"#;
        let long = format!(r#"{{"id":6,"title":"{}"}}"#, "x".repeat(9000));
        published(&format!(r#"{{"videos":[{},{long}]}}"#, [short; 5].join(",")));
    }

    #[test]
    fn the_fingerprint_is_the_region_and_all_ids_in_order() {
        let of = |body: &str| published(body).fingerprint;
        let video = |id: &str| format!(r#"{{"id":{id},"title":"t"}}"#);
        let post = |ids: &[&str]| {
            of(&format!(r#"{{"videos":[{}]}}"#, ids.iter().map(|id| video(id)).collect::<Vec<_>>().join(",")))
        };
        assert_eq!(post(&["1", "2"]), of(r#"{"count":9,"videos":[{"title":"x","id":1},{"id":2,"title":"y"}]}"#));
        assert_ne!(post(&["1", "2"]), post(&["2", "1"]));
        assert_ne!(post(&["1"]), post(&["\"1\""]));
        assert_ne!(post(&["1", "2", "3", "4", "5", "6"]), post(&["1", "2", "3", "4", "5", "7"]));
        assert_ne!(post(&["1"]), of(r#"{"region":"US","videos":[{"id":1,"title":"t"}]}"#));
    }
}
