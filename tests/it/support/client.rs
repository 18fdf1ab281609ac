//! Clients of both transports, as thin as can be: what they show is what came over the wire.

use std::collections::VecDeque;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{self, Message, client::IntoClientRequest, http::HeaderMap},
};

use super::server::{PATIENCE, Server};

/// A WebSocket client.
pub struct Socket {
    pub stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    /// Connects to `/ws` with a query such as `?regions=US`; does not wait for hello.
    pub async fn connect(server: &Server, query: &str) -> Self {
        Self::connect_with(server, query, &[]).await.expect("the handshake succeeds")
    }

    pub async fn connect_with(
        server: &Server,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, tungstenite::Error> {
        let mut request = format!("ws://{}/ws{query}", server.address).into_client_request()?;
        let more = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        request.headers_mut().extend(more.collect::<HeaderMap>());
        let (stream, _) = timeout(PATIENCE, tokio_tungstenite::connect_async(request)).await.expect("in time")?;
        Ok(Self { stream })
    }

    /// Connects and takes hello; answers both.
    pub async fn open(server: &Server, query: &str) -> (Self, Value) {
        let mut socket = Self::connect(server, query).await;
        let hello = socket.message().await;
        assert_eq!(hello["type"], "hello", "{hello}");
        (socket, hello)
    }

    /// The next frame, whatever it is.
    pub async fn frame(&mut self) -> Message {
        timeout(PATIENCE, self.stream.next()).await.expect("a frame in time").expect("a frame").expect("a good frame")
    }

    /// The next JSON message.
    pub async fn message(&mut self) -> Value {
        loop {
            match self.frame().await {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not a message: {other:?}"),
            }
        }
    }

    /// The next publication; heartbeats are passed over.
    pub async fn publication(&mut self) -> Value {
        loop {
            let message = self.message().await;
            if message["type"] == "new_trending" {
                return message;
            }
        }
    }

    /// The code and reason of the close frame, with what came before it passed over.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Message::Close(frame) = self.frame().await {
                let frame = frame.expect("a close frame with a code");
                return (frame.code.into(), frame.reason.to_string());
            }
        }
    }

    pub async fn send(&mut self, message: impl Into<Message>) {
        self.stream.send(message.into()).await.expect("the server takes it");
    }
}

/// A server-sent event as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    pub id: Option<String>,
    pub retry: Option<u64>,
    pub data: Value,
}

/// A client of `/events`.
pub struct EventStream {
    response: reqwest::Response,
    buffer: Vec<u8>,
    events: VecDeque<Event>,
}

impl EventStream {
    pub async fn connect(server: &Server, query: &str) -> Self {
        let response = server.get(&format!("/events{query}")).await;
        assert_eq!(response.status(), 200);
        Self::read(response)
    }

    /// Reads the events of an answer.
    pub fn read(response: reqwest::Response) -> Self {
        Self { response, buffer: Vec::new(), events: VecDeque::new() }
    }

    /// The next event; none when the stream has ended.
    pub async fn event(&mut self) -> Option<Event> {
        while self.events.is_empty() {
            let chunk = timeout(PATIENCE, self.response.chunk()).await.expect("an event in time").ok().flatten()?;
            self.buffer.extend_from_slice(&chunk);
            while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let text: Vec<u8> = self.buffer.drain(..end + 2).collect();
                self.events.push_back(parse(std::str::from_utf8(&text).expect("UTF-8")));
            }
        }
        self.events.pop_front()
    }

    /// The next publication; other messages are passed over.
    pub async fn publication(&mut self) -> Value {
        loop {
            let event = self.event().await.expect("the stream goes on");
            if event.data["type"] == "new_trending" {
                return event.data;
            }
        }
    }
}

fn parse(text: &str) -> Event {
    let mut event = Event::default();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (field, value) = line.split_once(": ").expect("a field");
        match field {
            "id" => event.id = Some(value.to_owned()),
            "retry" => event.retry = Some(value.parse().expect("milliseconds")),
            "data" => event.data = serde_json::from_str(value).expect("JSON"),
            other => panic!("unexpected field {other}"),
        }
    }
    event
}
