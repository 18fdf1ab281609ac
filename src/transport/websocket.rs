//! `GET /ws`: a client over WebSocket (RFC 6455).

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use tungstenite::handshake::server::create_response;

use super::{
    Admission, Peer, SubscriptionQuery,
    shard::{Opening, Wish},
    takeover::{Carried, Takeover},
};
use crate::{
    protocol::{Disconnect, Wire},
    rejection::Rejection,
};

/// Takes the handshake. What a page must be able to tell apart is said by a close code after it, since a browser
/// shows a page nothing of a handshake that failed.
pub async fn handshake(
    State(admission): State<Admission>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Rejection> {
    let request = request.map(drop);
    let response = create_response(&request).map_err(|_| Rejection::UpgradeRequired)?;
    if admission.connections.shutdown.is_draining() {
        return Err(Rejection::Draining);
    }
    let (address, permit) = admission.admit(peer, request.headers())?;
    let SubscriptionQuery { regions, since } = SubscriptionQuery::parse(request.uri().query());
    let metrics = &admission.connections.metrics;
    let wish = if !admission.allows_origin(request.headers()) {
        metrics.refused("origin");
        Wish::Refused(Disconnect::OriginNotAllowed)
    } else if let Ok(regions) = regions {
        Wish::Subscribe(admission.start(address, regions, since.as_deref())?)
    } else {
        metrics.refused("invalid_regions");
        Wish::Refused(Disconnect::BadRequest)
    };
    let takeover = Takeover::new(move |Carried { socket, head, early }| {
        admission.shards.open(Opening { socket, wire: Wire::WebSocket, permit, head, early, wish });
    });
    let mut response = response.map(|()| Body::empty());
    response.extensions_mut().insert(takeover);
    Ok(response)
}
