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

/// A publication's offset and its mark; none where it is another message. `mark` is where the last one had its mark,
/// for it seldom moves.
pub fn publication(json: &[u8], mark: &mut usize) -> Option<(u64, usize)> {
    let id = json.strip_prefix(b"{\"type\":\"new_trending\",\"id\":\"")?;
    let offset = offset(&id[..id.iter().position(|&byte| byte == b'"')?])?;
    if let Some(sequence) = json.get(*mark..).and_then(read_mark) {
        return Some((offset, sequence));
    }
    *mark = json.windows(2).position(|window| window == b"@@")?;
    Some((offset, read_mark(&json[*mark..])?))
}

/// The offset of a position, which is what follows the hyphen.
pub fn offset(position: &[u8]) -> Option<u64> {
    let digits = position.rsplit(|&byte| byte == b'-').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn read_mark(bytes: &[u8]) -> Option<usize> {
    let digits = bytes.strip_prefix(b"@@")?.get(..10)?;
    (bytes.get(12..14)? == b"@@").then_some(())?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message that a post becomes.
    fn message(sequence: usize, region: usize, length: usize) -> Vec<u8> {
        let fields = post_body(sequence, region, length);
        let id: &[u8] = br#"{"type":"new_trending","id":"k3f9x2ab-1000","count":1,"#;
        [id, &fields[1..fields.len() - 1], br#","timestamp":"2026-01-01T00:00:00.000Z"}"#].concat()
    }

    #[test]
    fn a_post_becomes_a_message_of_its_length() {
        assert_eq!(message(7, 0, 700).len(), 700);
    }

    #[test]
    fn a_mark_is_found_where_the_last_one_was_and_elsewhere() {
        let mut mark = 0;
        for sequence in [0, 7, 1_234_567_890] {
            assert_eq!(publication(&message(sequence, 1, 700), &mut mark), Some((1000, sequence)));
            assert_eq!(publication(&message(sequence, 100, 100), &mut mark), Some((1000, sequence)));
        }
        assert_eq!(publication(b"{\"type\":\"hello\"}", &mut mark), None);
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
