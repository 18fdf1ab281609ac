//! What a service manager such as systemd and the server tell each other: the sockets that it holds open over a restart
//! (`LISTEN_FDS`), and how far the server is (`NOTIFY_SOCKET`). Without such a manager nothing happens here.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use listenfd::ListenFd;
use socket2::Socket;

/// Takes the listening sockets that were handed over. Must be called before the first thread starts, since it takes
/// the variables away.
///
/// # Errors
/// When a descriptor is no listening socket of TCP or Unix.
pub fn sockets() -> io::Result<Vec<Socket>> {
    let mut handed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..handed.len() {
        let socket = match handed.take_unix_listener(index) {
            Ok(unix) => unix.map(Socket::from),
            Err(_) => handed.take_tcp_listener(index)?.map(Socket::from),
        };
        sockets.extend(socket);
    }
    Ok(sockets)
}

/// The server serves: who waits for it can go on.
pub fn ready() {
    tell("READY=1");
}

/// The server drains.
pub fn stopping() {
    tell("STOPPING=1");
}

/// Says that the process is alive, twice as often as asked for, until it ends; nothing where the manager does not ask.
pub async fn feed_watchdog() {
    let period = env::var("WATCHDOG_USEC").ok().and_then(|period| period.parse().ok());
    let Some(period) = period.map(Duration::from_micros) else { return };
    loop {
        tell("WATCHDOG=1");
        tokio::time::sleep(period / 2).await;
    }
}

fn tell(state: &str) {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&name, state) {
        tracing::warn!(%error, state, "the service manager can't be told");
    }
}

fn send(name: &OsStr, state: &str) -> io::Result<()> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }?;
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}
