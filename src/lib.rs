//! Cartouche: a dropped artifact confines a real program.
pub mod admission;
pub mod artifact;
pub mod atomic_write;
pub mod audit;
pub mod bpf;
pub mod command;
pub mod config;
pub mod control;
pub mod enforcer;
pub mod error;
pub mod event;
pub mod executable;
pub mod plan;
pub mod posture;
pub mod site;
pub mod trusted_file;
