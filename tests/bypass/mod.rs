//! Tricks to get past an envelope: the list of them, and the stage on which each is played twice, by a
//! program outside, which must succeed, and by a subject, which must not.

mod manifest;
mod play;
mod stage;

pub use manifest::{Expected, Manifest, Trick};
pub use play::{Cast, Ended};
