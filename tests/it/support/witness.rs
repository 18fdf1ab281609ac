//! Somebody who was there all the time and can tell that nothing happened.

use serde_json::Value;

use super::{Server, Socket};

/// Proves that refused posts leave no trace: the list stays the same after each of them, and at the end the next
/// publication is the next of the log, for a client that was there all the time too.
pub struct Witness<'a> {
    server: &'a Server,
    before: Value,
    pub client: Socket,
}

impl<'a> Witness<'a> {
    pub async fn of(server: &'a Server) -> Self {
        server.publish(r#"{"region":"US","videos":[{"id":"first","title":"First"}]}"#).await;
        let (client, _) = Socket::open(server, "").await;
        Self { server, before: server.notifications("").await, client }
    }

    pub async fn nothing_changed(&self, after: &str) {
        assert_eq!(self.server.notifications("").await, self.before, "after {after}");
    }

    pub async fn nothing_happened(mut self) {
        let last = self.server.publish(r#"{"region":"US","videos":[{"id":"last","title":"Last"}]}"#).await;
        let (epoch, offset) = self.before["position"].as_str().unwrap().split_once('-').unwrap();
        assert_eq!(last["id"], format!("{epoch}-{}", offset.parse::<u64>().unwrap() + 1), "nothing was appended");
        assert_eq!(self.client.publication().await["id"], last["id"], "nobody was disturbed");
    }
}
