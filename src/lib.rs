//! Cartouche: a dropped artifact confines a real program.
pub mod admission;
pub mod artifact;
pub mod atomic_write;
pub mod audit;
pub mod command;
pub mod config;
pub mod control;
pub mod error;
pub mod event;
pub mod executable;
pub mod posture;
pub mod site;
pub mod trusted_file;
