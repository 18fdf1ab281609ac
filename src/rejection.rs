//! Errors of the domain to HTTP statuses, here alone, as problem details (RFC 9457).

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{
    history::{AppendError, HistoryError},
    limits::Refusal,
    notification::{FieldError, InvalidPost},
    rates::{Act, TooOften},
    region::InvalidRegions,
};

/// After how many seconds a client that met a passing fault should try again.
const RETRY_AFTER: u64 = 5;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Why a request is not answered as it asked.
#[derive(Debug)]
pub enum Rejection {
    /// The body does not parse.
    InvalidJson(String),
    /// The body parses, but fields are wrong.
    InvalidFields(Vec<FieldError>),
    /// The regions of the query can't be read, or are too many.
    InvalidRegions(InvalidRegions),
    /// The body is longer than so many bytes.
    TooLarge(usize),
    /// The body did not arrive in time.
    TooSlow,
    /// No token, or a wrong one.
    Unauthorized,
    /// A browser may not do this.
    Forbidden(&'static str),
    NotFound,
    MethodNotAllowed,
    /// `/ws` without the headers of a WebSocket handshake.
    UpgradeRequired,
    /// No room for another client.
    Refused(Refusal),
    /// The address has done this too often.
    TooOften(TooOften),
    /// The key came with another notification before.
    KeyReused,
    /// The history does not answer.
    Unavailable,
    /// The server is about to end.
    Draining,
    /// A handler panicked.
    Internal,
}

#[derive(Serialize)]
struct Problem {
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

impl Rejection {
    fn status(&self) -> StatusCode {
        match self {
            Self::InvalidJson(_) | Self::InvalidRegions(_) => StatusCode::BAD_REQUEST,
            Self::InvalidFields(_) | Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
            Self::Refused(Refusal::AddressFull) | Self::TooOften(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Refused(Refusal::Full) | Self::Unavailable | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The word for metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidJson(_) => "invalid_json",
            Self::InvalidFields(_) => "invalid_fields",
            Self::InvalidRegions(_) => "invalid_regions",
            Self::TooLarge(_) => "too_large",
            Self::TooSlow => "too_slow",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden(_) => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UpgradeRequired => "upgrade_required",
            Self::Refused(Refusal::Full) => "full",
            Self::Refused(Refusal::AddressFull) => "address_full",
            Self::TooOften(TooOften { act, .. }) => match act {
                Act::Handshake => "handshake_rate",
                Act::Replay => "replay_rate",
                Act::Post => "post_rate",
                Act::WrongToken => "wrong_token_rate",
            },
            Self::KeyReused => "key_reused",
            Self::Unavailable => "unavailable",
            Self::Draining => "draining",
            Self::Internal => "internal",
        }
    }

    /// In seconds, of which even the shortest wait is one.
    fn retry_after(&self) -> u64 {
        match self {
            Self::TooOften(TooOften { wait, .. }) => (wait.as_nanos().div_ceil(NANOS_PER_SECOND) as u64).max(1),
            _ => RETRY_AFTER,
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::InvalidJson(_) => "Invalid JSON",
            Self::InvalidFields(_) => "Invalid notification",
            Self::InvalidRegions(_) => "Invalid regions",
            Self::TooLarge(_) => "Body too large",
            Self::TooSlow => "Body too slow",
            Self::Unauthorized => "Token required",
            Self::Forbidden(_) => "Forbidden",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Method not allowed",
            Self::UpgradeRequired => "Upgrade required",
            Self::Refused(_) => "Too many connections",
            Self::TooOften(_) => "Too many requests",
            Self::KeyReused => "Idempotency key reused",
            Self::Unavailable => "History unavailable",
            Self::Draining => "Shutting down",
            Self::Internal => "Internal error",
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::InvalidJson(error) => error.clone(),
            Self::InvalidFields(errors) => errors
                .iter()
                .map(|FieldError { pointer, detail }| format!("{pointer} {detail}"))
                .collect::<Vec<_>>()
                .join("; "),
            Self::InvalidRegions(error) => error.to_string(),
            Self::TooLarge(limit) => format!("the body is longer than {limit} bytes"),
            Self::TooSlow => "the body did not arrive in time".into(),
            Self::Unauthorized => "send the header Authorization: Bearer TOKEN with the server's token".into(),
            Self::Forbidden(why) => (*why).into(),
            Self::NotFound => "nothing is here; the routes are in the README".into(),
            Self::MethodNotAllowed => "the route takes the methods in the Allow header".into(),
            Self::UpgradeRequired => "this route speaks WebSocket; for plain HTTP use /events".into(),
            Self::Refused(Refusal::Full) => "the server has as many connections as it may".into(),
            Self::Refused(Refusal::AddressFull) => "this address has as many connections as it may".into(),
            Self::TooOften(TooOften { act, .. }) => match act {
                Act::Handshake => "this address has connected too often".into(),
                Act::Replay => {
                    "this address was sent too many past publications; come back with the same position".into()
                }
                Act::Post => "this address has posted too often".into(),
                Act::WrongToken => "this address has sent too many wrong tokens; no other is looked at for now".into(),
            },
            Self::KeyReused => "this Idempotency-Key was used for another notification".into(),
            Self::Unavailable => {
                "the history does not answer now; try again after Retry-After, a post with the same Idempotency-Key"
                    .into()
            }
            Self::Draining => "the server is shutting down".into(),
            Self::Internal => "the fault is the server's; see its log".into(),
        }
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let status = self.status();
        let title = self.title();
        let detail = self.detail();
        let reason = self.reason();
        let retry_after = self.retry_after();
        let errors = match self {
            Self::InvalidFields(errors) => errors,
            _ => Vec::new(),
        };
        let mut response = (status, Json(Problem { title, status: status.as_u16(), detail, errors })).into_response();
        // For whoever counts refusals; it never leaves the process.
        response.extensions_mut().insert(RejectedFor(reason));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::UNAUTHORIZED => {
                drop(headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
            }
            StatusCode::UPGRADE_REQUIRED => {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, retry_after.into());
            }
            _ => {}
        }
        response
    }
}

/// Why a response is a refusal.
#[derive(Debug, Clone, Copy)]
pub struct RejectedFor(pub &'static str);

impl From<InvalidPost> for Rejection {
    fn from(error: InvalidPost) -> Self {
        match error {
            InvalidPost::Syntax(error) => Self::InvalidJson(error),
            InvalidPost::Fields(errors) => Self::InvalidFields(errors),
        }
    }
}

impl From<AppendError> for Rejection {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::KeyReused => Self::KeyReused,
            AppendError::Unavailable(_) => Self::Unavailable,
        }
    }
}

impl From<HistoryError> for Rejection {
    fn from(_: HistoryError) -> Self {
        Self::Unavailable
    }
}

impl From<InvalidRegions> for Rejection {
    fn from(error: InvalidRegions) -> Self {
        Self::InvalidRegions(error)
    }
}

impl From<TooOften> for Rejection {
    fn from(too_often: TooOften) -> Self {
        Self::TooOften(too_often)
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_is_told_to_wait_is_told_so_in_whole_seconds_and_never_to_come_back_at_once() {
        let second = Duration::from_secs(1);
        let nanosecond = Duration::from_nanos(1);
        for (wait, seconds) in [
            (nanosecond, "1"),
            (Duration::from_micros(999), "1"),
            (second, "1"),
            (second + nanosecond, "2"),
            (11 * second, "11"),
        ] {
            let response = Rejection::from(TooOften { act: Act::Post, wait }).into_response();
            assert_eq!(response.headers()[header::RETRY_AFTER], seconds, "{wait:?}");
        }
    }
}
