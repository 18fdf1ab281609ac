//! `GET /metrics`: the counters, for whoever has the token.

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, header},
    response::IntoResponse,
};

use super::authorization::Authorization;
use crate::{forwarded::TrustedProxies, metrics::Metrics, rejection::Rejection, transport::Peer};

/// What the route needs.
#[derive(Clone)]
pub struct Exposition {
    pub metrics: Arc<Metrics>,
    pub authorization: Authorization,
    pub proxies: Arc<TrustedProxies>,
}

/// All counters, for who has the token.
pub async fn metrics(
    State(Exposition { metrics, authorization, proxies }): State<Exposition>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Rejection> {
    authorization.check(proxies.client(peer.0, &headers), &headers)?;
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.to_text()))
}
