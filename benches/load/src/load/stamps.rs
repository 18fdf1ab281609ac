//! When something arrived at a socket, by the kernel: what its reader does with the time until it reads is not counted.

use std::{
    io::IoSliceMut,
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant, SystemTime},
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns};
use rustix::io::Errno;

/// From now on the kernel notes when each segment arrives at this socket.
pub fn ask_for(socket: &OwnedFd) -> rustix::io::Result<()> {
    setsockopt(socket, ReceiveTimestampns, &true).map_err(errno)
}

/// Reads, and answers how much and when the last of it arrived.
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> rustix::io::Result<(usize, Instant)> {
    let mut space = nix::cmsg_space!(nix::sys::time::TimeSpec);
    let mut slices = [IoSliceMut::new(buffer)];
    let read = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty()).map_err(errno)?;
    let stamp = read.cmsgs().map_err(errno)?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(time) => Some(SystemTime::UNIX_EPOCH + Duration::from(time)),
        _ => None,
    });
    let ago = stamp.and_then(|stamp| stamp.elapsed().ok()).unwrap_or_default();
    Ok((read.bytes, Instant::now() - ago))
}

fn errno(error: nix::Error) -> Errno {
    Errno::from_raw_os_error(error as i32)
}
