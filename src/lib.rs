//! An MSRP relay (RFC 4975, RFC 4976): people behind NAT log in to it, are given a URI on it, and
//! reach each other through it. What they send passes octet for octet, of any size.
//!
//! # The rooms
//!
//! | level | room | what belongs there |
//! |---|---|---|
//! | 1 | [`msrp`] | the wire: URIs, headers, decoder, encoder, output queue. Pure |
//! | 1 | [`tls`] | certificates: reading, checking, what TLS is made with |
//! | 1 | [`clock`] | the one place that asks for the time |
//! | 1 | [`config`] | `config.ini` as text, sections and typed values; the form of a table of options. Knows no option |
//! | 2 | [`session`] | what happens to a frame between two connections. Pure: no io, no clock |
//! | 2 | [`auth`] | who may relay: challenges, digests, backends |
//! | 2 | [`transport`] | open connections: TCP, TLS, dialling, closing |
//! | 2 | [`logging`] | where log lines go |
//! | 3 | [`relay`] | the living process: accepts, owns the tasks, joins the rooms above |
//! | 4 | [`control`] | watching and steering the process: the socket of `msrprelayctl` |
//! | 4 | [`cli`] | the command lines of the programs |
//! | 4 | [`client`] | the other end of the wire, for `msrpclient`; the relay does not know it |
//! | 5 | [`daemon`] | the process around the relay: start-up, privileges, signals, service manager |
//!
//! A room imports from levels below its own only; `tests/layers/` checks that.
//!
//! # The life of a frame
//!
//! A connection is accepted into the *lobby* ([`relay`]): TLS, then an AUTH that gets it a session
//! of its own, or a SEND that joins one. From then on one task owns both connections of the session
//! and a [`session::Session`] between them: what is read goes through [`session::Session::receive`],
//! body pieces in the allocation they were read into; what is to be written is in
//! [`session::Session::outgoing`]. Nothing on that way is shared, locked or sent through a channel.
//!
//! # The life of a configuration
//!
//! `config.ini` is read into a [`relay::Config`], from which a [`relay::Generation`] is built. Each
//! room states its options in a table; a backend is a row in [`auth::KINDS`]. For a
//! generation certificates are read, backends opened, the host name checked. A connection takes the generation
//! in force when it is accepted and keeps it; the users are those of the newest. A reload builds the next one whole, carries over what did not
//! change and swaps it; a failed one changes nothing.

pub mod auth;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod logging;
pub mod msrp;
pub mod relay;
pub mod session;
pub mod tls;
pub mod transport;
