//! What the server answered to a request, read whole.

use reqwest::{Response, header::HeaderMap};
use serde_json::Value;

/// An answer with its body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.bytes().await.expect("the body comes whole").into() }
    }

    /// A header's values joined as one list; empty where there is none.
    pub fn header(&self, name: &str) -> String {
        let values = self.headers.get_all(name).iter().map(|value| value.to_str().expect("a header is text"));
        values.collect::<Vec<_>>().join(", ")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that it is a problem of that status (RFC 9457), with a title and a detail; answers the title.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
        problem["title"].as_str().expect("a problem has a title").to_owned()
    }

    /// The pointers of the faults that a problem lists, in order; each has its detail.
    pub fn pointers(&self) -> Vec<String> {
        let problem = self.json();
        let errors = problem["errors"].as_array().into_iter().flatten();
        let pointer = |error: &Value| {
            assert!(error["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{error}");
            error["pointer"].as_str().expect("a fault has a pointer").to_owned()
        };
        errors.map(pointer).collect()
    }
}
