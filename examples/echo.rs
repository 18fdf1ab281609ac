//! A WebSocket echo server on the server's own codec, for Autobahn's cases (`tests/autobahn/run`) to judge the codec
//! by. One thread a client: what reads thousands of sockets is not judged here.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    ops::ControlFlow,
    thread,
    time::Duration,
};

use clap::Parser;
use video_notifier::codec::{Decoder, Incoming, Opcode, encode, encode_close};

/// Autobahn's longest message, in bytes.
const MAX_MESSAGE: usize = 16 << 20;

/// How long a client may take to close its side after the last frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Parser)]
struct Arguments {
    /// The address to listen on; with port 0 a free one, which is printed.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
}

fn main() -> io::Result<()> {
    let listener = TcpListener::bind(Arguments::parse().listen)?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, peer) = listener.accept()?;
        thread::spawn(move || {
            if let Err(error) = serve(stream) {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

fn serve(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // A client sends no frame before it has the answer, so none is lost with the handshake's buffer.
    let mut stream = tungstenite::accept(stream).map_err(io::Error::other)?.into_inner();
    let mut decoder = Decoder::new(MAX_MESSAGE);
    let (mut input, mut output) = (vec![0; 64 * 1024], Vec::new());
    loop {
        let length = stream.read(&mut input)?;
        if length == 0 {
            return Ok(());
        }
        let mut is_closing = false;
        let outcome = decoder.feed(&mut input[..length], |incoming| {
            match incoming {
                Incoming::Text(text) => encode(Opcode::Text, text.as_bytes(), &mut output),
                Incoming::Binary(payload) => encode(Opcode::Binary, payload, &mut output),
                Incoming::Ping(payload) => encode(Opcode::Pong, payload, &mut output),
                Incoming::Pong(_) | Incoming::Fragment => {}
                Incoming::Close(close) => {
                    is_closing = true;
                    encode_close(close, &mut output);
                }
            }
            ControlFlow::Continue(())
        });
        if let Err(violation) = outcome {
            is_closing = true;
            encode_close(Some((violation.code(), &violation.to_string())), &mut output);
        }
        stream.write_all(&output)?;
        output.clear();
        if is_closing {
            return close(stream);
        }
    }
}

/// Reads what is still on its way: to close a socket with unread bytes would destroy the last frame on its own.
fn close(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(CLOSE_TIMEOUT))?;
    io::copy(&mut stream, &mut io::sink()).map(drop)
}
