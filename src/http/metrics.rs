//! `GET /metrics`: the counters, for whoever has the token.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::IntoResponse,
};

use crate::{metrics::Metrics, rejection::Rejection, token::Tokens};

#[derive(Clone)]
pub struct Exposition {
    pub metrics: Arc<Metrics>,
    pub tokens: Arc<Tokens>,
}

pub async fn metrics(
    State(Exposition { metrics, tokens }): State<Exposition>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Rejection> {
    if !tokens.accept(&headers) {
        return Err(Rejection::Unauthorized);
    }
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.to_text()))
}
