//! Connections that are no clients, and wait for whoever is at the other end: they make room for others, and the largest
//! crowd of them does.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::sleep,
};

use crate::support::{Server, Setup, post_body, raw::Raw};

/// Leaves room for 50 connections that are no clients, or less where there are many cores.
const FEW_DESCRIPTORS: &str = "ulimit -n 100";
const ROOM: usize = 50;

async fn start() -> Server {
    Setup::new(&["--history", "memory"]).shell(FEW_DESCRIPTORS).start().await
}

#[tokio::test]
async fn requests_whose_bodies_never_come_keep_nobody_out() {
    const OTHERS: usize = 20;
    let server = start().await;
    let address = server.address.clone();
    let ended = watch::Sender::new(0);
    let attack = async |route: &str| {
        loop {
            let Ok(mut stream) = TcpStream::connect(&address).await else { continue };
            let head = format!("{route} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
            // However it ends.
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
            ended.send_modify(|count| *count += 1);
            // Or this process would do nothing else.
            sleep(Duration::from_millis(50)).await;
        }
    };
    let attacks = join_all((0..ROOM + 10).map(|number| attack(["POST /nothing", "GET /healthz"][number % 2])));
    let others = async {
        ended.subscribe().wait_for(|count| *count > ROOM).await.expect("the attack goes on");
        let (mut served, mut tries) = (0, 0);
        while served < OTHERS {
            tries += 1;
            // On a busy machine one may come too late to its turn, not most of them.
            assert!(tries <= 2 * OTHERS, "{served} of {tries}");
            let mut raw = Raw::connect(&server).await;
            let sent = raw.try_send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
            if sent.is_ok() && raw.head().await.starts_with("HTTP/1.1 200 ") {
                served += 1;
            }
        }
    };
    tokio::select! {
        _ = attacks => unreachable!("they go on"),
        () = others => {}
    }
}

#[tokio::test]
async fn an_answer_that_is_taken_slowly_is_not_cut_for_others_that_wait() {
    let server = start().await;
    for id in 0..100 {
        let body = post_body("US", id).replace("Video", &"x".repeat(7800));
        server.publish(body).await;
    }
    let mut slow = Raw::connect_small(&server.address).expect("a connection");
    slow.send("GET /notifications?limit=100 HTTP/1.0\r\n\r\n").await;
    let head = slow.head().await;
    assert!(head.starts_with("HTTP/1.0 200 "), "{head}");
    let mut kept = Vec::new();
    for _ in 0..2 * ROOM {
        let mut raw = Raw::connect(&server).await;
        raw.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(raw.head().await.starts_with("HTTP/1.1 200 "));
        kept.push(raw);
    }
    let body = slow.read_to_end().await;
    assert!(body.ends_with('}') && body.matches("new_trending").count() == 100, "{} bytes", body.len());
}
