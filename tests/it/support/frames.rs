//! WebSocket frames by hand: what no well-behaved library would send, or would answer by itself.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{
    raw::Raw,
    server::{PATIENCE, Server},
};

/// The first byte of frames that end a message (RFC 6455 §5.2).
pub const TEXT: u8 = 0x81;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;

impl Raw {
    /// Connects to `/ws` with a query, by hand.
    pub async fn upgrade(server: &Server, query: &str) -> Self {
        let mut raw = Self::connect(server).await;
        raw.shake_hands(query).await;
        raw
    }

    /// Makes a WebSocket of the connection.
    pub async fn shake_hands(&mut self, query: &str) {
        let head = format!(
            "GET /ws{query} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.send(head).await;
        let answer = self.head().await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        // The example of RFC 6455 §1.3.
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    }

    /// Sends what the server may refuse to take.
    pub async fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, self.0.write_all(bytes)).await.expect("the server reads in time")
    }

    /// The head of an answer; what there is of it when the connection ends.
    pub async fn head(&mut self) -> String {
        let mut head = Vec::new();
        let read = async {
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = self.0.read_u8().await else { return };
                head.push(byte);
            }
        };
        timeout(PATIENCE, read).await.expect("an answer in time");
        String::from_utf8(head).expect("a head is text")
    }

    /// The body that a head announces.
    pub async fn body(&mut self, head: &str) -> Vec<u8> {
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.expect("the head has a length")];
        timeout(PATIENCE, self.0.read_exact(&mut body)).await.expect("in time").expect("the body comes whole");
        body
    }

    /// Reads to the end of the connection, for as long as a server may take that waits for a client.
    pub async fn ended(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = timeout(2 * PATIENCE, self.0.read_to_end(&mut bytes)).await.expect("the end in time");
        bytes
    }

    /// The next frame: its first byte and what it carries; none when the connection has ended.
    pub async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(PATIENCE, self.read_frame()).await.expect("a frame in time").ok()
    }

    async fn read_frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let first = self.0.read_u8().await?;
        let length = match self.0.read_u8().await? {
            126 => usize::from(self.0.read_u16().await?),
            short => {
                assert!(short < 126, "a server's frame is not masked, and none here is longer than 64 KiB");
                usize::from(short)
            }
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await?;
        Ok((first, payload))
    }
}

/// A frame of at most 64 KiB as a client sends it: masked, with a key of zeros.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16;
    let [high, low] = length.to_be_bytes();
    let header = if length < 126 { vec![first, 0x80 | low] } else { vec![first, 0x80 | 126, high, low] };
    [&header[..], &[0; 4], payload].concat()
}
