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
//! | 1 | [`fair`] | who is counted as one, and a line that serves each in turn |
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
//! A room imports from levels below its own only, and no file needs a file that needs it;
//! `tests/layers/` checks that.
//!
//! # The words
//!
//! | word | meaning |
//! |---|---|
//! | session | what AUTH gives a client: a URI on this relay and, once it is *bound*, a way to one peer ([`session::Session`]) |
//! | leg | one of the two connections of a session, with what was read from it and what waits for it |
//! | near leg, far leg | the near leg is the client that owns the session; the far leg is the peer that joined it or was dialled |
//! | holding | what a leg has of a session: URI, way back to the client, time of expiry, what its client may do ([`session::Holding`]) |
//! | party | one connection with all that moves along when another task takes it over |
//! | lobby | the stage of a connection that has no session yet: TLS, then AUTH or a first SEND, within 30 s |
//! | bridge | the stage of a session: the one task that owns both connections and the [`session::Session`] between them |
//! | next hop | the URI behind the relay's own in To-Path: where a request goes next |
//! | generation | one reading of `config.ini`, built whole: options, certificates, backends ([`relay::Generation`]) |
//! | transaction | a request that left on a leg and waits for its response |
//! | message, chunk, piece | a message is sent in one chunk or more, each a SEND of its own; where the relay cuts a chunk, it sends the pieces as chunks |
//!
//! # The life of a frame
//!
//! A connection is accepted into the *lobby* ([`relay`]): TLS, then an AUTH that gets it a session
//! of its own, or a SEND that joins one. From then on one task, the *bridge*, owns both connections
//! of the session and the [`session::Session`] between them: what is read goes through
//! [`session::Session::receive`], bodies in the allocation they were read into; what is to be
//! written is in [`session::Session::outgoing`]. Nothing on that way is shared, locked or sent
//! through a channel.
//!
//! The session decides, and the bridge acts: it moves octets between [`transport::Stream`] and
//! session, and tells the session what happened: [`session::Session::sent`] when octets left,
//! [`session::Session::expire`] when a deadline passed, [`session::Session::lost`] when a connection
//! is gone.
//!
//! # Where each fact is decided
//!
//! | fact | decided in |
//! |---|---|
//! | the status code of a refused request | [`session::Reject::status`] in `session/report.rs`; of a refused AUTH, [`auth::AuthError::answer`] |
//! | the status in a REPORT of the relay | 408 or 403, where the failure is noticed: in `relay/bridge.rs`, or in [`session::Session::expire`] |
//! | which request is refused | `session/requests.rs` in a session, `relay/registry.rs` for one that would join, `relay/login.rs` for AUTH |
//! | how much memory and time a session may take | `session/limits.rs`: each value with its reason |
//! | when a transaction or a session times out | `session/deadlines.rs`; [`session::Session::expire`] does what is due |
//! | what becomes of messages whose connection is lost | [`session::Session::lost`]: REPORTs to their senders, `#` on what is cut |
//! | whether a leg is read (back-pressure) | [`session::Session::wants_read`] |
//! | what a next hop's host stands for, and how many look-ups there may be | `transport/resolve.rs` |
//! | where the relay may dial | the rules in `transport/peers.rs`, what is never dialled in `transport/permission.rs`, how many next hops in `transport/pace.rs` |
//! | what a failed dial means for the client | `relay/next_hop.rs` |
//! | how many connections and sessions there may be, and are | `relay/quota.rs`, one table; what is counted carries a ticket |
//! | who may join whom | `relay/registry.rs`: each change is one critical section |
//! | whether a backend answers | the look-ups, in `auth/database/breaker.rs`; who else asks it, and what is said of it, in `relay/configuration/health.rs` |
//! | that a connection is closed | the task that owns it, nobody else: in the lobby, or in `relay/ending.rs` once its session is over; how, in `transport/closing.rs` |
//! | why a session ended, and the line that says so | `relay/end.rs` |
//! | which options there are | a table in the room that acts on them: [`relay::options`] for `[Relay]`, `logging`, each backend in [`auth`] |
//! | which options reach a session | [`session::Holding`]: what its client may do, and `idle_timeout`. All other sizes and times of a session are constants in `session/limits.rs`, not options |
//!
//! # The life of a configuration
//!
//! `config.ini` is read into a [`relay::Config`], from which a [`relay::Generation`] is built. Each
//! room states its options in a table; a backend is a row in [`auth::KINDS`]. For a generation
//! certificates are read, backends opened, the host name checked. A connection is accepted under the
//! generation in force and keeps its rules; users, and what the relay dials with, are those of the
//! newest. A reload builds the next one whole, carries over what did not change and swaps it; a
//! failed one changes nothing.

pub mod auth;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod fair;
pub mod logging;
pub mod msrp;
pub mod relay;
pub mod session;
pub mod tls;
pub mod transport;
