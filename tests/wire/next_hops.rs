//! Which addresses of a next hop are dialled.

use std::{
    collections::HashSet,
    net::{SocketAddr, ToSocketAddrs as _},
};

use crate::harness::{Listener, Scene, Terminator, report, send};

/// RFC 4975 §6.2: the addresses of a name are tried in turn; only one of them listens.
#[test]
fn r4975_6_2_03_each_address_of_a_name_is_reached() {
    let addresses: HashSet<SocketAddr> = ("localhost", 0).to_socket_addrs().unwrap().collect();
    for address in addresses {
        let scene = Scene::plain();
        let listener = scene.listener_on("bob", address, "localhost");
        is_reached(&scene, &listener);
    }
}

/// Alice sends to bob, who is dialled; what she sends reaches him, and his answer her.
#[track_caller]
fn is_reached(scene: &Scene, listener: &Listener) {
    let mut alice = scene.client("alice");
    alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
    alice.hears_response("s0000001", "200 OK", "{A}");
    let mut bob = listener.accepts();
    bob.hears(&send("{t}", "{bob}", "{A} {alice}", "hello"));
    bob.responds("{t}", "415 No", "{A}");
    alice.hears(&report("{r}", "{alice}", "{A}", "000 415 No", "1-5/5"));
}

/// RFC 4975 §5.4: what makes the certificate of an endpoint good stands in SDP, which the relay does
/// not see. So any will do, also those that no verifier reads.
#[test]
fn r4975_5_4_06_endpoints_with_odd_certificates_are_reached() {
    let x509_v1: &[&str] = &[
        "req -new -newkey rsa:2048 -nodes -keyout key -subj /CN=localhost -out csr",
        "x509 -req -in csr -signkey key -out crt",
    ];
    let small_key: &[&str] =
        &["req -x509 -newkey rsa:1024 -nodes -keyout key -subj /CN=localhost -out crt"];
    let unknown_critical_extension: &[&str] = &["req -x509 -newkey rsa:2048 -nodes -keyout key \
         -subj /CN=localhost -addext 1.2.3.4=critical,ASN1:UTF8String:x -out crt"];
    for commands in [x509_v1, small_key, unknown_critical_extension] {
        for version in ["-tls1_2", "-tls1_3"] {
            let scene = Scene::tls();
            let listener = scene.listener("bob");
            let endpoint = Terminator::start(commands, version, listener.address());
            scene.names.bind("bob", format!("msrps://{}/bob-session;tcp", endpoint.address()));
            is_reached(&scene, &listener);
        }
    }
}
