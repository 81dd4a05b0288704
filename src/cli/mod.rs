//! The command lines of the programs, as definitions: what parses them, `--help`, the manual pages
//! and the shell completions all come from here.

pub mod msrpclient;
pub mod msrprelay;
pub mod msrprelayctl;
