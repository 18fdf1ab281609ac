//! `GET /events`: a client over server-sent events (HTML Living Standard §9.2).

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    http::{HeaderName, Method, Version, header},
    response::{IntoResponse, Response},
};

use super::{
    Admission, Peer, SubscriptionQuery,
    shard::{Opening, Wish},
    takeover::{Carried, Takeover},
};
use crate::{protocol::Wire, rejection::Rejection};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Opens the stream. `Last-Event-ID`, which an `EventSource` sends when it comes back, wins over `since`, which
/// stands in the address it was made with.
pub async fn open(
    State(admission): State<Admission>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Rejection> {
    let headers = request.headers();
    if admission.connections.shutdown.is_draining() {
        return Err(Rejection::Draining);
    }
    if !admission.allows_origin(headers) {
        return Err(Rejection::Forbidden("this origin is not allowed"));
    }
    let SubscriptionQuery { regions, since } = SubscriptionQuery::parse(request.uri().query());
    let regions = regions?;
    let (address, permit) = admission.admit(peer, headers)?;
    let last_event_id = headers.get(LAST_EVENT_ID).map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
    let since = last_event_id.filter(|id| !id.is_empty()).or(since);

    let head = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // The shard that carries the stream speaks no HTTP beyond it.
        (header::CONNECTION, "close"),
        // nginx would hold events back until a buffer is full.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    if request.method() == Method::HEAD {
        return Ok(head.into_response());
    }
    let wire = if request.version() == Version::HTTP_10 { Wire::Plain } else { Wire::Chunks };
    let wish = Wish::Subscribe(admission.start(address, regions, since.as_deref())?);
    let takeover = Takeover::new(move |Carried { socket, head, early }| {
        admission.shards.open(Opening { socket, wire, permit, head, early, wish });
    });
    let mut response = (head, Body::new(takeover.body())).into_response();
    response.extensions_mut().insert(takeover);
    Ok(response)
}
