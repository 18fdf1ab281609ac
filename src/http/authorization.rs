//! Who may post, and who may read the metrics: whoever has the token. Wrong ones are slowed by address, so that none
//! is found by trying.
//!
//! After too many wrong tokens an address gets 429 for each further one, right or wrong: a guess that is right must not
//! stand out. But no stranger may lock out an operator who is behind the same proxy or office network. So this does not
//! apply to an address that a right token came from within the last day. Who shares that address is not slowed; what
//! stops them is the token's length, which is 128 random bits where the server drew it.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::HeaderMap;
use tokio::time::Instant;

use crate::{
    forwarded::limit_key,
    rates::{Act, Rate, Rates},
    rejection::Rejection,
    token::Tokens,
};

/// How long an address is known for a right token: a cron job comes back every few hours.
const PROVEN_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The tokens of one route; the guesses are counted for all.
#[derive(Clone)]
pub struct Authorization {
    pub tokens: Arc<Tokens>,
    pub guesses: Arc<Guesses>,
}

/// What each address has tried.
pub struct Guesses {
    wrong: Rates,
    /// Which addresses sent a right token, and when last. Only who has one can make this grow.
    proven: Mutex<HashMap<IpAddr, Instant>>,
}

impl Authorization {
    /// Passes a request with a right token, unless its address has guessed too often.
    ///
    /// # Errors
    /// 401 without a right token; 429 after too many wrong ones, then also with a right one.
    pub fn check(&self, address: Option<IpAddr>, headers: &HeaderMap) -> Result<(), Rejection> {
        // Without a token nothing is guessed.
        let is_right = self.tokens.accept(headers).ok_or(Rejection::Unauthorized)?;
        self.guesses.check(address, is_right)
    }
}

impl Guesses {
    /// `rate` is that of wrong tokens, for each address.
    pub fn new(rate: Rate) -> Self {
        Self { wrong: Rates::new(Act::WrongToken, rate), proven: Mutex::default() }
    }

    fn check(&self, address: Option<IpAddr>, is_right: bool) -> Result<(), Rejection> {
        // All who are not known (behind a silent proxy on a Unix socket) are one; this address is nobody's.
        let address = limit_key(address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()));
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if proven.get(&address).is_none_or(|proof| proof.elapsed() > PROVEN_FOR) {
            self.wrong.ask(Some(address))?;
        }
        if is_right {
            if proven.insert(address, Instant::now()).is_none() {
                proven.retain(|_, proof| proof.elapsed() <= PROVEN_FOR);
            }
            return Ok(());
        }
        self.wrong.take(Some(address), 1)?;
        Err(Rejection::Unauthorized)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an address is told: whether it passes, or why not.
    fn told(guesses: &Guesses, address: &str, is_right: bool) -> &'static str {
        guesses.check(address.parse().ok(), is_right).map_or_else(|rejection| rejection.reason(), |()| "passes")
    }

    #[tokio::test(start_paused = true)]
    async fn after_too_many_wrong_tokens_a_right_one_does_not_stand_out() {
        let guesses = Guesses::new(Rate::per_minute(3));
        for address in ["1.1.1.1", "unknown"] {
            for _ in 0..3 {
                assert_eq!(told(&guesses, address, false), "unauthorized");
            }
            for is_right in [false, true, false] {
                assert_eq!(told(&guesses, address, is_right), "wrong_token_rate");
            }
        }
        assert_eq!(told(&guesses, "2.2.2.2", true), "passes");
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(told(&guesses, "1.1.1.1", true), "passes");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_had_the_token_within_a_day_is_not_locked_out() {
        let guesses = Guesses::new(Rate::per_minute(3));
        assert_eq!(told(&guesses, "1.1.1.1", true), "passes");
        for _ in 0..3 {
            assert_eq!(told(&guesses, "1.1.1.1", false), "unauthorized");
        }
        assert_eq!(told(&guesses, "1.1.1.1", false), "wrong_token_rate");
        assert_eq!(told(&guesses, "1.1.1.1", true), "passes");
        tokio::time::advance(PROVEN_FOR + Duration::from_secs(60)).await;
        for _ in 0..3 {
            assert_eq!(told(&guesses, "1.1.1.1", false), "unauthorized");
        }
        assert_eq!(told(&guesses, "1.1.1.1", true), "wrong_token_rate");
        // Who comes anew makes those be forgotten that have been away for long.
        assert_eq!(told(&guesses, "2.2.2.2", true), "passes");
        assert_eq!(guesses.proven.lock().unwrap().len(), 1);
    }
}
