//! What each fuzz target does with its input, and what must hold whatever the input is.
//!
//! One module a target; `fuzz_targets/` only names them to libFuzzer. A broken rule panics. The
//! seeds in `corpus/` are made by `examples/seeds.rs`.

pub mod door;
pub mod event;
pub mod frames;
pub mod input;
pub mod otlp;
pub mod ring;
pub mod script;
pub mod segments;
