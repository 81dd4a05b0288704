//! An MSRP relay (RFC 4975, RFC 4976).

pub mod auth;
pub mod client;
pub mod config;
pub mod logging;
pub mod msrp;
pub mod relay;
pub mod session;
pub mod transport;
