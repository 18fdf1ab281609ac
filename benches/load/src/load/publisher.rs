//! Posts to `/notify`, each over a connection that no other post waits on.

use std::{
    io::{Read, Write},
    net::{SocketAddrV4, TcpStream},
    os::fd::OwnedFd,
};

use rustix::event::epoll;
use serde::Deserialize;

use crate::wire::{head_end, offset};

pub struct Publisher {
    address: SocketAddrV4,
    token: String,
    lanes: Vec<Lane>,
    /// The id of the last receipt, by offset.
    position: String,
}

/// A connection that is kept alive.
struct Lane {
    stream: TcpStream,
    /// Whether a post is under way.
    busy: bool,
    /// Its answer, as far as it has arrived.
    answer: Vec<u8>,
}

#[derive(Deserialize)]
struct Receipt {
    id: String,
}

impl Publisher {
    pub fn new(address: SocketAddrV4, token: &str) -> Self {
        Self { address, token: token.to_owned(), lanes: Vec::new(), position: String::new() }
    }

    /// Opens as many lanes as posts are to run at once. Old ones are not used again: the server may be about to close
    /// them for being idle.
    pub fn open_lanes(&mut self, epoll: &OwnedFd, first_token: u64, count: usize) {
        self.lanes.clear();
        for token in first_token..first_token + count as u64 {
            let stream = TcpStream::connect(self.address).expect("the server takes a post's connection");
            stream.set_nodelay(true).expect("a socket of TCP");
            stream.set_nonblocking(true).expect("a socket");
            epoll::add(epoll, &stream, epoll::EventData::new_u64(token), epoll::EventFlags::IN).expect("epoll");
            self.lanes.push(Lane { stream, busy: false, answer: Vec::new() });
        }
    }

    /// Sends a post over a lane that is free.
    pub fn post(&mut self, body: &[u8]) {
        let lane = self.lanes.iter_mut().find(|lane| !lane.busy).expect("a lane for each post at once");
        let head = format!(
            "POST /notify HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n",
            self.token,
            body.len()
        );
        lane.busy = true;
        lane.stream.write_all(&[head.as_bytes(), body].concat()).expect("a post fits the socket's buffer");
    }

    /// Whether a post waits for its receipt.
    pub fn waits(&self) -> bool {
        self.lanes.iter().any(|lane| lane.busy)
    }

    /// The id of the last receipt.
    pub fn position(&self) -> &str {
        &self.position
    }

    /// Reads what arrived for a lane.
    ///
    /// # Panics
    /// When the server does not take a post: nothing that is measured then means anything.
    pub fn ready(&mut self, number: usize) {
        let Some(lane) = self.lanes.get_mut(number) else { return };
        let mut buffer = [0; 4096];
        let length = match lane.stream.read(&mut buffer) {
            Ok(length) if length > 0 => length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            _ if lane.busy => panic!("the server closed a post's connection"),
            // Closed for being idle.
            _ => return drop(lane.stream.shutdown(std::net::Shutdown::Both)),
        };
        lane.answer.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&lane.answer);
        let Some(end) = head_end(text.as_bytes()) else { return };
        let length = text[..end].lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        if text.len() < end + length.expect("the answer has a length") {
            return;
        }
        assert!(text.starts_with("HTTP/1.1 200"), "a post was answered with {text}");
        let receipt: Receipt = serde_json::from_str(&text[end..]).expect("a receipt");
        if offset(receipt.id.as_bytes()) > offset(self.position.as_bytes()) {
            self.position = receipt.id;
        }
        lane.answer.clear();
        lane.busy = false;
    }
}
