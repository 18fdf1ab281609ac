//! `POST /notify`: appends a notification to the history. Nothing else: the hub learns of it by tailing.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderName, header},
};
use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::{
    history::{Append, History, IdempotencyKey},
    hub::Hub,
    metrics::Metrics,
    notification::{FieldError, Notification, Post},
    publication::{Receipt, Timestamp},
    region::Regions,
    rejection::Rejection,
    token::Tokens,
};

/// The longest body, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of a refused body is read all the same, in bytes, and for how long.
const MAX_DISCARDED: usize = 1024 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[derive(Clone)]
pub struct Publisher {
    pub history: Arc<dyn History>,
    pub hub: Arc<Hub>,
    pub metrics: Arc<Metrics>,
    pub tokens: Arc<Tokens>,
    /// Whether posts without a token are taken.
    pub anonymous: bool,
    /// The regions that may be posted to.
    pub regions: Arc<Regions>,
}

/// Answers with the receipt once the notification is durable.
pub async fn notify(
    State(publisher): State<Publisher>,
    headers: HeaderMap,
    mut body: Body,
) -> Result<Json<Receipt>, Rejection> {
    let answer = publisher.take(&headers, &mut body).await;
    if answer.is_err() {
        discard(body).await;
    }
    answer.map(Json)
}

impl Publisher {
    async fn take(&self, headers: &HeaderMap, body: &mut Body) -> Result<Receipt, Rejection> {
        self.authorize(headers)?;
        let key = idempotency_key(headers)?;
        let body = read(body).await?;
        let notification = match Notification::parse(&body, &self.regions)? {
            Post::Publish(notification) => notification,
            Post::NoVideos { region, count } => {
                let subscribers = self.hub.subscribers(&region);
                let timestamp = Timestamp::now();
                return Ok(Receipt { id: None, region, count, timestamp, deduplicated: false, subscribers });
            }
        };

        let subscribers = self.hub.subscribers(&notification.region);
        let start = Instant::now();
        let receipt = self.history.append(Append { notification, key, subscribers }).await?;
        self.metrics.appended(start.elapsed());
        if receipt.deduplicated {
            self.metrics.deduplicated();
        }
        // A receipt's id is a position: whoever resumes from it at once must not be told that nobody knows it.
        if let Some(position) = receipt.id {
            self.hub.seen(position).await;
        }
        Ok(receipt)
    }

    fn authorize(&self, headers: &HeaderMap) -> Result<(), Rejection> {
        if self.tokens.accept(headers) {
            return Ok(());
        }
        if !self.anonymous || headers.contains_key(header::AUTHORIZATION) {
            return Err(Rejection::Unauthorized);
        }
        // A page that somebody inside the closed network opens could post here without knowing anything.
        if headers.contains_key(header::ORIGIN) || headers.contains_key(SEC_FETCH_SITE) {
            return Err(Rejection::Forbidden("browsers may not post without a token"));
        }
        Ok(())
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Rejection> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let key = key.to_str().ok().and_then(|key| IdempotencyKey::new(key.trim()));
    match (key, keys.next()) {
        (Some(key), None) => Ok(Some(key)),
        _ => {
            let detail = format!(
                "the header Idempotency-Key must be given once, with 1 to {} visible ASCII characters",
                IdempotencyKey::MAX_LENGTH
            );
            Err(Rejection::InvalidFields(vec![FieldError::new("#", detail)]))
        }
    }
}

async fn read(body: &mut Body) -> Result<Vec<u8>, Rejection> {
    let collect = async {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Rejection::InvalidJson(format!("the body broke off: {error}")))?;
            bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            if bytes.len() > MAX_BODY {
                return Err(Rejection::TooLarge(MAX_BODY));
            }
        }
        Ok(bytes)
    };
    tokio::time::timeout(BODY_TIMEOUT, collect).await.map_err(|_| Rejection::TooSlow)?
}

/// Reads what is left of a body that is refused: a connection that is closed with unread data is reset, and the
/// poster would see that instead of the answer.
async fn discard(mut body: Body) {
    let mut left = MAX_DISCARDED;
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, rest).await;
}
