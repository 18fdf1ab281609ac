//! Clients whose host vanishes: no FIN and no RST ever comes, and what is sent to them is acknowledged by nobody.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::time::sleep;
use tokio_tungstenite::{MaybeTlsStream, client_async};

use crate::support::{EventStream, Server, Socket, blackout::Blackout, post_body, raw::Raw};

const HEARTBEAT: Duration = Duration::from_millis(500);
const OTHERS: usize = 50;
const VANISHING: usize = 20;

/// A WebSocket client that connects from an address.
async fn socket_from(server: &Server, address: Ipv4Addr) -> Socket {
    let stream = Raw::connect_from(server, address).await.0;
    let url = format!("ws://{}/ws", server.address);
    let (stream, _) = client_async(url, MaybeTlsStream::Plain(stream)).await.expect("a handshake");
    Socket { stream }
}

/// A stream that is read by a client at an address.
async fn stream_from(server: &Server, address: Ipv4Addr) -> EventStream {
    let client = reqwest::Client::builder().no_proxy().local_address(IpAddr::from(address)).build().expect("a client");
    EventStream::read(client.get(server.url("/events")).send().await.expect("the server answers"))
}

async fn until_clients(server: &Server, transport: &str, wanted: usize) {
    server.until_metric(&format!(r#"notifier_connections{{transport="{transport}"}}"#), |it| it == wanted as f64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_vanishes_is_dropped_after_three_heartbeats_and_nobody_else_notices() {
    let server = Server::start(&["--heartbeat", "500ms"]).await;
    let [a, b] = (std::process::id() as u16).to_be_bytes();
    let address = Ipv4Addr::new(127, 77, a, b);
    let mut others = join_all((0..OTHERS).map(|_| Socket::open(&server, ""))).await;
    let mut sockets = join_all((0..VANISHING).map(|_| socket_from(&server, address))).await;
    let mut streams = join_all((0..VANISHING).map(|_| stream_from(&server, address))).await;
    // They live for longer than it takes to be dropped: hello, and five heartbeats that are answered.
    for _ in 0..6 {
        join_all(sockets.iter_mut().map(Socket::message)).await;
        join_all(streams.iter_mut().map(EventStream::event)).await;
        join_all(others.iter_mut().map(|(other, _)| other.message())).await;
    }
    until_clients(&server, "websocket", OTHERS + VANISHING).await;
    until_clients(&server, "sse", VANISHING).await;

    let Some(_blackout) = Blackout::of(address.into()) else { return };
    let vanished = Instant::now();
    let gone = async {
        futures_util::join!(until_clients(&server, "websocket", OTHERS), until_clients(&server, "sse", 0));
        vanished.elapsed()
    };
    let posting = async {
        for number in 0.. {
            let receipt = server.publish(post_body("US", number)).await;
            for (other, _) in &mut others {
                assert_eq!(other.publication().await["id"], receipt["id"]);
            }
            sleep(HEARTBEAT / 5).await;
        }
    };
    let took = tokio::select! {
        took = gone => took,
        () = posting => unreachable!("it goes on"),
    };
    println!("dropped after {took:.1?}, at a heartbeat of {HEARTBEAT:?}");
    // Three, and what the kernel and a busy machine add.
    assert!((2 * HEARTBEAT..10 * HEARTBEAT).contains(&took), "{took:?}");
    until_clients(&server, "websocket", OTHERS).await;
}
