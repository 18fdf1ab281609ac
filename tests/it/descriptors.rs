//! Descriptors that run out: nobody who is in is put out, and who could not get in can once there is room.

use crate::support::{Setup, Socket, post_body, raw::Raw};

/// The hard limit on descriptors, of which the server keeps 100 for what is no client.
const DESCRIPTORS: usize = 200;

#[tokio::test]
async fn when_descriptors_run_out_clients_stay_and_others_get_in_later() {
    let limit = format!("ulimit -n {DESCRIPTORS}");
    let mut server = Setup::new(&["--max-connections", "150"]).shell(&limit).start().await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Socket::open(&server, "").await.0);
    }
    // A connection that is kept for the posts to come.
    server.publish(post_body("US", "before")).await;
    let mut idle = Vec::new();
    for _ in 0..DESCRIPTORS {
        idle.push(Raw::connect(&server).await);
    }
    server.logged("no connection can be accepted").await;
    let receipt = server.publish(post_body("US", "meanwhile")).await;
    assert_eq!(receipt["subscribers"], 20);
    for client in &mut clients {
        assert_eq!(client.publication().await["videos"][0]["id"], "before");
        assert_eq!(client.publication().await["id"], receipt["id"]);
    }
    drop(idle);
    let (mut late, _) = Socket::open(&server, "").await;
    let receipt = server.publish(post_body("US", "after")).await;
    assert_eq!(late.publication().await["id"], receipt["id"]);
}
