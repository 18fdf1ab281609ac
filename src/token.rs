//! Bearer tokens (RFC 6750): who may post, and who may read the metrics.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use axum::http::{HeaderMap, header::AUTHORIZATION};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Tokens that are accepted, hashed: comparing hashes tells nothing of a token's length or of how far it agrees.
#[derive(Clone)]
pub struct Tokens(Vec<[u8; 32]>);

impl Tokens {
    /// Any of these; of none, none is accepted.
    pub fn new(tokens: &[String]) -> Self {
        Self(tokens.iter().map(|token| hash(token.as_bytes())).collect())
    }

    /// Whether the request carries one of the tokens; none where it carries no token at all.
    pub fn accept(&self, headers: &HeaderMap) -> Option<bool> {
        let token = hash(bearer(headers)?);
        // Every one is compared, so that the time taken does not tell which one it was.
        let equal = self.0.iter().fold(0, |equal, known| equal | known.ct_eq(&token).unwrap_u8());
        Some(equal == 1)
    }
}

/// The token of an `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn hash(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Reads the token from a file, or draws one and keeps it there, readable by its owner only.
///
/// # Errors
/// When the file can't be read, has no token in it, or can't be written.
pub fn read_or_draw(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let token = text.trim();
            let plain = !token.is_empty() && token.bytes().all(|letter| letter.is_ascii_graphic());
            plain.then(|| token.to_owned()).ok_or_else(|| io::Error::other("has no token in it"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let token = draw();
            // Written beside and renamed, so that a crash leaves a whole token or none.
            let draft = path.with_extension("token.new");
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            writeln!(file, "{token}")?;
            file.sync_all()?;
            fs::rename(&draft, path)?;
            Ok(token)
        }
        Err(error) => Err(error),
    }
}

/// A token of 128 random bits, in hexadecimal.
fn draw() -> String {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).expect("the system gives randomness");
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn accepted(header: &str) -> Option<bool> {
        let headers = [(AUTHORIZATION, header.parse().unwrap())].into_iter().collect();
        Tokens::new(&["one".into(), "two".into()]).accept(&headers)
    }

    #[test]
    fn any_of_the_tokens_is_accepted_and_nothing_else() {
        for header in ["Bearer one", "bearer two", "BEARER  one "] {
            assert_eq!(accepted(header), Some(true), "{header}");
        }
        for header in ["Bearer ", "Bearer on", "Bearer onee", "Bearer one,two"] {
            assert_eq!(accepted(header), Some(false), "{header}");
        }
        for header in ["", "Bearer", "Basic one", "one"] {
            assert_eq!(accepted(header), None, "{header}");
        }
        assert_eq!(Tokens::new(&["one".into()]).accept(&HeaderMap::new()), None);
    }

    #[test]
    fn a_drawn_token_is_kept_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify.token");
        let token = read_or_draw(&path).unwrap();
        assert_eq!(token.len(), 32);
        assert_eq!(read_or_draw(&path).unwrap(), token);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "\n").unwrap();
        assert!(read_or_draw(&path).is_err());
    }
}
