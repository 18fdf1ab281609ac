//! `GET /notifier.js`, `/notifier.esm.js`, `/notifier.d.ts`: the browser client; and `GET /`, a page that shows it.
//!
//! They are part of the binary, compressed when it was built.

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// One file in all its encodings.
pub struct Asset {
    identity: &'static [u8],
    gzip: &'static [u8],
    brotli: &'static [u8],
    /// Changes with the content.
    tag: &'static str,
}

/// Pages load the script on every view, and a fix must reach them soon.
const SHORT_LIFE: &str = "public, max-age=300";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The script for a tag.
pub async fn script(headers: HeaderMap) -> Response {
    NOTIFIER_JS.respond(&headers, JAVASCRIPT)
}

/// The module for `import`.
pub async fn module(headers: HeaderMap) -> Response {
    NOTIFIER_ESM_JS.respond(&headers, JAVASCRIPT)
}

/// The types of both.
pub async fn types(headers: HeaderMap) -> Response {
    NOTIFIER_D_TS.respond(&headers, "text/plain; charset=utf-8")
}

/// The page that shows what they do.
pub async fn page(headers: HeaderMap) -> Response {
    let mut response = INDEX_HTML.respond(&headers, "text/html; charset=utf-8");
    let policy = format!(
        "default-src 'none'; script-src 'self' {INLINE_SCRIPT}; style-src {INLINE_STYLE}; connect-src 'self' ws: wss:; \
         img-src 'self' data: http: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'"
    );
    let policy = HeaderValue::try_from(policy).expect("the policy is ASCII");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

impl Asset {
    fn respond(&self, headers: &HeaderMap, content_type: &'static str) -> Response {
        let (encoding, body) = self.encoded(headers);
        let tag = match encoding {
            Some(encoding) => format!("\"{}-{encoding}\"", self.tag),
            None => format!("\"{}\"", self.tag),
        };
        let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|tags| names(tags, &tag));
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            ([(header::CONTENT_TYPE, content_type)], Bytes::from_static(body)).into_response()
        };
        let answer = response.headers_mut();
        if let Some(encoding) = encoding.filter(|_| !known) {
            answer.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        answer.insert(header::ETAG, HeaderValue::try_from(tag).expect("a tag is ASCII"));
        answer.insert(header::CACHE_CONTROL, HeaderValue::from_static(SHORT_LIFE));
        answer.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        answer.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    /// The smallest encoding that the client takes.
    fn encoded(&self, headers: &HeaderMap) -> (Option<&'static str>, &'static [u8]) {
        let accepts = |coding: &str| {
            let lists = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|list| list.to_str().ok());
            lists.flat_map(|list| list.split(',')).any(|entry| {
                let mut parts = entry.split(';').map(str::trim);
                let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(coding));
                let refused = parts.any(|weight| {
                    weight
                        .strip_prefix("q=")
                        .is_some_and(|weight| weight.parse().is_ok_and(|weight: f32| weight == 0.0))
                });
                named && !refused
            })
        };
        if accepts("br") {
            (Some("br"), self.brotli)
        } else if accepts("gzip") {
            (Some("gzip"), self.gzip)
        } else {
            (None, self.identity)
        }
    }
}

/// Whether an `If-None-Match` names the tag; weak comparison (RFC 9110 §13.1.2).
fn names(tags: &HeaderValue, tag: &str) -> bool {
    tags.to_str().is_ok_and(|tags| {
        tags.split(',').map(str::trim).any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn respond(name: header::HeaderName, value: &str) -> Response {
        NOTIFIER_JS.respond(&[(name, value.parse().unwrap())].into_iter().collect(), JAVASCRIPT)
    }

    #[test]
    fn the_smallest_encoding_that_the_client_takes_is_sent() {
        for (accepted, sent) in [
            ("gzip, deflate, br", Some("br")),
            ("gzip;q=0.5", Some("gzip")),
            ("br;q=0, gzip", Some("gzip")),
            ("br;q=0.0", None),
            ("identity", None),
            ("brotli", None),
        ] {
            let response = respond(header::ACCEPT_ENCODING, accepted);
            let encoding = response.headers().get(header::CONTENT_ENCODING);
            assert_eq!(encoding.map(|encoding| encoding.to_str().unwrap()), sent, "{accepted}");
        }
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        let tag = respond(header::ACCEPT, "*/*").headers()[header::ETAG].to_str().unwrap().to_owned();
        for known in [&tag, &format!("W/{tag}"), &format!("\"x\", {tag}"), "*"] {
            assert_eq!(respond(header::IF_NONE_MATCH, known).status(), StatusCode::NOT_MODIFIED, "{known}");
        }
        assert_eq!(respond(header::IF_NONE_MATCH, "\"x\"").status(), StatusCode::OK);
    }
}
