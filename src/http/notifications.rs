//! `GET /notifications?regions=&before=&limit=`: recent publications, newest first, for a page's list.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{RawQuery, State},
    http::{HeaderMap, header},
    response::IntoResponse,
};
use futures_util::{StreamExt, future, stream};

use crate::{
    forwarded::TrustedProxies,
    history::HistoryError,
    hub::{Hub, Recent},
    origin::Origins,
    rates::Rates,
    region::Regions,
    rejection::Rejection,
    transport::{Peer, parameter},
};

const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;

/// What the route needs.
#[derive(Clone)]
pub struct NotificationsState {
    pub hub: Arc<Hub>,
    pub origins: Arc<Origins>,
    pub proxies: Arc<TrustedProxies>,
    /// How many publications from the past an address is sent, here and by subscriptions.
    pub replays: Arc<Rates>,
}

/// Answers with the publications and the position from which a subscription goes on after them.
pub async fn notifications(
    State(NotificationsState { hub, origins, proxies, replays }): State<NotificationsState>,
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
    let mut list = List { hub, recent, comma: false };
    // While a status can still tell that the history does not answer.
    let first = [br#"{"notifications":["#, &list.piece().await?[..]].concat();
    let rest = stream::try_unfold(list, |mut list| async {
        if list.recent.count() == 0 {
            return Ok(None);
        }
        let piece = list.piece().await.inspect_err(|error| tracing::warn!(%error, "a list ends in the middle"))?;
        Ok::<_, HistoryError>(Some((piece, list)))
    });
    let body = Body::from_stream(stream::once(future::ok(first)).chain(rest));
    Ok(([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body))
}

/// An answer that is made as it is taken: whoever takes it slowly has one piece of it held here, not all.
struct List {
    hub: Arc<Hub>,
    recent: Recent,
    /// Whether one of them is out.
    comma: bool,
}

impl List {
    /// The next few publications as JSON, with the end of the list behind the last.
    async fn piece(&mut self) -> Result<Vec<u8>, HistoryError> {
        let frames = self.hub.load(&mut self.recent).await?;
        let mut piece = Vec::new();
        for frame in &frames {
            // What was trimmed meanwhile leaves no comma.
            if std::mem::replace(&mut self.comma, true) {
                piece.push(b',');
            }
            piece.extend_from_slice(frame.json());
        }
        if self.recent.count() == 0 {
            piece.extend_from_slice(format!(r#"],"position":"{}"}}"#, self.recent.head).as_bytes());
        }
        Ok(piece)
    }
}
