//! The frames of a WebSocket (RFC 6455 §5) as a server reads and writes them, for owners of many sockets: a
//! [`Decoder`] takes bytes as they arrive and keeps nothing between messages. It answers nothing itself: Pongs and
//! close frames are its owner's to send. `examples/echo.rs` is the smallest owner, by which Autobahn judges it.

use std::{mem, ops::ControlFlow, str};

use thiserror::Error;

/// What a frame is (§5.2). The reserved ones are no values of it, so none can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// The next part of a message in fragments.
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

impl Opcode {
    fn parse(bits: u8) -> Result<Self, Violation> {
        Ok(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return Err(Violation::Protocol),
        })
    }

    /// Whether it is about the connection (§5.5); such a frame may come between the fragments of a message.
    fn is_control(self) -> bool {
        self as u8 >= 0x8
    }
}

/// The most that a control frame carries, in bytes (§5.5).
const MAX_CONTROL: usize = 125;

/// In the first byte of a frame that ends its message.
const FIN: u8 = 0x80;

/// In the first byte, for extensions; none is negotiated.
const RESERVED: u8 = 0x70;

/// In the second byte of a frame with a masking key.
const MASKED: u8 = 0x80;

/// What the second byte says instead of a length when 16 or 64 bits with the length follow.
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

/// The longest header of a client: two bytes, 64 bits of length, and the masking key.
const MAX_HEADER: usize = 2 + 8 + 4;

/// Appends one whole frame, unmasked as a server's has to be (§5.1), with FIN set. A control frame carries at most 125
/// bytes, which debug builds check.
pub fn encode(opcode: Opcode, payload: &[u8], into: &mut Vec<u8>) {
    debug_assert!(!opcode.is_control() || payload.len() <= MAX_CONTROL, "a control frame is short (§5.5)");
    into.reserve(MAX_HEADER + payload.len());
    into.push(FIN | opcode as u8);
    match payload.len() {
        length @ 0..=125 => into.push(length as u8),
        length @ 126..=0xFFFF => {
            into.push(LENGTH_16);
            into.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            into.push(LENGTH_64);
            into.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    into.extend_from_slice(payload);
}

/// Appends a close frame (§5.5.1): with a code that may be sent (§7.4) and a reason of at most 123 bytes, which debug
/// builds check, or empty.
pub fn encode_close(close: Option<(u16, &str)>, into: &mut Vec<u8>) {
    let mut payload = Vec::new();
    if let Some((code, reason)) = close {
        debug_assert!(is_close_code(code), "{code} may not be sent (§7.4)");
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(reason.as_bytes());
    }
    encode(Opcode::Close, &payload, into);
}

/// What a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    /// The last there is. The code is one that may be sent (§7.4); none when the frame was empty.
    Close(Option<(u16, &'a str)>),
    /// A data frame with more of its message to follow: a flood of them, which may all be empty, can be counted.
    Fragment,
}

/// Why a client's bytes can't be read on. The connection is to be failed (§7.1.7) with [`code`](Self::code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Violation {
    #[error("not a WebSocket frame of a client")]
    Protocol,
    #[error("text that is not UTF-8")]
    InvalidText,
    #[error("a message that is too long")]
    TooBig,
}

impl Violation {
    /// The close code (§7.4.1).
    pub fn code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::InvalidText => 1007,
            Self::TooBig => 1009,
        }
    }
}

/// Reads the frames of one client. Takes memory only while a frame or a message is incomplete, and then for what has
/// arrived of it, never for what is only announced.
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    /// None between messages, which is nearly always.
    incomplete: Option<Box<Incomplete>>,
    /// What still comes is not looked at.
    ended: bool,
}

/// Thousands of connections have one each.
const _: () = assert!(size_of::<Decoder>() <= 32);

/// What has arrived of a frame, and of the message around it.
#[derive(Debug, Default)]
struct Incomplete {
    /// The first bytes of a header, and how many they are.
    header: ([u8; MAX_HEADER], usize),
    /// The frame whose header is there and whose payload is not.
    frame: Option<Frame>,
    /// The payload of that frame if it is a control frame; apart from the message, which goes on after it.
    control: Vec<u8>,
    message: Option<Message>,
}

/// A data message of which more is to come.
#[derive(Debug)]
struct Message {
    is_text: bool,
    payload: Vec<u8>,
    /// How much of a text's payload is UTF-8, in bytes; what follows is the start of a character.
    valid: usize,
}

/// A frame whose header was read.
#[derive(Debug)]
struct Frame {
    opcode: Opcode,
    is_final: bool,
    /// As it applies to the next byte of the payload.
    key: [u8; 4],
    /// How many bytes of the payload are still to come.
    left: usize,
}

impl Decoder {
    /// `max_message` is the most that a message may have, its fragments together, in bytes. Control frames, which
    /// have 125 at most, don't count.
    pub fn new(max_message: usize) -> Self {
        Self { max_message, incomplete: None, ended: false }
    }

    /// Takes what has arrived, in pieces of any size, and calls `each` for what it completes: every message, control
    /// frame and fragment. How the bytes were cut into pieces makes no difference to what `each` gets. A frame that
    /// is whole in `input` is handed out from there.
    ///
    /// When `each` breaks, the rest is dropped. From then on, and after a close frame or a violation, all input is
    /// ignored: what follows a close frame means nothing (§1.4), and elsewhere the next frame can't be found. So who
    /// waits for the client's close frame doesn't break.
    ///
    /// # Errors
    /// As soon as the bytes show that the client is not to be read on; what was complete before is handed out first.
    pub fn feed(
        &mut self,
        input: &mut [u8],
        mut each: impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<(), Violation> {
        if self.ended {
            return Ok(());
        }
        let flow = self.decode(input, &mut each);
        if flow != Ok(ControlFlow::Continue(())) {
            self.ended = true;
            self.incomplete = None;
        }
        flow.map(drop)
    }

    fn decode<E>(&mut self, mut input: &mut [u8], each: &mut E) -> Result<ControlFlow<()>, Violation>
    where
        E: FnMut(Incoming<'_>) -> ControlFlow<()>,
    {
        while let Some(frame) = self.next_frame(&mut input)? {
            let piece = take(&mut input, frame.left);
            unmask(piece, frame.key);
            let flow = if frame.opcode.is_control() {
                self.control(frame, piece, each)?
            } else {
                self.data(frame, piece, each)?
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The frame under way, or else the next one whose header is whole; none when more has to arrive first.
    fn next_frame(&mut self, input: &mut &mut [u8]) -> Result<Option<Frame>, Violation> {
        if self.incomplete.is_none() {
            if let Some((frame, size)) = Frame::parse(input, None, self.max_message)? {
                take(input, size);
                return Ok(Some(frame));
            }
            if input.is_empty() {
                return Ok(None);
            }
        }
        let incomplete = self.incomplete.get_or_insert_default();
        if incomplete.frame.is_some() {
            return Ok(if input.is_empty() { None } else { incomplete.frame.take() });
        }
        let message = incomplete.message.as_ref().map(|message| message.payload.len());
        let (header, held) = &mut incomplete.header;
        let available = input.len().min(MAX_HEADER - *held);
        header[*held..][..available].copy_from_slice(&input[..available]);
        if let Some((frame, size)) = Frame::parse(&header[..*held + available], message, self.max_message)? {
            take(input, size - *held);
            *held = 0;
            return Ok(Some(frame));
        }
        take(input, available);
        *held += available;
        if *held == 0 && message.is_none() {
            self.incomplete = None;
        }
        Ok(None)
    }

    fn control<E>(&mut self, frame: Frame, piece: &[u8], each: &mut E) -> Result<ControlFlow<()>, Violation>
    where
        E: FnMut(Incoming<'_>) -> ControlFlow<()>,
    {
        if piece.len() < frame.left {
            let incomplete = self.incomplete.get_or_insert_default();
            incomplete.control.extend_from_slice(piece);
            incomplete.frame = Some(frame.after(piece));
            return Ok(ControlFlow::Continue(()));
        }
        let mut held = self.incomplete.as_mut().map_or_else(Vec::new, |incomplete| mem::take(&mut incomplete.control));
        let payload = if held.is_empty() {
            piece
        } else {
            held.extend_from_slice(piece);
            &held
        };
        match frame.opcode {
            Opcode::Ping => Ok(each(Incoming::Ping(payload))),
            Opcode::Pong => Ok(each(Incoming::Pong(payload))),
            _ => {
                let _ = each(Incoming::Close(parse_close(payload)?));
                Ok(ControlFlow::Break(()))
            }
        }
    }

    fn data<E>(&mut self, frame: Frame, piece: &[u8], each: &mut E) -> Result<ControlFlow<()>, Violation>
    where
        E: FnMut(Incoming<'_>) -> ControlFlow<()>,
    {
        let is_whole = piece.len() == frame.left;
        let is_text = frame.opcode == Opcode::Text;
        let held = self.incomplete.as_mut().and_then(|incomplete| incomplete.message.take());
        if is_whole && frame.is_final && held.is_none() {
            return Ok(each(Incoming::data(is_text, piece)?));
        }
        let mut message = held.unwrap_or(Message { is_text, payload: Vec::new(), valid: 0 });
        message.extend(piece)?;
        if is_whole && frame.is_final {
            return Ok(each(Incoming::data(message.is_text, &message.payload)?));
        }
        let incomplete = self.incomplete.get_or_insert_default();
        incomplete.message = Some(message);
        if is_whole {
            return Ok(each(Incoming::Fragment));
        }
        incomplete.frame = Some(frame.after(piece));
        Ok(ControlFlow::Continue(()))
    }
}

impl Message {
    /// A text that is none is told by the first byte that can't belong to one, not by its end.
    fn extend(&mut self, piece: &[u8]) -> Result<(), Violation> {
        self.payload.extend_from_slice(piece);
        if self.is_text {
            self.valid += match str::from_utf8(&self.payload[self.valid..]) {
                Ok(text) => text.len(),
                // The character at the end may become whole.
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                Err(_) => return Err(Violation::InvalidText),
            };
        }
        Ok(())
    }
}

impl<'a> Incoming<'a> {
    /// A whole message.
    fn data(is_text: bool, payload: &'a [u8]) -> Result<Self, Violation> {
        if !is_text {
            return Ok(Self::Binary(payload));
        }
        str::from_utf8(payload).map(Self::Text).map_err(|_| Violation::InvalidText)
    }
}

impl Frame {
    /// Reads a header (§5.2) and says how long it is; none when more of it has to arrive. `message` is the length of
    /// the message under way, if there is one. Each byte is judged as soon as it is there.
    fn parse(bytes: &[u8], message: Option<usize>, max_message: usize) -> Result<Option<(Self, usize)>, Violation> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let opcode = Opcode::parse(first & 0x0F)?;
        let is_final = first & FIN != 0;
        let is_in_order = match opcode {
            Opcode::Continuation => message.is_some(),
            Opcode::Text | Opcode::Binary => message.is_none(),
            Opcode::Close | Opcode::Ping | Opcode::Pong => is_final,
        };
        if first & RESERVED != 0 || !is_in_order {
            return Err(Violation::Protocol);
        }
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        let short = second & !MASKED;
        if second & MASKED == 0 || opcode.is_control() && usize::from(short) > MAX_CONTROL {
            return Err(Violation::Protocol);
        }
        let (length, least, size) = match short {
            LENGTH_16 => {
                let Some(&length) = bytes[2..].first_chunk() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(length)), 126, 4)
            }
            LENGTH_64 => {
                let Some(&length) = bytes[2..].first_chunk() else { return Ok(None) };
                (u64::from_be_bytes(length), 0x1_0000, 10)
            }
            short => (short.into(), 0, 2),
        };
        // The shortest form has to be used, and the highest bit is none of the length's.
        if length < least || length > i64::MAX as u64 {
            return Err(Violation::Protocol);
        }
        if !opcode.is_control() && length > (max_message - message.unwrap_or(0)) as u64 {
            return Err(Violation::TooBig);
        }
        let Some(&key) = bytes[size..].first_chunk() else { return Ok(None) };
        Ok(Some((Self { opcode, is_final, key, left: length as usize }, size + key.len())))
    }

    /// The same frame when this much more of its payload has arrived.
    fn after(mut self, piece: &[u8]) -> Self {
        self.left -= piece.len();
        self.key.rotate_left(piece.len() % 4);
        self
    }
}

/// Reads the payload of a close frame (§5.5.1).
fn parse_close(payload: &[u8]) -> Result<Option<(u16, &str)>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::Protocol) };
    };
    let code = u16::from_be_bytes(*code);
    if !is_close_code(code) {
        return Err(Violation::Protocol);
    }
    let reason = str::from_utf8(reason).map_err(|_| Violation::InvalidText)?;
    Ok(Some((code, reason)))
}

/// Whether a close frame may have the code (§7.4): it is in IANA's registry and not among those that say why there
/// was no close frame, or it is for libraries and applications.
fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Takes the masking off (§5.3), eight bytes at a time.
fn unmask(payload: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// Takes the first bytes off, as many as asked for or as there are.
fn take<'a>(input: &mut &'a mut [u8], length: usize) -> &'a mut [u8] {
    let all = mem::take(input);
    let (taken, rest) = all.split_at_mut(length.min(all.len()));
    *input = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use Violation::{InvalidText, Protocol, TooBig};

    /// Room for all that is sent here but where a test is about the limit.
    const MAX: usize = 1 << 20;

    const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

    /// A client's frame; `first` is its first byte.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(Opcode::Binary, payload, &mut bytes);
        bytes[0] = first;
        bytes[1] |= MASKED;
        let start = bytes.len() - payload.len();
        bytes.splice(start..start, KEY);
        for (byte, key) in bytes[start + 4..].iter_mut().zip(KEY.into_iter().cycle()) {
            *byte ^= key;
        }
        bytes
    }

    /// What a decoder hands out, in words, and how it ends.
    type Read = (Vec<String>, Result<(), Violation>);

    fn read_pieces<'a>(decoder: &mut Decoder, pieces: impl IntoIterator<Item = &'a [u8]>) -> Read {
        let mut incoming = Vec::new();
        for piece in pieces {
            let outcome = decoder.feed(&mut piece.to_vec(), |each| {
                incoming.push(format!("{each:?}"));
                ControlFlow::Continue(())
            });
            if outcome.is_err() {
                return (incoming, outcome);
            }
        }
        (incoming, Ok(()))
    }

    fn read(bytes: &[u8]) -> Read {
        read_pieces(&mut Decoder::new(MAX), [bytes])
    }

    fn handed_out(incoming: &[Incoming]) -> Read {
        (incoming.iter().map(|each| format!("{each:?}")).collect(), Ok(()))
    }

    fn violates(violation: Violation) -> Read {
        (Vec::new(), Err(violation))
    }

    #[test]
    fn each_opcode_comes_out_as_itself() {
        for (first, payload, incoming) in [
            (0x81, &b"text"[..], Incoming::Text("text")),
            (0x82, b"\xFF\0", Incoming::Binary(b"\xFF\0")),
            (0x88, b"", Incoming::Close(None)),
            (0x88, b"\x03\xE8bye", Incoming::Close(Some((1000, "bye")))),
            (0x89, b"ping", Incoming::Ping(b"ping")),
            (0x8A, b"", Incoming::Pong(b"")),
            (0x01, b"", Incoming::Fragment),
        ] {
            assert_eq!(read(&frame(first, payload)), handed_out(&[incoming]), "{incoming:?}");
        }
    }

    #[test]
    fn the_examples_of_the_rfc_are_read_and_written() {
        // §5.7.
        let mut bytes = Vec::new();
        encode(Opcode::Text, b"Hello", &mut bytes);
        assert_eq!(bytes, [0x81, 0x05, 0x48, 0x65, 0x6C, 0x6C, 0x6F]);
        let masked = [0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58];
        assert_eq!(read(&masked), handed_out(&[Incoming::Text("Hello")]));
        let pong = [0x8A, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58];
        assert_eq!(read(&pong), handed_out(&[Incoming::Pong(b"Hello")]));
        bytes.clear();
        encode(Opcode::Binary, &[7; 256], &mut bytes);
        assert_eq!((bytes.len(), &bytes[..4]), (260, &[0x82, 0x7E, 0x01, 0x00][..]));
        bytes.clear();
        encode(Opcode::Binary, &[7; 65536], &mut bytes);
        assert_eq!((bytes.len(), &bytes[..10]), (65546, &[0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0][..]));
    }

    #[test]
    fn a_close_frame_has_a_code_and_a_reason() {
        let mut bytes = Vec::new();
        encode_close(Some((1012, "the server restarts")), &mut bytes);
        assert_eq!(parse_close(&bytes[2..]), Ok(Some((1012, "the server restarts"))));
        assert_eq!(bytes[..6], [0x88, 21, 0x03, 0xF4, b't', b'h']);
        bytes.clear();
        encode_close(None, &mut bytes);
        assert_eq!(bytes, [0x88, 0]);
    }

    #[test]
    fn a_payload_of_any_length_is_unmasked() {
        for length in (0..40).chain([125, 126, 127, 1000, 65535, 65536]) {
            let payload: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let bytes = frame(0x82, &payload);
            let expected = handed_out(&[Incoming::Binary(&payload)]);
            assert_eq!(read(&bytes), expected, "{length}");
            // The key goes on where the piece before stopped.
            for size in [1, 2, 3, 5, 7, 11] {
                assert_eq!(read_pieces(&mut Decoder::new(MAX), bytes.chunks(size)), expected, "{length} by {size}");
            }
        }
    }

    #[test]
    fn fragments_are_one_message_whatever_control_frames_come_between() {
        let bytes = [
            frame(0x01, b"a"),
            frame(0x89, b"ping"),
            frame(0x00, b""),
            frame(0x8A, b"pong"),
            frame(0x80, b"b"),
            frame(0x02, b""),
            frame(0x80, b""),
        ];
        let expected = handed_out(&[
            Incoming::Fragment,
            Incoming::Ping(b"ping"),
            Incoming::Fragment,
            Incoming::Pong(b"pong"),
            Incoming::Text("ab"),
            Incoming::Fragment,
            Incoming::Binary(b""),
        ]);
        assert_eq!(read(&bytes.concat()), expected);
    }

    #[test]
    fn fragments_come_in_order() {
        // Nothing to continue, also after a message that has ended.
        assert_eq!(read(&frame(0x80, b"")), violates(Protocol));
        assert_eq!(read(&frame(0x00, b"")), violates(Protocol));
        assert_eq!(read(&[frame(0x82, b""), frame(0x80, b"")].concat()).1, Err(Protocol));
        assert_eq!(read(&[frame(0x02, b""), frame(0x80, b""), frame(0x80, b"")].concat()).1, Err(Protocol));
        // A new message within another.
        for first in [0x01, 0x02, 0x81, 0x82] {
            assert_eq!(read(&[frame(0x01, b"a"), frame(first, b"b")].concat()).1, Err(Protocol), "{first:#x}");
        }
    }

    #[test]
    fn reserved_bits_and_opcodes_are_refused_by_their_first_byte() {
        for opcode in [0x0, 0x1, 0x2, 0x8, 0x9, 0xA] {
            for reserved in [0x10, 0x20, 0x40, 0x70] {
                assert_eq!(read(&[0x80 | reserved | opcode]), violates(Protocol), "{reserved:#x} {opcode}");
            }
        }
        for opcode in (0x3..=0x7).chain(0xB..=0xF) {
            assert_eq!(read(&[0x80 | opcode]), violates(Protocol), "{opcode}");
            assert_eq!(read(&[opcode]), violates(Protocol), "{opcode}");
        }
    }

    #[test]
    fn a_client_masks_its_frames() {
        for first in [0x81, 0x82, 0x88, 0x89, 0x8A, 0x01] {
            assert_eq!(read(&[first, 0]), violates(Protocol), "{first:#x}");
        }
    }

    #[test]
    fn a_control_frame_is_short_and_in_one() {
        for opcode in [0x8, 0x9, 0xA] {
            assert_eq!(read(&[opcode]), violates(Protocol));
            assert_eq!(read(&[0x80 | opcode, MASKED | 126]), violates(Protocol));
            assert_eq!(read(&[0x80 | opcode, MASKED | 127]), violates(Protocol));
        }
        assert_eq!(read(&frame(0x89, &[1; 125])), handed_out(&[Incoming::Ping(&[1; 125])]));
    }

    #[test]
    fn a_length_has_its_shortest_form() {
        for length in [0_u16, 1, 125] {
            assert_eq!(read(&[&[0x82, 0xFE], &length.to_be_bytes()[..]].concat()), violates(Protocol), "{length}");
        }
        for length in [0_u64, 125, 126, 65535, 1 << 63, u64::MAX] {
            assert_eq!(read(&[&[0x82, 0xFF], &length.to_be_bytes()[..]].concat()), violates(Protocol), "{length}");
        }
    }

    #[test]
    fn only_codes_that_may_be_sent_close_a_connection() {
        for code in 0..=u16::MAX {
            let is_valid = match code {
                // Not used; unassigned, or for a connection that ended without a close frame.
                0..=999 | 1004..=1006 | 1015..=2999 => false,
                1000..=1014 => true,
                // Registered by libraries, or private.
                3000..=4999 => true,
                // §7.4.2 knows none.
                5000.. => false,
            };
            let expected = if is_valid { Ok(Some((code, ""))) } else { Err(Protocol) };
            assert_eq!(parse_close(&code.to_be_bytes()), expected);
        }
    }

    #[test]
    fn the_payload_of_a_close_frame_is_a_code_and_text() {
        assert_eq!(read(&frame(0x88, b"\x03")), violates(Protocol));
        assert_eq!(read(&frame(0x88, b"\x03\xEDno status")), violates(Protocol));
        assert_eq!(read(&frame(0x88, b"\x03\xE8\xCE")), violates(InvalidText));
        assert_eq!(read(&frame(0x88, b"\x03\xE8\xCE\xBA")), handed_out(&[Incoming::Close(Some((1000, "κ")))]));
    }

    #[test]
    fn a_message_is_refused_by_the_length_it_announces() {
        let refused = |max: usize, bytes: &[u8]| read_pieces(&mut Decoder::new(max), [bytes]).1 == Err(TooBig);
        for max in [0, 125, 126, 4096, 65535, 65536] {
            assert!(!refused(max, &frame(0x82, &vec![0; max])), "{max}");
            let header = frame(0x82, &vec![0; max + 1]);
            let before_the_key = header.len() - max - 1 - KEY.len();
            assert!(refused(max, &header[..before_the_key]), "{max}");
            assert!(!refused(max, &header[..before_the_key - 1]), "{max}");
        }
        assert!(refused(usize::MAX >> 2, &[0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]));
        // The fragments of a message together, and only those: not the message before, nor what comes between.
        let parts =
            |last| [frame(0x82, b"1234"), frame(0x02, b"12"), frame(0x89, b"12345"), frame(0x80, last)].concat();
        assert!(!refused(4, &parts(b"34")));
        assert!(refused(4, &parts(b"345")));
    }

    #[test]
    fn memory_is_taken_for_what_has_arrived_only_and_given_back() {
        let mut decoder = Decoder::new(MAX);
        let held =
            |decoder: &Decoder| decoder.incomplete.as_ref().unwrap().message.as_ref().unwrap().payload.capacity();
        let bytes = frame(0x82, &[1; 100_000]);
        let header = bytes.len() - 100_000;
        let mut start = 0;
        for arrived in [0, 10, 10_000, 99_999] {
            let end = header + arrived;
            assert_eq!(read_pieces(&mut decoder, [&bytes[start..end]]), handed_out(&[]));
            assert!((arrived..=2 * arrived).contains(&held(&decoder)), "{} for {arrived}", held(&decoder));
            start = end;
        }
        assert_eq!(read_pieces(&mut decoder, [&bytes[start..]]), handed_out(&[Incoming::Binary(&[1; 100_000])]));
        assert!(decoder.incomplete.is_none());
        // Whatever was incomplete: a header, a control frame, a message.
        let bytes = [frame(0x89, b"ping"), frame(0x01, b"a"), frame(0x80, b"b"), frame(0x81, b"text")].concat();
        for size in 1..=bytes.len() {
            assert_eq!(read_pieces(&mut decoder, bytes.chunks(size)).0.len(), 4);
            assert!(decoder.incomplete.is_none(), "{decoder:?}");
        }
        // The end, however it comes.
        for last in [frame(0x88, b""), frame(0x81, b"")] {
            let mut decoder = Decoder::new(MAX);
            assert_eq!(read_pieces(&mut decoder, [&frame(0x01, b"a")[..]]), handed_out(&[Incoming::Fragment]));
            assert!(decoder.incomplete.is_some());
            assert_ne!(read_pieces(&mut decoder, [&last[..]]), handed_out(&[]));
            assert!(decoder.ended && decoder.incomplete.is_none());
        }
    }

    #[test]
    fn what_is_whole_is_handed_out_from_the_input() {
        let mut bytes = [frame(0x01, b""), frame(0x89, b"ping"), frame(0x80, b""), frame(0x82, b"binary")].concat();
        let range = bytes.as_ptr_range();
        let mut found = 0;
        let outcome = Decoder::new(MAX).feed(&mut bytes, |incoming| {
            if let Incoming::Ping(payload) | Incoming::Binary(payload) = incoming {
                assert!(range.contains(&payload.as_ptr()));
                found += 1;
            }
            ControlFlow::Continue(())
        });
        assert_eq!((found, outcome), (2, Ok(())));
    }

    #[test]
    fn text_is_utf_8_over_all_its_fragments() {
        let text = "κόσμε\u{10FFFF}";
        for cut in 0..=text.len() {
            let (one, other) = text.as_bytes().split_at(cut);
            let expected = handed_out(&[Incoming::Fragment, Incoming::Pong(b"\xFF"), Incoming::Text(text)]);
            let bytes = [frame(0x01, one), frame(0x8A, b"\xFF"), frame(0x80, other)].concat();
            assert_eq!(read(&bytes), expected, "{cut}");
            if !text.is_char_boundary(cut) {
                assert_eq!(read(&frame(0x81, one)), violates(InvalidText), "{cut}");
                assert_eq!(read(&[frame(0x01, one), frame(0x80, b"")].concat()).1, Err(InvalidText), "{cut}");
            }
        }
        assert_eq!(read(&frame(0x82, b"\xFF")), handed_out(&[Incoming::Binary(b"\xFF")]));
    }

    #[test]
    fn invalid_text_is_refused_by_its_first_impossible_byte() {
        // What is impossible, and which byte shows it: out of range, a surrogate, too long a form, no start, no end.
        for (invalid, at) in [
            (&b"\xF4\x90\x80\x80"[..], 1),
            (b"\xED\xA0\x80", 1),
            (b"\xC0\xAF", 0),
            (b"\xE0\x80\xAF", 1),
            (b"\xF0\x8F\xBF\xBF", 1),
            (b"\x80", 0),
            (b"\xFF", 0),
            (b"\xCEa", 1),
            (b"\xE1\xBDa", 2),
        ] {
            let payload = ["κόσμε".as_bytes(), invalid, b" edited"].concat();
            let fatal = "κόσμε".len() + at;
            for first in [0x01, 0x81] {
                let bytes = frame(first, &payload);
                let header = bytes.len() - payload.len();
                let before = &bytes[..header + fatal];
                let mut decoder = Decoder::new(MAX);
                assert_eq!(read_pieces(&mut decoder, [before]), handed_out(&[]), "{invalid:x?}");
                let last = &bytes[header + fatal..][..1];
                assert_eq!(read_pieces(&mut decoder, [last]), violates(InvalidText), "{invalid:x?}");
            }
        }
    }

    #[test]
    fn where_the_input_is_cut_makes_no_difference() {
        let well = [
            frame(0x81, "κόσμε".as_bytes()),
            frame(0x01, b"\xCE"),
            frame(0x89, b"ping"),
            frame(0x00, b""),
            frame(0x80, b"\xBA"),
            frame(0x82, &[7; 130]),
            frame(0x8A, b""),
            frame(0x02, b"0123456789"),
            frame(0x80, b"0123456789"),
            frame(0x88, b"\x03\xE9away"),
        ]
        .concat();
        let with = |last: &[u8]| [&frame(0x01, b"a")[..], &frame(0x89, b""), last].concat();
        for bytes in [
            well,
            with(&frame(0x81, b"")),
            with(&frame(0x80, b"\xED\xA0\x80")),
            with(&frame(0x80, b"\xED")),
            with(&frame(0x88, b"\x03")),
            with(&frame(0x88, b"\x03\xE8\xCE")),
            with(&[0x80, 0x01, b'a']),
            with(&[0x80, 0xFE, 0x00, 0x7D]),
            with(&[0x80, 0xFF, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00]),
        ] {
            let expected = read(&bytes);
            assert_eq!(read_pieces(&mut Decoder::new(MAX), bytes.chunks(1)), expected);
            for one in 0..=bytes.len() {
                for other in one..=bytes.len() {
                    let pieces = [&bytes[..one], &bytes[one..other], &bytes[other..]];
                    assert_eq!(read_pieces(&mut Decoder::new(MAX), pieces), expected, "cut at {one} and {other}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_read_after_the_end() {
        let ping = frame(0x89, b"");
        // A close frame.
        let bytes = [frame(0x88, b""), ping.clone()].concat();
        assert_eq!(
            read_pieces(&mut Decoder::new(MAX), [&bytes[..], &ping, b"?"]),
            handed_out(&[Incoming::Close(None)])
        );
        // A violation, which is told once.
        let mut decoder = Decoder::new(MAX);
        assert_eq!(read_pieces(&mut decoder, [&[&ping[..], b"?"].concat()[..]]).1, Err(Protocol));
        assert_eq!(read_pieces(&mut decoder, [&ping[..], b"?"]), handed_out(&[]));
        // A break.
        let mut decoder = Decoder::new(MAX);
        let mut calls = 0;
        for mut input in [[&ping[..], &ping, b"?"].concat(), ping] {
            let outcome = decoder.feed(&mut input, |_| {
                calls += 1;
                ControlFlow::Break(())
            });
            assert_eq!(outcome, Ok(()));
        }
        assert_eq!(calls, 1);
    }

    #[test]
    fn each_violation_has_its_close_code() {
        assert_eq!([Protocol, InvalidText, TooBig].map(Violation::code), [1002, 1007, 1009]);
    }
}
