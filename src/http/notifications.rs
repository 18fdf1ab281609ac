//! `GET /notifications?regions=&before=&limit=`: recent publications, newest first, for a page's list.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{RawQuery, State},
    http::{HeaderMap, header},
    response::IntoResponse,
};

use crate::{
    forwarded::TrustedProxies,
    hub::Hub,
    origin::Origins,
    rates::Rates,
    region::Regions,
    rejection::Rejection,
    transport::{Peer, parameter},
};

const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;

#[derive(Clone)]
pub struct Recent {
    pub hub: Arc<Hub>,
    pub origins: Arc<Origins>,
    pub proxies: Arc<TrustedProxies>,
    /// How many publications from the past an address is sent, here and by subscriptions.
    pub replays: Arc<Rates>,
}

/// Answers with the publications and the position from which a subscription goes on after them.
pub async fn notifications(
    State(Recent { hub, origins, proxies, replays }): State<Recent>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Rejection> {
    if !origins.allow(headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or("?"))) {
        return Err(Rejection::Forbidden("this origin is not allowed"));
    }
    let parameter = |name| parameter(query.as_deref(), name);
    let regions: Regions = parameter("regions").as_deref().unwrap_or("").parse()?;
    let before = parameter("before").and_then(|before| before.parse().ok());
    let limit = parameter("limit").and_then(|limit| limit.parse().ok()).unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);

    let recent = hub.recent(&regions, before, limit);
    // Before anything is read or encoded; also who gets nothing has it looked for.
    replays.take(proxies.client(peer.0, &headers), recent.count().max(1) as u64)?;
    let frames = hub.load(&recent).await?;
    let mut body = br#"{"notifications":["#.to_vec();
    for (index, frame) in frames.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(frame.json());
    }
    body.extend_from_slice(format!(r#"],"position":"{}"}}"#, recent.head).as_bytes());
    Ok(([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body))
}
