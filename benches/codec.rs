//! The codec and the relay logic without sockets: octets and messages per second of one core.

use std::{
    hint::black_box,
    io::IoSlice,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use msrprelay::{
    msrp::{ChunkQueue, Decoder, Path, Uri},
    session::{Expiry, Holding, Leg, Limits, Received, Session},
};

const ALICE: &str = "msrps://alice.invalid:2855/aaaaaaaaaaaaaaaa;tcp";
const BOB: &str = "msrps://bob.example:2855/bbbbbbbbbbbbbbbb;tcp";
const RELAY: &str = "msrps://relay.example:2855/rrrrrrrrrrrrrrrrrrrrrr;tcp";
/// Octets in one read of a socket.
const READ: usize = 64 * 1024;

/// `count` SENDs of `octets` each, as a client writes them.
fn sends(octets: usize, count: usize) -> Vec<u8> {
    let end = if octets > 2048 { "*".to_owned() } else { octets.to_string() };
    let mut wire = Vec::new();
    for n in 0..count {
        wire.extend_from_slice(
            format!(
                "MSRP {n:08x} SEND\r\nTo-Path: {RELAY} {BOB}\r\nFrom-Path: {ALICE}\r\n\
                 Message-ID: {n:08x}\r\nByte-Range: 1-{end}/{octets}\r\nFailure-Report: no\r\n\
                 Content-Type: application/octet-stream\r\n\r\n"
            )
            .as_bytes(),
        );
        wire.extend((0..octets).map(|n| u8::try_from(n % 251).unwrap_or_default()));
        wire.extend_from_slice(format!("\r\n-------{n:08x}$\r\n").as_bytes());
    }
    wire
}

fn uri(text: &'static str) -> Uri {
    Uri::parse(Bytes::from_static(text.as_bytes())).expect("a URI")
}

fn decode(decoder: &mut Decoder, wire: &[u8]) {
    let mut buf = BytesMut::with_capacity(READ);
    for read in wire.chunks(READ) {
        buf.extend_from_slice(read);
        while let Some(event) = decoder.next(&mut buf).expect("legal input") {
            black_box(event);
        }
        buf.reserve(READ);
    }
}

/// A session whose owner has dialled Bob.
fn session(now: Instant) -> Session {
    let holding = Holding {
        uri: uri(RELAY),
        client: Path::parse(ALICE.as_bytes()).expect("a path"),
        expiry: Expiry { at: now + Duration::from_hours(1), strict: false },
        other_methods: true,
        max_auth_attempts: NonZeroU32::new(3),
        idle_timeout: None,
    };
    let (decoder, queue) = (Decoder::default(), ChunkQueue::default());
    let mut session = Session::new(holding, decoder, queue, Limits::DEFAULT, now);
    session.dial(uri(BOB));
    session
}

/// Passes everything from Alice to Bob, who takes it at once.
fn relay(session: &mut Session, wire: &[u8], now: Instant) {
    let mut buf = BytesMut::with_capacity(READ);
    for read in wire.chunks(READ) {
        buf.extend_from_slice(read);
        loop {
            let received = session.receive(Leg::Near, &mut buf, now).expect("legal input");
            assert!(matches!(received, Received::Idle));
            let waiting = session.outgoing(Leg::Far).len();
            if waiting == 0 {
                break;
            }
            let mut slices = [IoSlice::new(&[]); 64];
            let filled = session.outgoing(Leg::Far).slices(&mut slices);
            black_box(&slices[..filled]);
            session.sent(Leg::Far, waiting, now);
        }
        buf.reserve(READ);
    }
}

fn codec(criterion: &mut Criterion) {
    #[expect(clippy::disallowed_methods, reason = "a first moment is needed")]
    let now = Instant::now();
    for (name, octets, count) in [
        ("chat of 200 octets", 200, 1000),
        ("2048-octet chunks", 2048, 500),
        ("64 KiB chunks", 64 * 1024, 64),
    ] {
        let wire = sends(octets, count);
        let mut group = criterion.benchmark_group(name);
        group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
        group.throughput(Throughput::ElementsAndBytes {
            elements: count as u64,
            bytes: wire.len() as u64,
        });
        group.bench_function("decoder", |bencher| {
            bencher.iter_batched_ref(
                Decoder::default,
                |decoder| decode(decoder, &wire),
                BatchSize::SmallInput,
            );
        });
        group.bench_function("session", |bencher| {
            bencher.iter_batched_ref(
                || session(now),
                |session| relay(session, &wire, now),
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
