//! The ways to reach a client. A route of each transport takes the request, in [`websocket`] and [`sse`]; then the
//! socket moves to one of the [`shards`], and how its bytes are framed is all that tells the transports apart.

mod beats;
pub mod shard;
pub mod shards;
pub mod sse;
pub mod takeover;
pub mod websocket;

use std::{net::IpAddr, sync::Arc};

use axum::http::{HeaderMap, header::ORIGIN};

use crate::{
    connection::Connections,
    forwarded::TrustedProxies,
    hub::Start,
    limits::{Limits, Permit},
    origin::Origins,
    rates::{Rates, TooOften},
    region::{InvalidRegions, Regions},
    rejection::Rejection,
};
use shards::Shards;

/// What both transports need to take a client in.
#[derive(Clone)]
pub struct Admission {
    pub connections: Connections,
    pub shards: Arc<Shards>,
    pub limits: Arc<Limits>,
    pub handshakes: Arc<Rates>,
    /// How many publications from the past an address is sent.
    pub replays: Arc<Rates>,
    pub origins: Arc<Origins>,
    pub proxies: Arc<TrustedProxies>,
}

/// The address at the other end of the connection; none for a Unix socket. The server puts it into each request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub Option<IpAddr>);

impl Admission {
    fn allows_origin(&self, headers: &HeaderMap) -> bool {
        // An origin that is no text is nobody's, so it matches no list.
        let origin = headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or("?"));
        self.origins.allow(origin)
    }

    /// Lets a client in; with the address that it counts by.
    fn admit(&self, peer: Peer, headers: &HeaderMap) -> Result<(Option<IpAddr>, Permit), Rejection> {
        let address = self.proxies.client(peer.0, headers);
        self.handshakes.take(address, 1)?;
        Ok((address, self.limits.admit(address)?))
    }

    /// Starts a client, unless its address has been caught up too often: then it is to come back with the same `since`,
    /// and misses nothing.
    fn start(&self, address: Option<IpAddr>, regions: Regions, since: Option<&str>) -> Result<Start, TooOften> {
        let start = self.connections.hub.start(regions, since);
        if let Some(recovered) = start.recovered {
            // Also who has missed nothing has it looked for.
            self.replays.take(address, start.missed.max(1) as u64)?;
            self.connections.metrics.resumed(recovered);
        }
        Ok(start)
    }
}

/// What a client asks for in its query.
#[derive(Debug)]
pub struct SubscriptionQuery {
    pub regions: Result<Regions, InvalidRegions>,
    /// As it was given; nothing in it refuses a handshake.
    pub since: Option<String>,
}

impl SubscriptionQuery {
    /// Of the query without its question mark.
    pub fn parse(query: Option<&str>) -> Self {
        Self { regions: parameter(query, "regions").as_deref().unwrap_or("").parse(), since: parameter(query, "since") }
    }
}

/// A query parameter by name, the first of several, with what can't be decoded replaced.
pub fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or("").as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_whatever_it_holds() {
        let query = SubscriptionQuery::parse(Some("since=a%ff&since=b&regions=US%2CGB&x"));
        assert_eq!(query.regions, "US,GB".parse());
        assert_eq!(query.since.as_deref(), Some("a\u{fffd}"));
        let query = SubscriptionQuery::parse(None);
        assert_eq!((query.regions, query.since), (Ok(Regions::All), None));
    }
}
