//! Bytes over TCP, for clients that stop in the middle.

use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::server::{PATIENCE, Server};

/// A connection over which a test says byte by byte what it wants.
pub struct Raw(pub TcpStream);

impl Raw {
    pub async fn connect(server: &Server) -> Self {
        Self(TcpStream::connect(&server.address).await.expect("the server accepts"))
    }

    /// From an address of the loopback of one's own.
    pub async fn connect_from(server: &Server, address: std::net::Ipv4Addr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((address, 0).into()).expect("an address of the loopback");
        let server = server.address.parse().expect("an address");
        Self(socket.connect(server).await.expect("the server accepts"))
    }

    /// With a receive buffer as small as the system has, so that the other end soon feels that nobody reads.
    pub fn connect_small(address: &str) -> std::io::Result<Self> {
        let address: std::net::SocketAddr = address.parse().expect("an address");
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_recv_buffer_size(1)?;
        socket.connect(&address.into())?;
        socket.set_nonblocking(true)?;
        TcpStream::from_std(socket.into()).map(Self)
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.expect("the other end takes it");
    }

    /// Waits until the server has taken all that was sent, not only its kernel.
    pub async fn until_taken(&self) {
        let (here, there) = (self.0.local_addr().expect("an address"), self.0.peer_addr().expect("an address"));
        let (here, there) = (format!(":{:04X} ", here.port()), format!(":{:04X} ", there.port()));
        // Of a line of /proc/net/tcp: the two ports, then what waits to be acknowledged and what waits to be read.
        let waiting = |table: &str, from: &str, to: &str, side: usize| {
            let line = table.lines().find(|line| {
                let to_at = line.rfind(to);
                line.find(from).is_some_and(|from_at| to_at.is_some_and(|to_at| from_at < to_at))
            });
            let queues = line.expect("the connection is in the table").split_whitespace().nth(4).expect("queues");
            queues.split(':').nth(side).expect("two numbers") != "00000000"
        };
        let taken = async {
            loop {
                let table = std::fs::read_to_string("/proc/net/tcp").expect("the table of connections");
                if !waiting(&table, &here, &there, 0) && !waiting(&table, &there, &here, 1) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, taken).await.expect("the server reads in time");
    }

    /// Reads up to and with `end`.
    pub async fn read_until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            let read = timeout(PATIENCE, self.0.read_u8()).await.expect("in time");
            text.push(read.unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&text))));
        }
        String::from_utf8(text).expect("text")
    }

    /// Reads until the other end has closed in good order.
    pub async fn read_to_end(&mut self) -> String {
        let mut text = Vec::new();
        let read = timeout(PATIENCE, self.0.read_to_end(&mut text)).await.expect("the other end closes in time");
        read.unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&text)));
        String::from_utf8(text).expect("text")
    }
}
