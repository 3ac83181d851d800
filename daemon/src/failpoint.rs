//! Named places at which a test lets a process die: on both sides of every durable step.
//!
//! `CERTEUS_FAILPOINT=name=count@flag` kills the process with SIGKILL when it passes `name` for the
//! `count`-th time: the file `flag` is made first, and as long as it exists nothing dies, and no
//! passing counts. Several are separated by commas. Without the variable a failpoint is one load
//! and a branch; none stands in a loop over events.
//!
//! [`names`] is all that there are: a process in which one is armed aborts at any that is not
//! listed, so that a test which visits the list visits everything.

use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::named;

/// What is told to others, and the steps around it, in the order in which a cycle passes them.
pub const PUBLICATIONS: [&str; 25] = [
    // A start: the end of the log that was found is shown.
    "log-before-recovered",
    "log-after-recovered",
    // The commit, whose calls have names of their own (`disk/named.rs`).
    "log-before-write",
    "log-after-write",
    "log-after-sync",
    "log-before-page",
    "log-after-page",
    "log-before-verdicts",
    "log-before-welcome",
    "log-after-welcome",
    "log-after-verdicts",
    "log-before-head",
    "log-after-head",
    "log-before-trim",
    "log-after-trim",
    // The worker: events to the log writer, its answers, then what clients see.
    "worker-before-forward",
    "worker-after-forward",
    "worker-before-returns",
    "worker-after-returns",
    "worker-before-verdicts",
    "worker-after-verdicts",
    "worker-before-settled",
    "worker-after-settled",
    "worker-before-head",
    "worker-after-head",
];

/// Every failpoint of the Rust code.
#[must_use]
pub fn names() -> Vec<String> {
    PUBLICATIONS.iter().map(|name| (*name).to_owned()).chain(named::names()).collect()
}

struct Armed {
    count: u64,
    flag: String,
    passed: AtomicU64,
}

struct All {
    armed: HashMap<String, Armed>,
    listed: HashSet<String>,
}

fn all() -> Option<&'static All> {
    static ALL: OnceLock<Option<All>> = OnceLock::new();
    ALL.get_or_init(|| {
        let armed = parse(&std::env::var("CERTEUS_FAILPOINT").ok()?);
        let listed = names().into_iter().collect();
        (!armed.is_empty()).then_some(All { armed, listed })
    })
    .as_ref()
}

fn parse(text: &str) -> HashMap<String, Armed> {
    let one = |part: &str| {
        let (name, rest) = part.split_once('=')?;
        let (count, flag) = rest.split_once('@')?;
        let count = count.parse().ok()?;
        Some((name.into(), Armed { count, flag: flag.into(), passed: AtomicU64::new(0) }))
    };
    text.split(',').filter_map(one).collect()
}

/// Whether a name is worth making: somebody may die at it, or look.
#[inline]
#[must_use]
pub fn is_armed() -> bool {
    cfg!(test) || all().is_some()
}

/// Dies here if a test said so.
#[inline]
pub fn failpoint(name: &str) {
    #[cfg(test)]
    watch::passed(name);
    if let Some(all) = all() {
        pass(all, name);
    }
}

#[cold]
fn pass(all: &All, name: &str) {
    if !all.listed.contains(name) {
        eprintln!("failpoint {name} is not listed: add it to failpoint.rs or disk/named.rs");
        std::process::abort();
    }
    let Some(armed) = all.armed.get(name).filter(|armed| !Path::new(&armed.flag).exists()) else {
        return;
    };
    if armed.passed.fetch_add(1, Ordering::Relaxed) + 1 != armed.count {
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
        let armed = parse("log-after-sync=3@/tmp/flag,log-after-page=1@/tmp/other");
        let first = &armed["log-after-sync"];
        assert_eq!((first.count, first.flag.as_str()), (3, "/tmp/flag"));
        assert_eq!(armed["log-after-page"].flag, "/tmp/other");
        assert!(parse("log-after-sync").is_empty());
        assert!(parse("log-after-sync=x@/tmp/flag").is_empty());
    }

    #[test]
    fn no_name_comes_twice() {
        let all = names();
        assert!(all.len() > 45);
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }

    #[test]
    fn every_publication_stands_in_the_code_once() {
        let code = [
            include_str!("log/mod.rs"),
            include_str!("log/open.rs"),
            include_str!("log/peer.rs"),
            include_str!("worker/pair.rs"),
            include_str!("worker/session.rs"),
        ]
        .concat();
        for name in PUBLICATIONS {
            let call = format!("failpoint(\"{name}\")");
            assert_eq!(code.matches(&call).count(), 1, "{call}");
        }
        assert_eq!(code.matches("failpoint(\"").count(), PUBLICATIONS.len());
    }
}
