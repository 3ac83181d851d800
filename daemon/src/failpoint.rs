//! Named places at which a test lets a process die: on both sides of every durable step.
//!
//! `CERTEUS_FAILPOINT=name=count@flag` kills the process with SIGKILL when it passes `name` for the
//! `count`-th time, once: the file `flag` is made first, and where it exists nothing dies. Without
//! the variable a failpoint is one load and a branch; none stands in a loop over events.

use std::fs::OpenOptions;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Armed {
    name: String,
    count: u64,
    flag: String,
    passed: AtomicU64,
}

fn armed() -> Option<&'static Armed> {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    ARMED.get_or_init(|| parse(&std::env::var("CERTEUS_FAILPOINT").ok()?)).as_ref()
}

fn parse(text: &str) -> Option<Armed> {
    let (name, rest) = text.split_once('=')?;
    let (count, flag) = rest.split_once('@')?;
    let count = count.parse().ok()?;
    Some(Armed { name: name.into(), count, flag: flag.into(), passed: AtomicU64::new(0) })
}

/// Dies here if a test said so.
pub fn failpoint(name: &str) {
    #[cfg(test)]
    watch::passed(name);
    let Some(armed) = armed() else { return };
    if armed.name != name || armed.passed.fetch_add(1, Ordering::Relaxed) + 1 != armed.count {
        return;
    }
    if OpenOptions::new().write(true).create_new(true).open(&armed.flag).is_ok() {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
            .expect("a process may kill itself");
    }
}

/// Tests look at what is visible at each place, on the thread that passes it.
#[cfg(test)]
pub mod watch {
    use std::cell::RefCell;

    type Watcher = Box<dyn FnMut(&str)>;

    thread_local! {
        static WATCHER: RefCell<Option<Watcher>> = const { RefCell::new(None) };
    }

    /// From now on `watcher` is called at every failpoint that this thread passes.
    pub fn with(watcher: impl FnMut(&str) + 'static) {
        WATCHER.with(|slot| *slot.borrow_mut() = Some(Box::new(watcher)));
    }

    pub fn clear() {
        WATCHER.with(|slot| *slot.borrow_mut() = None);
    }

    pub fn passed(name: &str) {
        WATCHER.with(|slot| {
            if let Some(watcher) = slot.borrow_mut().as_mut() {
                watcher(name);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_is_named_counted_and_flagged() {
        let armed = parse("log-after-sync=3@/tmp/flag").expect("well-formed");
        assert_eq!((armed.name.as_str(), armed.count), ("log-after-sync", 3));
        assert_eq!(armed.flag, "/tmp/flag");
        assert!(parse("log-after-sync").is_none());
        assert!(parse("log-after-sync=x@/tmp/flag").is_none());
    }
}
