//! A program in another language that writes: it connects to a socket, and is gone when that ends.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

const MESSAGE_BYTES_MAX: usize = 4096;

/// The first who connects to the listening socket that is this program's standard input.
pub struct Client {
    pub socket: OwnedFd,
    pub pid: libc::pid_t,
}

impl Client {
    /// Waits for it.
    #[must_use]
    pub fn accept() -> Self {
        let stdin = std::io::stdin();
        let socket = accept_with(stdin.as_fd(), SocketFlags::CLOEXEC).expect("cannot accept");
        let pid = socket_peercred(&socket).expect("a client's pid").pid.as_raw_nonzero().get();
        Self { socket, pid }
    }

    /// The next message.
    #[must_use]
    pub fn receive(&self) -> Vec<u8> {
        let mut packet = vec![0; MESSAGE_BYTES_MAX];
        let (bytes, _) =
            recv(&self.socket, &mut packet[..], RecvFlags::empty()).expect("a message");
        packet.truncate(bytes);
        packet
    }

    /// Sends without waiting; who is gone is seen by [`Client::is_over`].
    pub fn send(&self, packet: &[u8]) {
        let _ = send(&self.socket, packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }

    /// Whether it has said goodbye, or is gone.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let mut packet = [0; MESSAGE_BYTES_MAX];
        !matches!(recv(&self.socket, &mut packet, RecvFlags::DONTWAIT), Err(Errno::AGAIN))
    }
}
