//! Datagrams of a socket, many a call, each with who sent it.
//!
//! Python has `recvmsg` for one, and makes a list of its ancillary data besides: that is what a
//! datagram would cost most. The kernel says who the sender is (`SCM_CREDENTIALS`) where the socket
//! has `SO_PASSCRED`; descriptors that a sender puts in are closed.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::io::{Errno, Result};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, RecvMsg, ReturnFlags, recvmsg,
};

/// User and primary group of a sender, as the kernel translates them for this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    pub uid: u32,
    pub gid: u32,
}

/// How much one call takes.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    pub count: usize,
    /// It stops behind the datagram with which there are so many.
    pub bytes: usize,
}

/// Gives `taken` each datagram that is there; one that does not fit into `buffer` is `None`.
///
/// Returns how many there were. Errors: nothing was taken; `AGAIN`: nothing is there.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    most: Most,
    mut taken: impl FnMut(Option<Sender>, Option<&[u8]>),
) -> Result<usize> {
    assert!(most.count > 0 && most.bytes > 0, "a call takes something");
    let (mut count, mut bytes) = (0, 0);
    while count < most.count && bytes < most.bytes {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = match one(socket, buffer, &mut control) {
            Ok(received) => received,
            Err(Errno::INTR) => continue,
            Err(error) if count == 0 => return Err(error),
            Err(_) => break,
        };
        let sender = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(from) => {
                Some(Sender { uid: from.uid.as_raw(), gid: from.gid.as_raw() })
            }
            _ => None,
        });
        let is_whole = !received.flags.contains(ReturnFlags::TRUNC);
        taken(sender, is_whole.then(|| &buffer[..received.bytes]));
        count += 1;
        bytes += received.bytes;
    }
    Ok(count)
}

fn one(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    control: &mut RecvAncillaryBuffer<'_>,
) -> Result<RecvMsg> {
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    recvmsg(socket, &mut [IoSliceMut::new(buffer)], control, flags)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use rustix::net::sockopt::set_socket_passcred;

    use super::*;

    const MANY: Most = Most { count: 100, bytes: 100_000 };

    fn received(socket: &UnixDatagram, most: Most) -> Vec<(Option<Sender>, Option<Vec<u8>>)> {
        let (mut found, mut buffer) = (Vec::new(), [0; 8]);
        let count = receive(socket.as_fd(), &mut buffer, most, |sender, datagram| {
            found.push((sender, datagram.map(<[u8]>::to_vec)));
        });
        assert_eq!(count.unwrap_or(0), found.len());
        found
    }

    #[test]
    fn a_datagram_comes_whole_or_not_at_all() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        for text in [&b"12345678"[..], b"123456789", b"", b"1"] {
            theirs.send(text).unwrap();
        }
        let texts: Vec<_> = received(&ours, MANY).into_iter().map(|(_, text)| text).collect();
        let whole = |text: &[u8]| Some(text.to_vec());
        assert_eq!(texts, [whole(b"12345678"), None, whole(b""), whole(b"1")]);
        assert!(received(&ours, MANY).is_empty());
    }

    #[test]
    fn it_stops_behind_the_one_with_which_there_are_enough() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        for _ in 0..5 {
            theirs.send(b"1234").unwrap();
        }
        assert_eq!(received(&ours, Most { count: 100, bytes: 5 }).len(), 2);
        assert_eq!(received(&ours, Most { count: 1, bytes: 100 }).len(), 1);
        assert_eq!(received(&ours, MANY).len(), 2);
    }

    #[test]
    fn the_kernel_says_who_sent_it_where_it_is_asked() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        theirs.send(b"1").unwrap();
        assert_eq!(received(&ours, MANY)[0].0, None);
        set_socket_passcred(&ours, true).unwrap();
        theirs.send(b"1").unwrap();
        let uid = rustix::process::getuid().as_raw();
        assert_eq!(received(&ours, MANY)[0].0.map(|sender| sender.uid), Some(uid));
    }
}
