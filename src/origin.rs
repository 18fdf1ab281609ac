//! Web origins (RFC 6454): which pages may connect.

use std::str::FromStr;

/// The origins whose pages may read the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// All of them: the feed is public.
    Any,
    /// These, as browsers write them.
    Only(Vec<String>),
}

impl Origins {
    /// Whether a request with this `Origin` header may read the feed. Without one it is not a page, and passes.
    pub fn allow(&self, origin: Option<&str>) -> bool {
        match (self, origin) {
            (Self::Any, _) | (_, None) => true,
            (Self::Only(origins), Some(origin)) => origins.iter().any(|allowed| allowed == origin),
        }
    }
}

impl FromStr for Origins {
    type Err = String;

    fn from_str(list: &str) -> Result<Self, String> {
        if list.trim() == "*" {
            return Ok(Self::Any);
        }
        list.split(',').map(|origin| normalize(origin.trim())).collect::<Result<_, _>>().map(Self::Only)
    }
}

/// The origin as a browser serializes it: lower case, no default port, no path (RFC 6454 §6.2).
fn normalize(origin: &str) -> Result<String, String> {
    let wrong = || "expected * or origins such as https://example.com, with commas between them".to_owned();
    let origin = origin.strip_suffix('/').unwrap_or(origin).to_ascii_lowercase();
    let (scheme, host) = origin.split_once("://").ok_or_else(wrong)?;
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return Err(wrong()),
    };
    let host = host.strip_suffix(default_port).unwrap_or(host);
    let plain = |letter: u8| letter.is_ascii_alphanumeric() || b"-._:[]".contains(&letter);
    if host.is_empty() || !host.bytes().all(plain) {
        return Err(wrong());
    }
    Ok(format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_closes_the_others_and_leaves_those_who_are_no_page() {
        let origins: Origins = "https://Example.com:443/, http://127.0.0.1:3000".parse().unwrap();
        for allowed in [None, Some("https://example.com"), Some("http://127.0.0.1:3000")] {
            assert!(origins.allow(allowed), "{allowed:?}");
        }
        for closed in ["null", "", "http://example.com", "https://example.com.evil.net", "https://example.com:8443"] {
            assert!(!origins.allow(Some(closed)), "{closed}");
        }
    }

    #[test]
    fn what_is_no_origin_is_told() {
        for list in ["", "example.com", "https://", "https://a/b", "*,https://a", "ftp://a", "https://a b"] {
            assert!(list.parse::<Origins>().is_err(), "{list}");
        }
    }
}
