//! Who the client is, where proxies stand between: the address that limits count by.
//!
//! Each proxy adds the address it saw at the right end of `X-Forwarded-For` (or `Forwarded`, RFC 7239), so the list
//! is walked from the right for as long as trusted proxies speak. What lies further left anybody may have written.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};
use ipnet::IpNet;

use crate::config::ForwardedHeader;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The networks whose word is taken for the address before them.
#[derive(Debug, Clone)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    /// The header that they write, where the operator has said so: they may pass the other one through as a client
    /// wrote it.
    header: Option<ForwardedHeader>,
}

impl TrustedProxies {
    /// `header` is the one that these proxies write, where it is known.
    pub fn new(networks: Vec<IpNet>, header: Option<ForwardedHeader>) -> Self {
        Self { networks, header }
    }

    /// The client's address; `peer` is the other end of the connection, none for a Unix socket, which is trusted.
    /// None where a trusted proxy on a Unix socket tells nothing.
    pub fn client(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        let mut client = peer.map(|peer| peer.to_canonical());
        let mut hops = self.hops(headers);
        while client.is_none_or(|address| self.trust(address))
            && let Some(hop) = hops.next()
        {
            match hop {
                Some(address) => client = Some(address),
                // An unreadable hop hides who is behind it: the last proxy that is known counts.
                None => break,
            }
        }
        client
    }

    /// Whether an address is a proxy's.
    pub fn trust(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The addresses that proxies told, from right to left; none for what can't be read.
    ///
    /// Unless it is said which header they write, `X-Forwarded-For` counts where there is one: nearly every proxy
    /// writes it, and one that does passes a `Forwarded` of the client's own making through.
    /// Read one by one, since a client may have sent thousands that nobody asks for.
    fn hops<'a>(&self, headers: &'a HeaderMap) -> Box<dyn Iterator<Item = Option<IpAddr>> + 'a> {
        let is_there = headers.contains_key(X_FORWARDED_FOR);
        let usual = if is_there { ForwardedHeader::XForwardedFor } else { ForwardedHeader::Forwarded };
        match self.header.unwrap_or(usual) {
            ForwardedHeader::XForwardedFor => {
                let hops = lines(headers, X_FORWARDED_FOR).flat_map(|line| line.rsplit(|byte| *byte == b','));
                Box::new(hops.map(|hop| address(hop.trim_ascii())))
            }
            ForwardedHeader::Forwarded => Box::new(lines(headers, FORWARDED).flat_map(elements).map(node)),
        }
    }
}

/// The network that limits count as one client: an IPv4 address, or the /64 that an IPv6 user has all of.
///
/// An IPv4 address that a translator wrote as IPv6 (RFC 6052 §2.1) is one user's still, not one with all others in that
/// /64.
pub fn limit_key(address: IpAddr) -> IpAddr {
    const TRANSLATED: u128 = 0x0064_ff9b << 96;

    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => match address.to_bits() ^ TRANSLATED {
            embedded @ ..=0xffff_ffff => Ipv4Addr::from_bits(embedded as u32).into(),
            _ => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        },
    }
}

/// The lines of a header, the last one first. Bytes: what is no text must not hide what proxies wrote right of it.
fn lines(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).into_iter().rev().map(HeaderValue::as_bytes)
}

/// The elements of a line of `Forwarded`, the last one first: what stands between its commas, but for those in quotes.
///
/// From the right, so that no quote of the client's own making changes how that is read which a proxy wrote behind it.
/// In what is well-formed both ways lead to the same: a quote ends a value, unless it is escaped, or begins one.
fn elements(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut left = Some(line);
    std::iter::from_fn(move || {
        let line = left?;
        let start = last_element(line);
        left = start.checked_sub(1).map(|comma| &line[..comma]);
        Some(&line[start..])
    })
}

/// Where the last element begins. One with a quote too many begins with the line: nobody knows what it ends in.
fn last_element(line: &[u8]) -> usize {
    let mut is_quoted = false;
    for (at, byte) in line.iter().enumerate().rev() {
        match byte {
            b'"' if is_quoted => {
                let escapes = line[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
                is_quoted = !escapes.is_multiple_of(2);
            }
            b'"' => is_quoted = true,
            b',' if !is_quoted => return at + 1,
            _ => {}
        }
    }
    0
}

/// The address that an element of `Forwarded` tells (RFC 7239 §4); none unless all of it can be read.
fn node(element: &[u8]) -> Option<IpAddr> {
    let mut node = None;
    for parameter in parameters(element).map(<[u8]>::trim_ascii).filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_at(parameter.iter().position(|byte| *byte == b'=')?);
        let value = unquoted(value[1..].trim_ascii_start())?;
        // Of two, either may be the client's own word.
        if name.trim_ascii_end().eq_ignore_ascii_case(b"for") && node.replace(value).is_some() {
            return None;
        }
    }
    address(&node?)
}

/// What stands between the semicolons of an element, but for those in quotes.
fn parameters(element: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    element.split(move |byte| {
        let is_literal = is_escaped;
        is_escaped = is_quoted && !is_literal && *byte == b'\\';
        is_quoted ^= !is_literal && *byte == b'"';
        !is_quoted && *byte == b';'
    })
}

/// A value without its quotes and escapes (RFC 9110 §5.6.4), if it had none or had them in order.
fn unquoted(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let [b'"', quoted @ .., b'"'] = value else {
        return (!value.contains(&b'"') && !value.contains(&b'\\')).then_some(value.into());
    };
    let mut bytes = quoted.iter();
    let mut text = Vec::with_capacity(quoted.len());
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            b'"' => return None,
            b'\\' => *bytes.next()?,
            _ => *byte,
        });
    }
    Some(text.into())
}

/// An address with or without port, brackets and zone.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        // One colon is an IPv4 address with its port; more are an IPv6 address.
        None if text.matches(':').count() == 1 => text.split_once(':')?.0,
        None => text,
    };
    let without_zone = bare.split_once('%').map_or(bare, |(address, _)| address);
    without_zone.parse().ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, headers: &[(&'static str, &str)]) -> Option<String> {
        client_by(None, peer, headers)
    }

    fn client_by(header: Option<ForwardedHeader>, peer: &str, headers: &[(&'static str, &str)]) -> Option<String> {
        let trusted = ["10.0.0.0/8", "127.0.0.0/8"].map(|network| network.parse().unwrap());
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let client = TrustedProxies::new(trusted.into(), header).client(peer.parse().ok(), &headers.collect());
        client.map(|address| address.to_string())
    }

    #[test]
    fn the_list_is_walked_from_the_right_while_proxies_are_trusted() {
        let forwarded = [("x-forwarded-for", "1.1.1.1, 2.2.2.2, 10.0.0.5")];
        assert_eq!(client("127.0.0.1", &forwarded).unwrap(), "2.2.2.2");
        assert_eq!(client("9.9.9.9", &forwarded).unwrap(), "9.9.9.9");
        assert_eq!(client("127.0.0.1", &[("x-forwarded-for", "10.0.0.7")]).unwrap(), "10.0.0.7");
        assert_eq!(client("127.0.0.1", &[("x-forwarded-for", "1.1.1.1, junk")]).unwrap(), "127.0.0.1");
        assert_eq!(client("127.0.0.1", &[]).unwrap(), "127.0.0.1");
        assert_eq!(client("unix", &[]), None);
        assert_eq!(client("unix", &[("x-forwarded-for", "1.1.1.1")]).unwrap(), "1.1.1.1");
    }

    #[test]
    fn several_headers_are_one_list() {
        let forwarded = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2")];
        assert_eq!(client("127.0.0.1", &forwarded).unwrap(), "2.2.2.2");
    }

    #[test]
    fn forwarded_counts_where_the_other_is_missing() {
        let forwarded = ("forwarded", r#"for=1.1.1.1, proto=https;For="[2001:db8::1%25eth0]:443";by=10.0.0.1"#);
        assert_eq!(client("127.0.0.1", &[forwarded]).unwrap(), "2001:db8::1");
        assert_eq!(client("127.0.0.1", &[forwarded, ("x-forwarded-for", "3.3.3.3:80")]).unwrap(), "3.3.3.3");
        assert_eq!(client("127.0.0.1", &[("forwarded", "for=_hidden")]).unwrap(), "127.0.0.1");
    }

    #[test]
    fn what_stands_within_quotes_ends_no_element_and_no_parameter() {
        for (forwarded, expected) in [
            (r#"for=1.1.1.1;host="x,for=6.6.6.6""#, "1.1.1.1"),
            (r#"host="x;for=7.7.7.7";for=1.1.1.1"#, "1.1.1.1"),
            (r#"for=9.9.9.9, host="\",for=6.6.6.6;x=\"";for=1.1.1.1"#, "1.1.1.1"),
            (r#"for="1.1.1.1:80";host="\\", for="10.0.0.1";by="a,b""#, "1.1.1.1"),
            // What needs no escape may have one (RFC 9110 §5.6.4).
            (r#"for="\1.1.1\.1""#, "1.1.1.1"),
            // Whatever the client wrote to the left, a proxy's own element is read.
            (r#"for=", for=1.1.1.1"#, "1.1.1.1"),
            (r#"for="\, for="1.1.1.1";host="a""#, "1.1.1.1"),
            (r#"host="a\", for=1.1.1.1"#, "1.1.1.1"),
        ] {
            assert_eq!(client("127.0.0.1", &[("forwarded", forwarded)]).unwrap(), expected, "{forwarded}");
        }
    }

    #[test]
    fn an_element_that_can_not_be_read_ends_the_walk() {
        for forwarded in [
            // A quote that nothing ends, or that does not stand around a whole value.
            r#"for=6.6.6.6, for=1.1.1.1;host="x"#,
            r#"for="6.6.6.6", for=1.1.1.1;host="x"#,
            r#"for=6.6.6.6, for="1.1.1.1"#,
            r#"for=6.6.6.6, for="1.1.1.1\""#,
            r#"for=6.6.6.6, for="1.1.1.1"x"#,
            r#"for=6.6.6.6, for=1.1.1.1";x=""#,
            r#"for=6.6.6.6, "for=1.1.1.1""#,
            // Which of them would it be?
            "for=6.6.6.6, for=1.1.1.1;for=2.2.2.2",
            r#"for=6.6.6.6, For="1.1.1.1";by=_x;fOR=1.1.1.1"#,
            "for=6.6.6.6, proto=https",
            "for=6.6.6.6, for=1.1.1.1;https",
            r"for=6.6.6.6, for=\1.1.1.1",
        ] {
            assert_eq!(client("127.0.0.1", &[("forwarded", forwarded)]).unwrap(), "127.0.0.1", "{forwarded}");
            let proxied = format!("{forwarded}, for=10.0.0.9");
            assert_eq!(client("127.0.0.1", &[("forwarded", &proxied)]).unwrap(), "10.0.0.9", "{forwarded}");
        }
    }

    #[test]
    fn the_header_that_is_said_to_count_counts_alone() {
        let both = [("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "3.3.3.3")];
        for (header, one) in [(ForwardedHeader::Forwarded, "1.1.1.1"), (ForwardedHeader::XForwardedFor, "3.3.3.3")] {
            assert_eq!(client_by(Some(header), "127.0.0.1", &both).unwrap(), one);
        }
        assert_eq!(client_by(Some(ForwardedHeader::Forwarded), "127.0.0.1", &both[1..]).unwrap(), "127.0.0.1");
        assert_eq!(client_by(Some(ForwardedHeader::XForwardedFor), "127.0.0.1", &both[..1]).unwrap(), "127.0.0.1");
    }

    #[test]
    fn an_ipv6_user_is_counted_by_its_network() {
        assert_eq!(limit_key("2001:db8:1:2:3:4:5:6".parse().unwrap()).to_string(), "2001:db8:1:2::");
        assert_eq!(limit_key("1.2.3.4".parse().unwrap()).to_string(), "1.2.3.4");
    }

    #[test]
    fn an_ipv4_user_counts_as_one_whatever_ipv6_its_address_is_written_in() {
        for address in ["::ffff:1.2.3.4", "64:ff9b::1.2.3.4", "64:ff9b::102:304"] {
            assert_eq!(limit_key(address.parse().unwrap()).to_string(), "1.2.3.4");
        }
        // Beside the well-known prefix nobody can tell where the address stands (RFC 6052 §2.2).
        assert_eq!(limit_key("64:ff9b:0:0:1::102:304".parse().unwrap()).to_string(), "64:ff9b::");
        assert_eq!(limit_key("64:ff9b:1::1.2.3.4".parse().unwrap()).to_string(), "64:ff9b:1::");
    }
}
