//! Cartouche: a dropped artifact confines a real program.
pub mod event;
