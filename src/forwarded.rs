//! Who the client is, where proxies stand between: the address that limits count by.
//!
//! Each proxy adds the address it saw at the right end of `X-Forwarded-For` (or `Forwarded`, RFC 7239), so the list
//! is walked from the right for as long as trusted proxies speak. What lies further left anybody may have written.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::{HeaderMap, HeaderName, header::FORWARDED};
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
    pub fn new(networks: Vec<IpNet>, header: Option<ForwardedHeader>) -> Self {
        Self { networks, header }
    }

    /// The client's address; `peer` is the other end of the connection, none for a Unix socket, which is trusted.
    /// None where a trusted proxy on a Unix socket tells nothing.
    pub fn client(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        let mut client = peer.map(|peer| peer.to_canonical());
        let hops = self.hops(headers);
        for hop in hops.iter().rev() {
            if client.is_some_and(|address| !self.trust(address)) {
                break;
            }
            match hop {
                Some(address) => client = Some(*address),
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

    /// The addresses that proxies told, from left to right; none for what can't be read.
    ///
    /// Unless it is said which header they write, `X-Forwarded-For` counts where there is one: nearly every proxy
    /// writes it, and one that does passes a `Forwarded` of the client's own making through.
    fn hops(&self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        let is_there = headers.contains_key(X_FORWARDED_FOR);
        let usual = if is_there { ForwardedHeader::XForwardedFor } else { ForwardedHeader::Forwarded };
        match self.header.unwrap_or(usual) {
            ForwardedHeader::XForwardedFor => {
                elements(headers, X_FORWARDED_FOR).map(|hop| address(hop.trim())).collect()
            }
            ForwardedHeader::Forwarded => elements(headers, FORWARDED).map(node).collect(),
        }
    }
}

/// The network that limits count as one client: an IPv4 address, or the /64 that an IPv6 user has all of.
pub fn counted(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// What stands between the commas of a header, wherever it was cut into several.
fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    // Bytes, each hop by itself: one that is no text must not hide those right of it, which proxies wrote.
    let elements = headers.get_all(name).into_iter().flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    elements.map(|element| std::str::from_utf8(element).unwrap_or(""))
}

/// The address that an element of `Forwarded` tells.
fn node(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    address(node.trim().trim_matches('"'))
}

/// An address with or without port, brackets and zone.
fn address(text: &str) -> Option<IpAddr> {
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
        assert_eq!(counted("2001:db8:1:2:3:4:5:6".parse().unwrap()).to_string(), "2001:db8:1:2::");
        assert_eq!(counted("1.2.3.4".parse().unwrap()).to_string(), "1.2.3.4");
    }
}
