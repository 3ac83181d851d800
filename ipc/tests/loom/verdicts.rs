//! The verdict ring.

use certeus_ipc::verdict_ring::{Reader, Writer};
use loom::thread;

use crate::memory::{Page, Ring, Weak, model, rejected};

fn ends(weak: Weak) -> (Writer<Page>, Reader<Page>) {
    let Ring { p, c, .. } = Ring::new(weak);
    (Writer::new(p.clone(), c.clone()), Reader::new(p, c))
}

/// Who sees `settled >= t` can read the verdict of t.
pub fn verdict_before_settled(weak: Weak) {
    model(move || {
        let (mut writer, mut reader) = ends(weak);
        let worker = thread::spawn(move || {
            writer.push(rejected(1));
            writer.publish(1);
        });
        let settled = reader.poll().unwrap();
        let entry = reader.next().unwrap();
        assert!(settled == 0 || entry == Some(rejected(1)), "settled without its verdict");
        worker.join().unwrap();
    });
}

/// More verdicts than the ring holds: an entry is written again only after it was read.
pub fn verdicts_wrap(weak: Weak) {
    model(move || {
        let (mut writer, mut reader) = ends(weak);
        writer.push(rejected(1));
        writer.push(rejected(2));
        writer.publish(2);
        let worker = thread::spawn(move || {
            for _ in 0..2 {
                if writer.room() > 0 {
                    writer.push(rejected(3));
                    writer.publish(3);
                    break;
                }
                thread::yield_now();
            }
        });
        reader.poll().unwrap();
        assert_eq!(reader.next(), Ok(Some(rejected(1))));
        let _ = reader.acknowledge(1);
        assert_eq!(reader.next(), Ok(Some(rejected(2))));
        worker.join().unwrap();
    });
}

#[test]
fn a_verdict_is_there_before_settled() {
    verdict_before_settled(Weak::Nothing);
}

#[test]
fn a_verdict_is_read_before_its_entry_is_written_again() {
    verdicts_wrap(Weak::Nothing);
}
