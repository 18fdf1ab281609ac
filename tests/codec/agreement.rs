//! What the codec makes of a client's bytes, and that `tungstenite`, which knows nothing of it, makes the same of them.
//!
//! They differ on purpose in this, and [`assert_agree`] allows no more:
//!
//! - A length that is not in its shortest form is refused (RFC 6455 §5.2); tungstenite reads it.
//! - The close code 1014 is in IANA's registry and accepted; to tungstenite it is a bad one.
//! - What is wrong is refused as soon as the bytes show it; tungstenite waits for the whole frame. So where a frame
//!   has two faults, the code may be another: a wrong header goes before its length, a close code before the reason.

use std::{
    io::{self, Cursor, Read, Write},
    ops::ControlFlow,
};

use tungstenite::{
    Error, Message,
    error::ProtocolError,
    protocol::{CloseFrame, Role, WebSocket, WebSocketConfig},
};
use video_notifier::codec::{Decoder, Incoming, Violation};

/// How reading came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// All was read, up to a frame that may still become whole.
    Open,
    /// With the client's close frame.
    Closed,
    Protocol,
    InvalidText,
    TooBig,
}

impl End {
    fn is_violation(self) -> bool {
        !matches!(self, Self::Open | Self::Closed)
    }
}

pub type Reading = (Vec<Message>, End);

/// What the codec makes of the bytes, which arrive in pieces of these sizes over and over; and how many fragments.
pub fn read(bytes: &[u8], pieces: &[usize], max_message: usize) -> (Reading, usize) {
    let mut decoder = Decoder::new(max_message);
    let (mut messages, mut fragments, mut end) = (Vec::new(), 0, End::Open);
    let (mut rest, mut sizes) = (bytes, pieces.iter().cycle());
    while !rest.is_empty() && end == End::Open {
        let (piece, after) = rest.split_at(rest.len().min(*sizes.next().expect("pieces have sizes")));
        rest = after;
        let outcome = decoder.feed(&mut piece.to_vec(), |incoming| {
            match incoming {
                Incoming::Text(text) => messages.push(Message::text(text)),
                Incoming::Binary(payload) => messages.push(Message::binary(payload.to_vec())),
                Incoming::Ping(payload) => messages.push(Message::Ping(payload.to_vec().into())),
                Incoming::Pong(payload) => messages.push(Message::Pong(payload.to_vec().into())),
                Incoming::Close(close) => {
                    messages.push(close_message(close));
                    end = End::Closed;
                }
                Incoming::Fragment => fragments += 1,
            }
            ControlFlow::Continue(())
        });
        match outcome {
            Ok(()) => {}
            Err(Violation::Protocol) => end = End::Protocol,
            Err(Violation::InvalidText) => end = End::InvalidText,
            Err(Violation::TooBig) => end = End::TooBig,
        }
    }
    ((messages, end), fragments)
}

pub fn close_message(close: Option<(u16, &str)>) -> Message {
    Message::Close(close.map(|(code, reason)| CloseFrame { code: code.into(), reason: reason.into() }))
}

/// What the other side sent; what is written to it is thrown away.
struct Wire<'a>(Cursor<&'a [u8]>);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite makes of the bytes.
pub fn oracle(bytes: &[u8], role: Role, max_message: usize) -> Reading {
    let config = WebSocketConfig::default()
        .read_buffer_size(1024)
        .max_message_size(Some(max_message))
        // It counts control frames too, whose own limit is always in force.
        .max_frame_size(Some(max_message.max(125)));
    let mut socket = WebSocket::from_raw_socket(Wire(Cursor::new(bytes)), role, Some(config));
    let mut messages = Vec::new();
    // A close frame with a bad code is handed out as one of these words.
    let refused = close_message(Some((1002, "Protocol violation")));
    let end = loop {
        match socket.read() {
            Ok(message) if message == refused => break End::Protocol,
            Ok(message) => messages.push(message),
            Err(Error::ConnectionClosed) => break End::Closed,
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => break End::Open,
            Err(Error::Protocol(_)) => break End::Protocol,
            Err(Error::Utf8(_)) => break End::InvalidText,
            Err(Error::Capacity(_)) => break End::TooBig,
            Err(error) => panic!("no error of the protocol: {error}"),
        }
    };
    (messages, end)
}

/// Fails unless both make the same of a client's bytes; says what that was, and what was different on purpose.
pub fn assert_agree(bytes: &[u8], pieces: &[usize], max_message: usize) -> (Reading, Option<Difference>) {
    let (ours, _) = read(bytes, pieces, max_message);
    assert_eq!(ours, read(bytes, &[usize::MAX], max_message).0, "in pieces as in one");
    if let Some(start) = long_form(bytes) {
        let ((messages, end), difference) = assert_agree(&bytes[..start], pieces, max_message);
        if end == End::Open {
            assert_eq!(ours, (messages, End::Protocol));
            return (ours, Some(Difference::LongForm));
        }
        assert_eq!(ours, (messages, end));
        return (ours, difference);
    }
    let (mut theirs, mut difference) = (oracle(bytes, Role::Server, max_message), None);
    if ours.1.is_violation() && theirs.1 == End::Open {
        // Whatever comes next, tungstenite refuses it once the frame is whole; but for a length in a long form.
        let padded = [bytes, &vec![0; max_message.max(125) + 14]].concat();
        theirs = match long_form(&padded) {
            Some(start) if start < bytes.len() => (oracle(&bytes[..start], Role::Server, max_message).0, End::Protocol),
            _ => oracle(&padded, Role::Server, max_message),
        };
        difference = Some(Difference::Early);
    }
    if ours.1 == End::Protocol && matches!(theirs.1, End::InvalidText | End::TooBig) {
        theirs.1 = End::Protocol;
        difference = Some(Difference::TwoFaults);
    }
    if let (Some(Message::Close(Some(close))), End::Protocol) = (ours.0.last(), theirs.1)
        && u16::from(close.code) == 1014
    {
        theirs.0.push(Message::Close(Some(close.clone())));
        theirs.1 = End::Closed;
        difference = Some(Difference::Code1014);
    }
    assert_eq!(ours, theirs);
    (ours, difference)
}

/// Where they differ on purpose; see the top of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    LongForm,
    Code1014,
    Early,
    TwoFaults,
}

/// Where the first frame starts whose length is not in its shortest form.
fn long_form(bytes: &[u8]) -> Option<usize> {
    let mut start = 0;
    loop {
        let frame = bytes.get(start..)?;
        let (length, least, size) = match frame.get(1)? & 0x7F {
            126 => (u64::from(u16::from_be_bytes(*frame.get(2..)?.first_chunk()?)), 126, 4),
            127 => (u64::from_be_bytes(*frame.get(2..)?.first_chunk()?), 65536, 10),
            short => (u64::from(short), 0, 2),
        };
        if length < least {
            return Some(start);
        }
        let key = if frame[1] & 0x80 == 0 { 0 } else { 4 };
        start = start.checked_add(usize::try_from(length).ok()?.checked_add(size + key)?)?;
    }
}
