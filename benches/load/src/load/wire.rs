//! The little of HTTP, WebSocket and server-sent events that clients need, and the mark that each publication carries.

use serde::Deserialize;

/// How a client listens.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    #[default]
    Websocket,
    Sse,
}

/// The request with which a client connects; `query` is without its question mark.
pub fn request(transport: Transport, query: &str) -> Vec<u8> {
    let (path, headers) = match transport {
        Transport::Websocket => {
            let key = "dGhlIHNhbXBsZSBub25jZQ==";
            let version = "Sec-WebSocket-Version: 13";
            ("/ws", format!("Upgrade: websocket\r\nConnection: Upgrade\r\n{version}\r\nSec-WebSocket-Key: {key}\r\n"))
        }
        Transport::Sse => ("/events", "Accept: text/event-stream\r\n".to_owned()),
    };
    let question_mark = if query.is_empty() { "" } else { "?" };
    format!("GET {path}{question_mark}{query} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").into()
}

/// Where the head of an answer ends, once it is whole.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// What a server sends.
pub enum Incoming<'a> {
    /// JSON.
    Message(&'a [u8]),
    /// Whole server-sent events; [`data`] has the JSON.
    Events(&'a [u8]),
    Ping,
    /// The connection ends; why.
    End(String),
}

/// Takes the first whole thing from what arrived; answers it and its length.
pub fn next(transport: Transport, bytes: &[u8]) -> Option<(Incoming<'_>, usize)> {
    match transport {
        Transport::Websocket => next_frame(bytes),
        Transport::Sse => next_chunk(bytes),
    }
}

/// A frame without a mask, as servers send (RFC 6455 §5.2).
fn next_frame(bytes: &[u8]) -> Option<(Incoming<'_>, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (start, length) = match second {
        0..126 => (2, usize::from(second)),
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        _ => return Some((Incoming::End("a frame that is masked or longer than 64 KiB".into()), bytes.len())),
    };
    let payload = bytes.get(start..start + length)?;
    let incoming = match first {
        0x81 => Incoming::Message(payload),
        0x89 => Incoming::Ping,
        0x88 => Incoming::End(format!("close frame {}", String::from_utf8_lossy(payload.get(2..).unwrap_or_default()))),
        _ => Incoming::End(format!("a frame that starts with {first:#x}")),
    };
    Some((incoming, start + length))
}

/// A chunk of a body (RFC 9112 §7.1). It may hold several events; one that holds a part of an event would be as good,
/// but no server that this is for sends such, and it ends the connection here so that nobody counts wrongly.
fn next_chunk(bytes: &[u8]) -> Option<(Incoming<'_>, usize)> {
    let line = bytes.iter().position(|&byte| byte == b'\n')?;
    let size = std::str::from_utf8(&bytes[..line]).ok();
    let size = size.and_then(|size| usize::from_str_radix(size.trim_end(), 16).ok());
    let Some(size) = size else { return Some((Incoming::End("a chunk without a size".into()), bytes.len())) };
    let (start, end) = (line + 1, line + 1 + size);
    let events = bytes.get(start..end)?;
    bytes.get(end..end + 2)?;
    let incoming = match events {
        [] => Incoming::End("the stream ended".into()),
        [.., b'\n', b'\n'] => Incoming::Events(events),
        _ => Incoming::End("a chunk with a part of an event".into()),
    };
    Some((incoming, end + 2))
}

/// The JSON of events, each of which has one line of data.
pub fn data(events: &[u8]) -> impl Iterator<Item = &[u8]> {
    events.split(|&byte| byte == b'\n').filter_map(|line| line.strip_prefix(b"data: "))
}

/// The answer to a Ping without a payload, masked as clients must.
pub const PONG: [u8; 6] = [0x8a, 0x80, 0x37, 0xfa, 0x21, 0x3d];

/// The name of a region.
pub fn region(number: usize) -> String {
    format!("R{number}")
}

/// The body of a post that becomes a message of so many bytes. Its one video's id is the mark by which a client
/// knows the publication.
pub fn post_body(sequence: usize, region_number: usize, length: usize) -> Vec<u8> {
    let envelope = r#"{"type":"new_trending","id":"k3f9x2ab-1000","count":1,"timestamp":"2026-01-01T00:00:00.000Z"}"#;
    let fields = |title: &str| {
        let region = region(region_number);
        format!(r#""region":"{region}","videos":[{{"id":"@@{sequence:010}@@","title":"{title}","url":"/watch/a1"}}]"#)
    };
    let missing = length.saturating_sub(envelope.len() + 1 + fields("").len());
    let title = "a title of a video, ".repeat(missing / 20 + 1);
    format!("{{{}}}", fields(&title[..missing])).into()
}

/// Reads the mark of a publication; other messages have none. `hint` is where the last one was.
pub fn find_mark(json: &[u8], hint: &mut usize) -> Option<usize> {
    if let Some(sequence) = json.get(*hint..).and_then(read_mark) {
        return Some(sequence);
    }
    let at = json.windows(2).position(|window| window == b"@@")?;
    *hint = at;
    read_mark(&json[at..])
}

fn read_mark(bytes: &[u8]) -> Option<usize> {
    let digits = bytes.strip_prefix(b"@@")?.get(..10)?;
    (bytes.get(12..14)? == b"@@").then_some(())?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_becomes_a_message_of_its_length() {
        let body = post_body(7, 0, 700);
        let message =
            br#"{"type":"new_trending","id":"k3f9x2ab-1000","count":1,"timestamp":"2026-01-01T00:00:00.000Z","#;
        assert_eq!(message.len() + body.len() - 1, 700);
    }

    #[test]
    fn a_mark_is_found_where_it_was_and_elsewhere() {
        let mut hint = 0;
        for sequence in [0, 7, 1_234_567_890] {
            assert_eq!(find_mark(&post_body(sequence, 1, 700), &mut hint), Some(sequence));
            assert_eq!(find_mark(&post_body(sequence, 100, 100), &mut hint), Some(sequence));
        }
        assert_eq!(find_mark(b"{\"type\":\"hello\"}", &mut hint), None);
    }

    #[test]
    fn a_part_of_a_frame_or_chunk_is_nothing_yet() {
        let frame: &[u8] = b"\x81\x02{}\x89\x00";
        let chunk: &[u8] = b"10\r\nid: 1\ndata: {}\n\n\r\n1";
        assert!((0..4).all(|end| next(Transport::Websocket, &frame[..end]).is_none()));
        assert!(matches!(next(Transport::Websocket, frame), Some((Incoming::Message(b"{}"), 4))));
        assert!(matches!(next(Transport::Websocket, &frame[4..]), Some((Incoming::Ping, 2))));
        assert!((0..22).all(|end| next(Transport::Sse, &chunk[..end]).is_none()));
        let Some((Incoming::Events(events), 22)) = next(Transport::Sse, chunk) else { panic!("an event") };
        assert_eq!(data(&events.repeat(2)).collect::<Vec<_>>(), [b"{}", b"{}"]);
    }
}
