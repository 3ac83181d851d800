//! Each order is needed: taken away, exactly these models fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::memory::Weak;
use crate::{ring, verdicts, wake};

type Model = (&'static str, fn(Weak));

const MODELS: [Model; 13] = [
    ("commit_and_consume", ring::commit_and_consume),
    ("batch", ring::batch),
    ("reuse", ring::reuse),
    ("wrap_with_pad", ring::wrap_with_pad),
    ("wrap_waits_for_head", ring::wrap_waits_for_head),
    ("verdict_before_settled", verdicts::verdict_before_settled),
    ("verdicts_wrap", verdicts::verdicts_wrap),
    ("wake_up", wake::wake_up),
    ("room_bell", wake::room_bell),
    ("settled_bell", wake::settled_bell),
    ("room_for_verdicts", wake::room_for_verdicts),
    ("pair", wake::pair),
    ("answers", wake::answers),
];

/// The models that notice when an order is taken away.
fn caught_by(weak: Weak) -> Vec<&'static str> {
    MODELS
        .into_iter()
        .filter(|(_, model)| catch_unwind(AssertUnwindSafe(|| model(weak))).is_err())
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn every_ordering_is_needed_by_some_model() {
    for (weak, caught) in [
        (
            Weak::TailRelease,
            &["commit_and_consume", "batch", "wrap_with_pad", "wake_up", "pair", "answers"][..],
        ),
        (Weak::HeadRelease, &["reuse", "wrap_waits_for_head", "room_bell", "answers"]),
        (Weak::WrittenRelease, &["verdict_before_settled"]),
        (Weak::SettledRelease, &["verdict_before_settled"]),
        (Weak::ReadRelease, &["verdicts_wrap"]),
        (
            Weak::Acquire,
            &[
                "commit_and_consume",
                "batch",
                "reuse",
                "wrap_with_pad",
                "wrap_waits_for_head",
                "verdict_before_settled",
                "verdicts_wrap",
                "wake_up",
                "room_bell",
                "pair",
                "answers",
            ],
        ),
        (
            Weak::SeqCst,
            &["wake_up", "room_bell", "settled_bell", "room_for_verdicts", "pair", "answers"],
        ),
    ] {
        assert_eq!(caught_by(weak), caught, "without {weak:?}");
    }
}
