//! `POST /notify`: appends a notification to the history. Nothing else: the hub learns of it by tailing.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    body::{Body, Bytes, HttpBody},
    extract::State,
    http::{HeaderMap, HeaderName, header},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::Instant;

use super::authorization::Authorization;
use crate::{
    forwarded::TrustedProxies,
    history::{Append, History, IdempotencyKey},
    hub::Hub,
    metrics::Metrics,
    notification::{FieldError, Notification, Post},
    publication::{Receipt, Timestamp},
    rates::Rates,
    region::Regions,
    rejection::Rejection,
    transport::Peer,
};

/// The longest body, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What the route needs.
#[derive(Clone)]
pub struct Publisher {
    pub history: Arc<dyn History>,
    pub hub: Arc<Hub>,
    pub metrics: Arc<Metrics>,
    pub authorization: Authorization,
    pub proxies: Arc<TrustedProxies>,
    pub rates: Arc<Rates>,
    /// Whether posts without a token are taken.
    pub anonymous: bool,
    /// The regions that may be posted to.
    pub regions: Arc<Regions>,
}

/// Answers with the receipt once the notification is durable.
pub async fn notify(
    State(publisher): State<Publisher>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Receipt>, Rejection> {
    let address = publisher.proxies.client(peer.0, &headers);
    publisher.authorize(address, &headers)?;
    // After the token, so that no stranger behind the same address uses up what its owner may post.
    publisher.rates.take(address, 1)?;
    let key = idempotency_key(&headers)?;
    let body = read(body).await?;
    let notification = match Notification::parse(&body, &publisher.regions)? {
        Post::Publish(notification) => notification,
        Post::NoVideos { region, count } => {
            let subscribers = publisher.hub.subscribers(&region);
            let timestamp = Timestamp::now();
            return Ok(Json(Receipt { id: None, region, count, timestamp, deduplicated: false, subscribers }));
        }
    };

    let subscribers = publisher.hub.subscribers(&notification.region);
    let start = Instant::now();
    let receipt = publisher.history.append(Append { notification, key, subscribers }).await?;
    publisher.metrics.appended(start.elapsed());
    if receipt.deduplicated {
        publisher.metrics.deduplicated();
    }
    // A receipt's id is a position: whoever resumes from it at once must not be told that nobody knows it.
    if let Some(position) = receipt.id {
        publisher.hub.seen(position).await;
    }
    Ok(Json(receipt))
}

impl Publisher {
    fn authorize(&self, address: Option<IpAddr>, headers: &HeaderMap) -> Result<(), Rejection> {
        if !self.anonymous || headers.contains_key(header::AUTHORIZATION) {
            return self.authorization.check(address, headers);
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

async fn read(body: Body) -> Result<Bytes, Rejection> {
    // Refused before it is sent, where the length is announced.
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(Rejection::TooLarge(MAX_BODY));
    }
    let collected = tokio::time::timeout(BODY_TIMEOUT, collect(Limited::new(body, MAX_BODY))).await;
    match collected.map_err(|_| Rejection::TooSlow)? {
        Ok(body) => Ok(body.into()),
        Err(error) if error.is::<LengthLimitError>() => Err(Rejection::TooLarge(MAX_BODY)),
        Err(error) => Err(Rejection::InvalidJson(format!("the body broke off: {error}"))),
    }
}

/// Copied as it comes: each piece, however small, would keep the whole buffer that it was read into.
async fn collect<B: HttpBody<Data = Bytes> + Unpin>(mut body: B) -> Result<Vec<u8>, B::Error> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Some(piece) = frame?.data_ref() {
            whole.extend_from_slice(piece);
        }
    }
    Ok(whole)
}
