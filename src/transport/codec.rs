//! The frames of a WebSocket (RFC 6455 §5) as a server reads and writes them, for owners of many sockets: a
//! [`Decoder`] takes bytes as they arrive and keeps nothing between messages.

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

/// Appends one whole frame, unmasked as a server's has to be, with FIN set. A control frame carries at most 125 bytes.
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

/// Appends the payload of a close frame (§5.5.1), which [`encode`] makes a frame of: a code that may be sent
/// (§7.4), and a reason of at most 123 bytes.
pub fn encode_close(code: u16, reason: &str, into: &mut Vec<u8>) {
    debug_assert!(is_close_code(code), "{code} may not be sent (§7.4)");
    debug_assert!(reason.len() <= MAX_CONTROL - 2, "a control frame is short (§5.5)");
    into.extend_from_slice(&code.to_be_bytes());
    into.extend_from_slice(reason.as_bytes());
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
    /// A data frame with more of its message to follow, so that a flood of them, which may all be empty, can be counted.
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
