//! `GET /events`: a client over server-sent events (HTML Living Standard §9.2).

use std::convert::Infallible;

use axum::{
    Extension,
    body::Body,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderName, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;

use super::{Admission, Peer, SubscriptionQuery};
use crate::{
    connection::{Connection, Outgoing},
    metrics::TransportKind,
    rejection::Rejection,
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Opens the stream. `Last-Event-ID`, which an `EventSource` sends when it comes back, wins over `since`, which
/// stands in the address it was made with.
pub async fn open(
    State(admission): State<Admission>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Rejection> {
    if admission.connections.shutdown.is_draining() {
        return Err(Rejection::Draining);
    }
    if !admission.allows_origin(&headers) {
        return Err(Rejection::Forbidden("this origin is not allowed"));
    }
    let SubscriptionQuery { regions, since } = SubscriptionQuery::parse(query.as_deref());
    let regions = regions?;
    let permit = admission.permit(peer, &headers)?;
    let last_event_id = headers.get(LAST_EVENT_ID).map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
    let since = last_event_id.filter(|id| !id.is_empty()).or(since);

    let connection = admission.connections.open(TransportKind::sse, regions, since.as_deref(), permit);
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // nginx would hold events back until a buffer is full.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(stream::unfold(connection, next_event))).into_response())
}

/// The next event, shared with all who get it. The stream has no close codes: it ends, and the client comes back.
async fn next_event(mut connection: Connection) -> Option<(Result<axum::body::Bytes, Infallible>, Connection)> {
    match connection.next().await {
        Outgoing::Message(frame) | Outgoing::Heartbeat(frame) => Some((Ok(frame.event()), connection)),
        Outgoing::Close(_) => None,
    }
}
