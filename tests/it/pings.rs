//! What a client owes the server: an answer to each Ping, which is counted against nothing.

use crate::support::{Server, Socket};

#[tokio::test]
async fn a_client_that_answers_each_ping_is_no_flood_however_often_it_is_asked() {
    let server = Server::start(&["--heartbeat", "50ms"]).await;
    let (mut socket, _) = Socket::open(&server, "").await;
    // More than the burst of messages that a client may send, in a time that makes good for few.
    for _ in 0..100 {
        assert_eq!(socket.message().await["type"], "heartbeat");
    }
    assert_eq!(server.metric("notifier_disconnected_total{code=\"1008\"}").await, 0.0);
}
