//! The main job, end to end.

use crate::support::{EventStream, Server, Socket, post_body};

#[tokio::test]
async fn a_post_reaches_every_client_of_its_region_and_no_other() {
    let server = Server::start(&[]).await;
    let (mut all, _) = Socket::open(&server, "").await;
    let (mut us, _) = Socket::open(&server, "?regions=US").await;
    let (mut gb, _) = Socket::open(&server, "?regions=GB,JP").await;
    let mut events = EventStream::connect(&server, "?regions=US").await;

    let receipt = server.publish(post_body("US", 1)).await;
    assert_eq!(receipt["subscribers"], 3);
    for publication in [all.publication().await, us.publication().await, events.publication().await] {
        assert_eq!(publication["id"], receipt["id"]);
        assert_eq!(publication["videos"][0]["title"], "Video 1");
    }
    server.publish(post_body("GB", 2)).await;
    assert_eq!(gb.publication().await["videos"][0]["id"], "2");
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_missed_even_after_a_kill() {
    let mut server = Server::start(&[]).await;
    let (mut socket, _) = Socket::open(&server, "").await;
    server.publish(post_body("US", 1)).await;
    let since = socket.publication().await["id"].as_str().unwrap().to_owned();
    drop(socket);
    server.publish(post_body("US", 2)).await;
    server.kill().await;
    server.restart().await;

    let (mut socket, hello) = Socket::open(&server, &format!("?since={since}")).await;
    assert_eq!((&hello["recovered"], &hello["position"]), (&true.into(), &since.into()));
    assert_eq!(socket.publication().await["videos"][0]["id"], "2");
}
