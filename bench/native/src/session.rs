//! The daemon's half of one session, for a client that is measured: hello, welcome, verdicts, bell.
//!
//! Everything that the client can see is as a worker does it (`ipc/README.md`, "Session"); there is
//! no log behind it, so what was read is accepted at once.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use certeus_ipc::layout::{
    MAGIC, P_MAGIC, P_RING_BYTES, P_VERSION, P_WAKE_HEAD, P_WAKE_SETTLED, VERSION,
};
use certeus_ipc::memory::Mapping;
use certeus_ipc::record::PREFIX_BYTES;
use certeus_ipc::verdict::{Entry, Reason, Verdict};
use certeus_ipc::verdict_ring;
use rustix::io::{IoSlice, pwrite};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Deserialize;
use serde_json::json;

use crate::client::Client;
use crate::payload::sum;
use crate::ring::{Reader, Ring};
use crate::work::{Read, Turn};

const BELL: [u8; 1] = [1];

/// What of a hello matters here.
#[derive(Deserialize)]
struct Hello {
    ring_bytes: u64,
}

/// One welcomed client.
pub struct Session<'a> {
    client: &'a Client,
    reader: Reader,
    verdicts: verdict_ring::Writer<Mapping>,
    settled: u64,
    rung: (u64, u64),
}

impl<'a> Session<'a> {
    /// Welcomes a client.
    ///
    /// Panics on anything but a first hello.
    #[must_use]
    pub fn welcome(client: &'a Client) -> Self {
        let hello: Hello = serde_json::from_slice(&client.receive()).expect("a hello");
        let ring = Ring::new(hello.ring_bytes);
        for (offset, word) in [
            (P_MAGIC, MAGIC),
            (P_VERSION, VERSION),
            (P_RING_BYTES, hello.ring_bytes),
            (P_WAKE_SETTLED, u64::MAX),
            (P_WAKE_HEAD, u64::MAX),
        ] {
            pwrite(&ring.p, &word.to_le_bytes(), offset as u64).expect("cannot write to P");
        }
        let reader = ring.reader(false);
        let memory = reader.consumer.memory();
        let verdicts = verdict_ring::Writer::new(memory.p.clone(), memory.c.clone());
        send_welcome(client, &ring);
        Self { client, reader, verdicts, settled: 0, rung: (u64::MAX, u64::MAX) }
    }

    /// Accepts the next `count` tickets; a run that finds the verdict ring full is left out.
    fn settle(&mut self, count: u64) {
        if self.verdicts.room() > 0 {
            self.verdicts.push(Entry {
                ticket: self.settled + 1,
                seq: self.settled + 1,
                group: 1,
                count: u32::try_from(count).expect("one turn"),
                verdict: Verdict::Accepted,
                reason: Reason::None,
            });
        }
        self.settled += count;
        self.verdicts.publish(self.settled);
    }

    /// Whether the client waits for a value that is reached now; once for each value.
    fn is_awaited(&mut self) -> bool {
        let head = self.reader.consumer.head_wanted();
        let settled = self.verdicts.settled_wanted();
        let awaited = (settled <= self.settled && settled != self.rung.0)
            || (head <= self.reader.consumer.released() && head != self.rung.1);
        if awaited {
            self.rung = (settled, head);
        }
        awaited
    }
}

impl Read for Session<'_> {
    /// Sums the data of each event, without its attributes, and settles what it read.
    #[inline]
    fn read(&mut self) -> Turn {
        let turn = self.reader.take(|payload| {
            let (attributes_bytes, _) = payload.split_first_chunk().expect("a prefix");
            sum(&payload[PREFIX_BYTES + u32::from_le_bytes(*attributes_bytes) as usize..])
        });
        if turn.events > 0 {
            self.settle(turn.events);
            self.reader.release();
            if self.is_awaited() {
                self.client.send(&BELL);
            }
        }
        turn
    }
}

fn send_welcome(client: &Client, ring: &Ring) {
    let text = json!({
        "welcome": true, "session": 1, "log_id": "00000000-0000-4000-8000-000000000000",
        "birth_seq": 0, "high": 0, "producer_no": 1, "event_bytes_max": 1 << 20, "depth_max": 64,
    })
    .to_string();
    let descriptors = [ring.p.as_fd(), ring.c.as_fd(), ring.bell.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let packet = [IoSlice::new(text.as_bytes())];
    sendmsg(&client.socket, &packet, &mut ancillary, SendFlags::NOSIGNAL).expect("cannot welcome");
}
