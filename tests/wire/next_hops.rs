//! Which addresses of a next hop are dialled.

use std::{
    collections::HashSet,
    net::{SocketAddr, ToSocketAddrs as _},
};

use crate::harness::{Scene, report, send};

/// RFC 4975 §6.2: the addresses of a name are tried in turn; only one of them listens.
#[test]
fn r4975_6_2_03_each_address_of_a_name_is_reached() {
    let addresses: HashSet<SocketAddr> = ("localhost", 0).to_socket_addrs().unwrap().collect();
    for address in addresses {
        let scene = Scene::plain();
        let listener = scene.listener_on("bob", address, "localhost");
        let mut alice = scene.client("alice");
        alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
        alice.hears_response("s0000001", "200 OK", "{A}");
        let mut bob = listener.accepts();
        bob.hears(&send("{t}", "{bob}", "{A} {alice}", "hello"));
        bob.responds("{t}", "415 No", "{A}");
        alice.hears(&report("{r}", "{alice}", "{A}", "000 415 No", "1-5/5"));
    }
}
