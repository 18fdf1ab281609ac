//! Who the client is. The first byte says who is at the other end, and which header is said to count; each line after
//! it is a value of `X-Forwarded-For`, or of `Forwarded` where a `!` stands before it.
#![no_main]

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};
use libfuzzer_sys::fuzz_target;
use video_notifier::{
    config::ForwardedHeader,
    forwarded::{TrustedProxies, limit_key},
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// At the other end: a Unix socket and proxies, who are trusted, and others.
const PROXIES: [Option<&str>; 4] = [None, Some("127.0.0.1"), Some("fd12::1"), Some("::ffff:10.0.0.1")];
const OTHERS: [&str; 4] = ["203.0.113.7", "2001:db8::7", "::ffff:203.0.113.7", "fe80::1"];

/// Whom a proxy saw, and another proxy.
const SEEN: &str = "198.51.100.9";
const PROXY: &str = "10.9.9.9";

fuzz_target!(|input: &[u8]| {
    let Some((flags, text)) = input.split_first() else { return };
    let mut headers = HeaderMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let (name, value) = line.strip_prefix(b"!").map_or((X_FORWARDED_FOR, line), |value| (FORWARDED, value));
        let Ok(value) = HeaderValue::from_bytes(value) else { return };
        headers.append(name, value);
    }
    let header =
        [None, Some(ForwardedHeader::XForwardedFor), Some(ForwardedHeader::Forwarded)][usize::from(flags >> 2) % 3];
    let at_the_end = usize::from(flags % 4);
    check(PROXIES[at_the_end].map(address), header, &headers);

    // Whom no proxy stands before has no say.
    let other = address(OTHERS[at_the_end]);
    assert_eq!(trusted(header).client(Some(other), &headers), Some(other.to_canonical()), "{headers:?}");
});

/// What holds where a proxy is at the other end.
fn check(peer: Option<IpAddr>, header: Option<ForwardedHeader>, headers: &HeaderMap) {
    let client = |headers: &HeaderMap| trusted(header).client(peer, headers);
    let who = client(headers);
    let usual = headers.contains_key(X_FORWARDED_FOR);
    let is_plain = header.map_or(usual, |header| header == ForwardedHeader::XForwardedFor);
    let (counts, other, prefix) =
        if is_plain { (X_FORWARDED_FOR, FORWARDED, "") } else { (FORWARDED, X_FORWARDED_FOR, "for=") };
    let values: Vec<&[u8]> = headers.get_all(&counts).iter().map(HeaderValue::as_bytes).collect();

    // It is the proxy, or somebody whose address stands there.
    if who != peer.map(|peer| peer.to_canonical()) {
        let who = who.expect("a proxy with an address has it for its client's, where it tells none");
        assert!(values.iter().any(|value| names(value, who)), "{who} of {headers:?}");
        assert_eq!(limit_key(limit_key(who)), limit_key(who));
    }
    // What does not count changes nothing, nor how the list is cut into headers, unless it is cut within quotes.
    let mut alone = headers.clone();
    if header.is_some() || is_plain {
        alone.remove(&other);
        assert_eq!(client(&alone), who, "{headers:?}");
    }
    if !values.is_empty() && !values.concat().contains(&b'"') {
        alone.insert(&counts, value(&values.join(&b','), ""));
        assert_eq!(client(&alone), who, "{headers:?}");
    }
    // Nothing that stands before what proxies write changes who that is: whom the last of them saw, or itself where it
    // could not tell.
    let Some((last, first)) = values.split_last() else { return };
    for (hops, who) in [
        (&[SEEN][..], Some(address(SEEN))),
        (&[SEEN, PROXY], Some(address(SEEN))),
        (&["unknown"], peer.map(|peer| peer.to_canonical())),
        (&["unknown", PROXY], Some(address(PROXY))),
    ] {
        let written = hops.iter().map(|hop| format!("{prefix}{hop}")).collect::<Vec<_>>().join(", ");
        let mut beside = headers.clone();
        beside.append(&counts, value(written.as_bytes(), ""));
        let mut behind = HeaderMap::new();
        for line in first {
            behind.append(&counts, value(line, ""));
        }
        behind.append(&counts, value(last, &format!(", {written}")));
        for headers in [beside, behind] {
            assert_eq!(client(&headers), who, "{headers:?}");
        }
    }
}

fn trusted(header: Option<ForwardedHeader>) -> TrustedProxies {
    let networks = ["10.0.0.0/8", "127.0.0.0/8", "fc00::/7"].map(|network| network.parse().expect("a network"));
    TrustedProxies::new(networks.into(), header)
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn value(bytes: &[u8], more: &str) -> HeaderValue {
    HeaderValue::from_bytes(&[bytes, more.as_bytes()].concat()).expect("the value of a header")
}

/// Whether an address stands in a value, with a port or without, and whether or not it is escaped.
fn names(value: &[u8], address: IpAddr) -> bool {
    let text = String::from_utf8_lossy(value).replace('\\', "");
    let words = text.split(|letter: char| letter.is_whitespace() || ",;=\"[]%".contains(letter));
    let without_port = |word: &str| word.split_once(':').and_then(|(host, _)| host.parse().ok());
    words
        .flat_map(|word| [word.parse().ok(), without_port(word)])
        .flatten()
        .any(|it: IpAddr| it.to_canonical() == address)
}
