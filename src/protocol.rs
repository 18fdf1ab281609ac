//! What goes over the wire to clients: messages, the frames that carry them, and close codes.
//!
//! A message is encoded once for each transport, whatever the number of clients: a [`Frame`] holds the bytes as they
//! are written to the socket.

use bytes::Bytes;
use serde::Serialize;

use crate::{
    codec::{self, Opcode},
    position::Position,
    publication::{Publication, Timestamp},
};

/// The most that a client may send in one message, in bytes.
pub const MAX_INCOMING: usize = 4 * 1024;

/// One encoded message, as each transport sends it; the bytes are shared by all that do.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Whole WebSocket frames, unmasked (RFC 6455 §5.2): the text, and behind a heartbeat a Ping.
    websocket: Bytes,
    /// A chunk (RFC 9112 §7.1) with a server-sent event in it.
    chunk: Bytes,
    /// Where the JSON lies within `websocket`, and the event within `chunk`.
    json: (u32, u32),
    event: (u32, u32),
}

/// How the bytes of a frame reach a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    WebSocket,
    /// Server-sent events, each in a chunk of an HTTP/1.1 response.
    Chunks,
    /// Server-sent events as they are, for HTTP/1.0, which knows no chunks.
    Plain,
}

impl Frame {
    /// Encodes a message; `position` becomes the event's id, from which an `EventSource` resumes by itself.
    pub fn message(message: &Message, position: Option<Position>) -> Self {
        Self::encode(&to_json(message), position, None, false)
    }

    /// Encodes a publication; its position becomes the event's id.
    pub fn publication(publication: &Publication) -> Self {
        Self::encode(&publication.to_json(), Some(publication.position), None, false)
    }

    /// Encodes a message with the time after which an `EventSource` is to come back when it loses the stream.
    pub fn with_retry(message: &Message, position: Option<Position>, retry_ms: u64) -> Self {
        Self::encode(&to_json(message), position, Some(retry_ms), false)
    }

    /// Encodes a heartbeat with the Ping that goes with it over WebSocket.
    pub fn with_ping(message: &Message, position: Position) -> Self {
        Self::encode(&to_json(message), Some(position), None, true)
    }

    fn encode(json: &str, position: Option<Position>, retry_ms: Option<u64>, ping: bool) -> Self {
        debug_assert!(!json.contains(['\n', '\r']), "a line break would end the event's data");
        let mut websocket = Vec::with_capacity(json.len() + 12);
        codec::encode(Opcode::Text, json.as_bytes(), &mut websocket);
        let end = websocket.len();
        if ping {
            codec::encode(Opcode::Ping, &[], &mut websocket);
        }

        let mut event = String::with_capacity(json.len() + 64);
        if let Some(position) = position {
            event.push_str(&format!("id: {position}\n"));
        }
        if let Some(retry) = retry_ms {
            event.push_str(&format!("retry: {retry}\n"));
        }
        event.push_str(&format!("data: {json}\n\n"));
        let length = format!("{:x}\r\n", event.len());
        Self {
            websocket: websocket.into(),
            json: ((end - json.len()) as u32, end as u32),
            event: (length.len() as u32, (length.len() + event.len()) as u32),
            chunk: format!("{length}{event}\r\n").into(),
        }
    }

    /// The message as JSON text.
    pub fn json(&self) -> &[u8] {
        &self.websocket[self.json.0 as usize..self.json.1 as usize]
    }

    /// The message as it goes over the wire.
    pub fn bytes(&self, wire: Wire) -> &[u8] {
        match wire {
            Wire::WebSocket => &self.websocket,
            Wire::Chunks => &self.chunk,
            Wire::Plain => &self.chunk[self.event.0 as usize..self.event.1 as usize],
        }
    }

    /// The same, shared: from `start` on.
    pub fn rest(&self, wire: Wire, start: usize) -> Bytes {
        match wire {
            Wire::WebSocket => self.websocket.slice(start..),
            Wire::Chunks => self.chunk.slice(start..),
            Wire::Plain => self.chunk.slice(self.event.0 as usize + start..self.event.1 as usize),
        }
    }

    /// How many bytes it holds in memory.
    pub fn size(&self) -> usize {
        self.websocket.len() + self.chunk.len()
    }
}

fn to_json(message: &Message) -> String {
    serde_json::to_string(message).expect("a message can be written")
}

/// What the server says beside publications. A client ignores types and fields that it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// Always first.
    Hello {
        /// All of this subscription up to here was sent before; what follows starts right after it.
        position: Position,
        /// Whether everything after the client's `since` follows; none where it gave none.
        recovered: Option<bool>,
        /// The server's time.
        now: Timestamp,
        /// How often a heartbeat comes, in milliseconds.
        heartbeat_ms: u64,
        #[serde(flatten)]
        pace: Pace,
    },
    /// The connection is alive.
    Heartbeat {
        position: Position,
        #[serde(flatten)]
        pace: Pace,
    },
    /// The answer to a client's ping.
    Pong,
    /// A planned restart: come back after so many milliseconds.
    Reconnect { after_ms: u64 },
}

/// Over how long the clients should spread what they would otherwise do at once, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pace {
    /// Their own requests to the site after a publication.
    pub spread_ms: u64,
    /// Their first attempt to connect again.
    pub reconnect_window_ms: u64,
}

impl Pace {
    /// The longest that clients are asked to spread over.
    pub const MAX_MS: u64 = 10 * 60 * 1000;

    /// The pace at which `clients` stay below the given rates, both per second and at least 1.
    pub fn of(clients: u64, refetch_rate: u64, reconnect_rate: u64) -> Self {
        let over = |rate: u64| (clients.saturating_mul(1000) / rate.max(1)).min(Self::MAX_MS);
        Self { spread_ms: over(refetch_rate), reconnect_window_ms: over(reconnect_rate) }
    }
}

/// Whether a client's text is the one message that gets an answer: `{"type":"ping"}`, whatever else it carries.
pub fn is_ping(text: &str) -> bool {
    serde_json::from_str(text).is_ok_and(|message: serde_json::Value| message["type"] == "ping")
}

/// Why the server ends a connection. Each code tells the client whether to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disconnect {
    /// Comes back, after what the `reconnect` message said.
    Restart,
    /// Comes back at once, and is then told of a gap: retention overtook it, or the history is another one.
    PositionLost,
    /// Comes back: bytes that are no WebSocket frames, most often a broken middlebox (RFC 6455 §7.4.1).
    ProtocolError,
    /// Comes back: text that is not UTF-8 (RFC 6455 §8.1).
    InvalidText,
    /// Stops: the protocol has no binary messages.
    Binary,
    /// Stops: a message longer than [`MAX_INCOMING`].
    TooBig,
    /// Comes back after at least a minute: it sent more than it may.
    Flood,
    /// Stops: the query can't be read.
    BadRequest,
    /// Stops: pages of this origin may not connect.
    OriginNotAllowed,
}

impl Disconnect {
    /// The close code (RFC 6455 §7.4; 4000 and above are this project's own).
    pub fn code(self) -> u16 {
        match self {
            Self::Restart => 1012,
            Self::PositionLost => 4000,
            Self::ProtocolError => 1002,
            Self::InvalidText => 1007,
            Self::Binary => 1003,
            Self::TooBig => 1009,
            Self::Flood => 1008,
            Self::BadRequest => 4400,
            Self::OriginNotAllowed => 4403,
        }
    }

    /// For people who read the browser's console; at most 123 bytes (RFC 6455 §5.5).
    pub fn reason(self) -> &'static str {
        match self {
            Self::Restart => "the server restarts",
            Self::PositionLost => "the position is lost",
            Self::ProtocolError => "not a WebSocket frame",
            Self::InvalidText => "text must be UTF-8",
            Self::Binary => "binary messages are not supported",
            Self::TooBig => "messages are limited to 4 KiB",
            Self::Flood => "too many messages",
            Self::BadRequest => "regions can't be read: short names with commas between them",
            Self::OriginNotAllowed => "this origin is not allowed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_holds_what_each_transport_writes() {
        let position: Position = "k3f9x2ab-7".parse().unwrap();
        let pace = Pace::of(100, 1000, 2000);
        let frame = Frame::message(&Message::Heartbeat { position, pace }, Some(position));
        let json = r#"{"type":"heartbeat","position":"k3f9x2ab-7","spread_ms":100,"reconnect_window_ms":50}"#;
        let event = format!("id: k3f9x2ab-7\ndata: {json}\n\n");
        assert_eq!(frame.json(), json.as_bytes());
        assert_eq!(frame.bytes(Wire::WebSocket), [&[0x81, json.len() as u8], json.as_bytes()].concat());
        assert_eq!(frame.bytes(Wire::Plain), event.as_bytes());
        assert_eq!(frame.bytes(Wire::Chunks), format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
        for wire in [Wire::WebSocket, Wire::Chunks, Wire::Plain] {
            assert_eq!(frame.rest(wire, 5), frame.bytes(wire)[5..]);
        }
        let beat = Frame::with_ping(&Message::Heartbeat { position, pace }, position);
        assert_eq!(beat.json(), json.as_bytes());
        assert_eq!(beat.bytes(Wire::WebSocket), [frame.bytes(Wire::WebSocket), &[0x89, 0]].concat());
        assert_eq!(beat.bytes(Wire::Plain), event.as_bytes());
    }

    #[test]
    fn hello_says_when_nothing_was_asked_to_be_recovered() {
        let hello = Message::Hello {
            position: "k3f9x2ab-7".parse().unwrap(),
            recovered: None,
            now: Timestamp::from_millis(0),
            heartbeat_ms: 25_000,
            pace: Pace::of(0, 1, 1),
        };
        assert_eq!(
            str::from_utf8(Frame::with_retry(&hello, None, 3000).bytes(Wire::Plain)).unwrap(),
            "retry: 3000\ndata: {\"type\":\"hello\",\"position\":\"k3f9x2ab-7\",\"recovered\":null,\
             \"now\":\"1970-01-01T00:00:00Z\",\"heartbeat_ms\":25000,\"spread_ms\":0,\"reconnect_window_ms\":0}\n\n"
        );
    }

    #[test]
    fn the_pace_grows_with_the_clients_up_to_ten_minutes() {
        assert_eq!(Pace::of(100_000, 1000, 2000), Pace { spread_ms: 100_000, reconnect_window_ms: 50_000 });
        assert_eq!(Pace::of(u64::MAX, 0, 1).spread_ms, 600_000);
    }

    #[test]
    fn only_a_ping_is_a_ping() {
        for text in [r#"{"type":"ping"}"#, r#" {"at":1,"type":"p\u0069ng"} "#] {
            assert!(is_ping(text), "{text}");
        }
        for text in ["", "ping", "{}", r#"{"type":"pong"}"#, r#"{"type":1}"#, r#"["ping"]"#, r#"{"type":"ping""#] {
            assert!(!is_ping(text), "{text}");
        }
    }

    #[test]
    fn a_reason_fits_a_close_frame() {
        use Disconnect::*;
        let of_frames = [ProtocolError, InvalidText, Binary, TooBig, Flood];
        for disconnect in [&of_frames[..], &[Restart, PositionLost, BadRequest, OriginNotAllowed]].concat() {
            assert!(disconnect.reason().len() <= 123);
        }
    }
}
