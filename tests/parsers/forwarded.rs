//! Who the client is, against a plain model: proxies that each write down whom they saw.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use proptest::{collection::vec, option, prelude::*, sample::select};
use video_notifier::{
    config::ForwardedHeader,
    forwarded::{TrustedProxies, limit_key},
};

use crate::{config, mutated};

const CORPUS: &str = include_str!("corpus/forwarded.txt");

/// One entry of a list.
#[derive(Debug, Clone)]
struct Hop {
    /// None where it can't be read.
    address: Option<IpAddr>,
    /// As `X-Forwarded-For` has it, and as `Forwarded` has it.
    plain: String,
    element: String,
}

fn trusted(header: Option<ForwardedHeader>) -> TrustedProxies {
    let networks = ["10.0.0.0/8", "127.0.0.0/8", "fc00::/7", "::1/128"].map(|net| net.parse().unwrap());
    TrustedProxies::new(networks.into(), header)
}

/// The rule of the model: these prefixes, and nothing of the code that is tested.
fn is_trusted(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => matches!(address.octets()[0], 10 | 127),
        IpAddr::V6(address) => address.octets()[0] & 0xfe == 0xfc || address == Ipv6Addr::LOCALHOST,
    }
}

/// Addresses of proxies about as often as of others.
fn address() -> impl Strategy<Value = IpAddr> {
    let v4 = (select(vec![1, 8, 10, 127, 172, 192, 203]), any::<[u8; 3]>())
        .prop_map(|(first, [a, b, c])| IpAddr::V4(Ipv4Addr::new(first, a, b, c)));
    let v6 = (select(vec![0x2001, 0xfc00, 0xfd12, 0xfe80]), any::<[u16; 7]>())
        .prop_map(|(first, [a, b, c, d, e, f, g])| IpAddr::V6(Ipv6Addr::new(first, a, b, c, d, e, f, g)));
    prop_oneof![4 => v4, 3 => v6, 1 => Just(Ipv6Addr::LOCALHOST.into())]
}

/// What may stand within quotes, as it is written there: also what would end a parameter or an element outside of them.
fn quotable() -> impl Strategy<Value = String> {
    let pieces = select(vec![
        ",",
        ";",
        "=",
        " ",
        "\t",
        "x",
        "é",
        "for=6.6.6.6",
        ", for=6.6.6.6",
        ";for=6.6.6.6;",
        "\\\"",
        "\\\\",
        "\\,",
        "\\x",
    ]);
    vec(pieces, 0..6).prop_map(|pieces| pieces.concat())
}

/// Parameters that say nothing of the address.
fn others() -> impl Strategy<Value = Vec<String>> {
    let quoted =
        (select(vec!["host", "BY", "secret"]), quotable()).prop_map(|(name, text)| format!("{name}=\"{text}\""));
    vec(prop_oneof![3 => quoted, 1 => Just("proto=https".to_owned()), 1 => Just(String::new())], 0..3)
}

fn hop() -> impl Strategy<Value = Hop> {
    let ends = (option::of(any::<u16>()), option::of(select(vec!["eth0", "1", "25en0"])), any::<bool>());
    let readable = (address(), ends, any::<[bool; 3]>(), [others(), others()]).prop_map(
        |(address, (port, zone, mapped), [spaces, quoted, escaped], [mut element, behind])| {
            let text = match address {
                IpAddr::V4(v4) if mapped => v4.to_ipv6_mapped().to_string(),
                other => other.to_string(),
            };
            let text = match zone.filter(|_| text.contains(':')) {
                Some(zone) => format!("{text}%{zone}"),
                None => text,
            };
            let plain = match port {
                Some(port) if text.contains(':') => format!("[{text}]:{port}"),
                Some(port) => format!("{text}:{port}"),
                None => text,
            };
            let pad = if spaces { " \t" } else { "" };
            element.push(match (quoted, escaped) {
                (true, true) => format!("For=\"{}\"", plain.chars().flat_map(|it| ['\\', it]).collect::<String>()),
                (true, false) => format!("FOR=\"{plain}\""),
                (false, _) => format!("for={plain}"),
            });
            element.extend(behind);
            let element = element.join(&format!("{pad};{pad}"));
            Hop { address: Some(address), plain: format!("{pad}{plain}{pad}"), element: format!("{pad}{element}{pad}") }
        },
    );
    let junk = select(vec![
        "",
        "unknown",
        "_hidden",
        "1.1.1.1.1",
        "1.1.1",
        "[::1",
        "::1]",
        "1.1.1.1:80:90",
        "0x1.1.1.1",
        "256.1.1.1",
        "for",
        "localhost",
        ":",
        "%",
        "[]",
        "2001:db8::g",
        "1.1.1.1/8",
    ]);
    let unreadable =
        junk.prop_map(|junk| Hop { address: None, plain: junk.into(), element: format!("for=\"{junk}\";proto=http") });
    // Whose parameters can't be told apart, or are two of one name.
    let broken = select(vec![
        r#"for=6.6.6.6;host="x"#,
        r#"for=6.6.6.6;host="x\"y"#,
        r#"for="6.6.6.6"x"#,
        r#"for=6.6.6.6;host=x"y"#,
        r#""for=6.6.6.6""#,
        r"for=\6.6.6.6",
        "for=6.6.6.6;for=6.6.6.6",
        r#"for=6.6.6.6;host="a,b";FOR="_x""#,
    ]);
    let broken = broken.prop_map(|element| Hop { address: None, plain: "unknown".into(), element: element.into() });
    prop_oneof![10 => readable, 2 => unreadable, 1 => broken]
}

/// The hops as headers: some in each, in order.
fn headers(name: &'static str, hops: &[String], cuts: &[bool]) -> HeaderMap {
    let mut lists: Vec<Vec<String>> = vec![Vec::new()];
    for (at, hop) in hops.iter().enumerate() {
        if at > 0 && cuts[at % cuts.len()] {
            lists.push(Vec::new());
        }
        lists.last_mut().expect("one at least").push(hop.clone());
    }
    let mut headers = HeaderMap::new();
    for list in lists {
        let list = HeaderValue::from_bytes(list.join(",").as_bytes()).expect("a header");
        headers.append(HeaderName::from_static(name), list);
    }
    headers
}

/// From the server outwards: who is trusted says who came before.
fn model(peer: Option<IpAddr>, hops: &[Hop]) -> Option<IpAddr> {
    let mut client = peer;
    let mut left = hops.to_vec();
    while client.is_none_or(is_trusted) {
        match left.pop() {
            Some(Hop { address: Some(address), .. }) => client = Some(address),
            _ => return client,
        }
    }
    client
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn the_client_is_whom_the_last_trusted_proxy_saw(
        peer in option::of(address()),
        [hops, others] in [vec(hop(), 1..7), vec(hop(), 1..7)],
        cuts in vec(any::<bool>(), 1..7),
    ) {
        let plain: Vec<String> = hops.iter().map(|hop| hop.plain.clone()).collect();
        let elements: Vec<String> = others.iter().map(|hop| hop.element.clone()).collect();
        let (plain, elements) = (headers("x-forwarded-for", &plain, &cuts), headers("forwarded", &elements, &cuts));
        let mut both = elements.clone();
        both.extend(plain.clone());
        let (by_plain, by_element) = (model(peer, &hops), model(peer, &others));
        let plain_counts = Some(ForwardedHeader::XForwardedFor);
        let element_counts = Some(ForwardedHeader::Forwarded);
        for (header, headers, expected) in [
            (None, &plain, by_plain),
            (None, &elements, by_element),
            // Where both are there, one counts.
            (None, &both, by_plain),
            (plain_counts, &both, by_plain),
            (element_counts, &both, by_element),
            // What counts is not there.
            (plain_counts, &elements, peer),
            (element_counts, &plain, peer),
        ] {
            prop_assert_eq!(trusted(header).client(peer, headers), expected, "{:?} {:?}", header, headers);
        }
    }

    #[test]
    fn nothing_that_a_client_writes_changes_who_it_is(
        [written, beside] in [vec(mutated(CORPUS), 0..4), vec(mutated(CORPUS), 0..2)],
        client in address().prop_filter("a client is no proxy", |address| !is_trusted(*address)),
        in_one in any::<bool>(),
        header in select(vec![ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded]),
        // The proxy may tell more of what it got, as the client wrote it.
        [before, behind] in [others(), others()],
    ) {
        let element = |node: String| [before, vec![node], behind].concat().join(";");
        let (name, other, seen) = match (header, client) {
            (ForwardedHeader::Forwarded, IpAddr::V6(client)) => {
                ("forwarded", "x-forwarded-for", element(format!("for=\"[{client}]:443\"")))
            }
            (ForwardedHeader::Forwarded, client) => ("forwarded", "x-forwarded-for", element(format!("for={client}"))),
            (ForwardedHeader::XForwardedFor, client) => ("x-forwarded-for", "forwarded", client.to_string()),
        };
        let proxy = "127.0.0.1".parse().ok();
        let mut headers = HeaderMap::new();
        let mut values: Vec<Vec<u8>> = written;
        // A proxy writes behind what is there, or beside it.
        match values.last_mut().filter(|_| in_one) {
            Some(last) => last.extend(format!(", {seen}").bytes()),
            None => values.push(seen.clone().into_bytes()),
        }
        for mut line in values {
            line.retain(|byte| HeaderValue::from_bytes(&[*byte]).is_ok());
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(&line).expect("a header"));
        }
        prop_assert_eq!(trusted(None).client(proxy, &headers), Some(client), "{:?}", headers);
        // Nor what it writes in the other header, which the proxy passes through, where it is said which one counts.
        for line in beside.iter().filter_map(|line| HeaderValue::from_bytes(line).ok()) {
            headers.append(HeaderName::from_static(other), line);
        }
        prop_assert_eq!(trusted(Some(header)).client(proxy, &headers), Some(client), "{:?}", headers);
        // Whom no proxy stands before has no say at all.
        for header in [None, Some(header)] {
            prop_assert_eq!(trusted(header).client(Some(client), &headers), Some(client));
        }
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one(address in any::<u128>(), host in any::<u64>()) {
        let same = (address >> 64 << 64) | u128::from(host);
        let [one, other] = [address, same].map(|bits| limit_key(Ipv6Addr::from_bits(bits).into()));
        prop_assert_eq!(one, other);
        let beside = address ^ (1 << 64);
        prop_assert_ne!(one, limit_key(Ipv6Addr::from_bits(beside).into()));
    }

    #[test]
    fn an_address_of_ipv4_counts_as_itself_however_it_comes(bits in any::<u32>()) {
        let address = Ipv4Addr::from_bits(bits);
        // RFC 6052 §2.1
        let translated = Ipv6Addr::from_bits(0x0064_ff9b << 96 | u128::from(bits));
        for written in [IpAddr::V4(address), address.to_ipv6_mapped().into(), translated.into()] {
            prop_assert_eq!(limit_key(written), IpAddr::V4(address), "{}", written);
        }
    }
}
