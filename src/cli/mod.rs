//! The command lines of the programs. Parsing, `--help`, the manual pages and the shell completions
//! are all made from these definitions.

pub mod msrpclient;
pub mod msrprelay;
pub mod msrprelayctl;
