//! Challenges and their answers without sockets: the arithmetic of one AUTH.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use msrprelay::{
    auth::{AuthRequest, Challenger, Credential},
    msrp::digest::{Algorithm, Authorization, Challenge},
};
use secrecy::SecretString;

const BOTH: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Md5];
const REALM: &str = "example.com";
const URI: &[u8] = b"msrps://example.com:2855;tcp";
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// `alice:example.com:secret`.
const HA1: &str = "b1726872c344b6dc8365b774f8fd6412";

fn digest(criterion: &mut Criterion) {
    #[expect(clippy::disallowed_methods, reason = "a first moment is needed")]
    let start = Instant::now();
    let password = SecretString::from("secret");
    let md5 = Credential::Ha1 { md5: Some(SecretString::from(HA1)), sha256: None };
    let mut group = criterion.benchmark_group("digest");
    group.bench_function("challenge", |bencher| {
        let challenger = Challenger::new(start);
        bencher.iter(|| black_box(challenger.challenge(&BOTH[1..], REALM, CLIENT, false, start)));
    });
    for (name, algorithm, credential) in [
        ("verify MD5, password", Algorithm::Md5, Credential::Password(password.clone())),
        ("verify MD5, HA1", Algorithm::Md5, md5),
        ("verify SHA-256, password", Algorithm::Sha256, Credential::Password(password.clone())),
    ] {
        group.bench_function(name, |bencher| {
            let challenger = Challenger::new(start);
            // A nonce serves once.
            let answered = || {
                let values = challenger.challenge(&[algorithm], REALM, CLIENT, false, start);
                let challenge = Challenge::parse(values[0].as_bytes()).expect("a challenge");
                let ha1 = challenge.ha1("alice", &password);
                challenge.authorize("alice", &ha1, URI, "0a4f113b".to_owned()).to_value()
            };
            let verify = |value: String| {
                let sent = Authorization::parse(value.as_bytes()).expect("credentials");
                let request = AuthRequest {
                    algorithms: &BOTH,
                    realm: REALM,
                    uri: URI,
                    uri_matches: true,
                    client: CLIENT,
                    nonce_lifetime: Duration::from_secs(15),
                };
                let attempt = challenger.examine(&sent, &request, start).expect("an attempt");
                challenger.settle(attempt, Ok(credential.clone()), start).expect("a grant")
            };
            bencher.iter_batched(answered, verify, BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, digest);
criterion_main!(benches);
