//! A relay and the peers around it, in the three ways in which a session comes about.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
};

use super::{
    Identity, Listener, Names, Peer, Relay,
    peer::loopback,
    script::{send, send_of, send_with},
};

/// One test's world: a relay, and the names that its peers share.
///
/// Bound from the start: `{relay}`, the URI for AUTH, and a URI for each person that could take part.
/// `{A}` is the session of alice once she has logged in, `{B}` that of bob, and so on.
pub(crate) struct Scene {
    pub(crate) relay: Arc<Relay>,
    pub(crate) names: Names,
}

impl Scene {
    /// With the shared relay on plain TCP.
    pub(crate) fn plain() -> Self {
        Self::on(Relay::shared_plain())
    }

    /// With the shared relay over TLS.
    pub(crate) fn tls() -> Self {
        Self::on(Relay::shared_tls())
    }

    /// With a plain relay of its own; `options` are lines of `[Relay]`.
    pub(crate) fn with(options: &str) -> Self {
        Self::on(Arc::new(Relay::start(options, false)))
    }

    /// The same over TLS.
    pub(crate) fn secure_with(options: &str) -> Self {
        Self::on(Arc::new(Relay::start(options, true)))
    }

    /// With a relay that others may use too.
    pub(crate) fn on(relay: Arc<Relay>) -> Self {
        let names = Names::default();
        let scheme = if relay.is_secure() { "msrps" } else { "msrp" };
        names.bind("relay", format!("{scheme}://example.com:2855;tcp"));
        for me in ["alice", "bob", "carol", "dave", "erin", "mallory"] {
            let uri = format!("{scheme}://{me}.invalid:2855/{me}-session;tcp");
            names.bind(me, uri);
        }
        Self { relay, names }
    }

    /// Somebody who connects to the relay and has said nothing yet.
    pub(crate) fn stranger(&self, me: &str) -> Peer {
        Peer::connect(me, &self.names, self.relay.address(), self.relay.is_secure())
    }

    /// A stranger who connects to that address, and over TLS wants that identity there.
    pub(crate) fn stranger_at(&self, me: &str, address: SocketAddr, identity: &Identity) -> Peer {
        let secure = self.relay.is_secure().then_some(identity);
        Peer::connect_to(me, &self.names, address, secure)
    }

    /// A stranger who connects to that address of a plain relay, if somebody listens there.
    pub(crate) fn stranger_if_open(&self, me: &str, address: SocketAddr) -> Option<Peer> {
        let socket = TcpStream::connect(address).ok()?;
        Some(Peer::over(socket, me, &self.names, None))
    }

    /// A stranger who connects from that address of this machine.
    pub(crate) fn stranger_from(&self, me: &str, from: Ipv4Addr) -> Peer {
        Peer::connect_from(me, &self.names, self.relay.address(), from)
    }

    /// A client that has logged in and waits.
    #[track_caller]
    pub(crate) fn client(&self, me: &str) -> Peer {
        let mut client = self.stranger(me);
        client.logs_in("");
        client
    }

    /// Somebody on this machine who waits to be dialled; `{me}` becomes a URI with that port.
    pub(crate) fn listener(&self, me: &str) -> Listener {
        Listener::bind(me, &self.names, loopback(), "127.0.0.1", false)
    }

    /// The same over TLS, whatever the relay itself speaks.
    pub(crate) fn tls_listener(&self, me: &str, host: &str) -> Listener {
        Listener::bind(me, &self.names, loopback(), host, true)
    }

    /// On that address, with that host in the URI.
    pub(crate) fn listener_on(&self, me: &str, address: SocketAddr, host: &str) -> Listener {
        Listener::bind(me, &self.names, address, host, false)
    }

    /// A listener's port with nobody behind it: a URI under which a connection is refused.
    pub(crate) fn refuses(&self, me: &str) {
        drop(self.listener(me));
    }

    /// A port that takes connections and never says a word, under an `msrps` URI: the handshake of
    /// whoever dials it stalls.
    pub(crate) fn stalls(&self, me: &str) -> Listener {
        let listener = self.listener(me);
        let uri = self.names.text(me).replacen("msrp:", "msrps:", 1);
        self.names.bind(me, uri);
        listener
    }

    /// [`send`] of any octets, which `{body}` stands for until the next call.
    pub(crate) fn send_octets(
        &self,
        tid: &str,
        to: &str,
        from: &str,
        body: impl AsRef<[u8]>,
    ) -> String {
        const BODY: &str = "{body}";

        let length = body.as_ref().len();
        self.names.bind("body", body);
        let own = BODY.len();
        send(tid, to, from, BODY)
            .replace(&format!("1-{own}/{own}"), &format!("1-{length}/{length}"))
    }

    /// Topology a: alice has a session, bob connects to it and joins by an empty SEND.
    #[track_caller]
    pub(crate) fn joined(&self) -> (Peer, Peer) {
        let mut alice = self.client("alice");
        let mut bob = self.stranger("bob");
        introduce(&mut bob, "{A} {alice}", "{bob}", &mut alice);
        (alice, bob)
    }

    /// Topology b: alice's empty SEND makes the relay dial bob.
    #[track_caller]
    pub(crate) fn dialled(&self) -> (Peer, Peer) {
        let listener = self.listener("bob");
        self.dialled_at(&listener)
    }

    #[track_caller]
    pub(crate) fn dialled_at(&self, listener: &Listener) -> (Peer, Peer) {
        let mut alice = self.client("alice");
        alice.says(&empty_send("join0001", "{A} {bob}", "{alice}"));
        alice.hears_response("join0001", "200 OK", "{A}");
        let mut bob = listener.accepts();
        let request = bob.message();
        bob.answers(&request, "200 OK");
        (alice, bob)
    }

    /// Topology c: both have sessions on this relay, alice's empty SEND joins them in process.
    #[track_caller]
    pub(crate) fn bridged(&self) -> (Peer, Peer) {
        let mut alice = self.client("alice");
        let mut bob = self.client("bob");
        introduce(&mut alice, "{A} {B} {bob}", "{alice}", &mut bob);
        (alice, bob)
    }

    /// [`Self::joined`], [`Self::dialled`] or [`Self::bridged`], with the paths between the two.
    #[track_caller]
    pub(crate) fn topology(&self, kind: Topology) -> Session {
        let ((alice, bob), ours) = match kind {
            Topology::Joined => (self.joined(), "{A}"),
            Topology::Dialled if self.relay.is_secure() => {
                (self.dialled_at(&self.tls_listener("bob", "localhost")), "{A}")
            }
            Topology::Dialled => (self.dialled(), "{A}"),
            Topology::Bridged => (self.bridged(), "{A} {B}"),
        };
        let theirs = if ours == "{A}" { "{A}" } else { "{B} {A}" };
        Session {
            alice,
            bob,
            out: ours.to_owned(),
            back: theirs.to_owned(),
            to_bob: format!("{ours} {{bob}}"),
            from_alice: format!("{theirs} {{alice}}"),
            to_alice: format!("{theirs} {{alice}}"),
            from_bob: format!("{ours} {{bob}}"),
        }
    }
}

impl Drop for Scene {
    /// A test that fails says what the relay thought of it.
    fn drop(&mut self) {
        const SHOWN: usize = 40;

        if std::thread::panicking() {
            let log = self.relay.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(SHOWN)..];
            eprintln!("the relay's last words:\n{}", last.join("\n"));
        }
    }
}

/// How the two ends of a session meet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Topology {
    Joined,
    Dialled,
    Bridged,
}

pub(crate) const TOPOLOGIES: [Topology; 3] =
    [Topology::Joined, Topology::Dialled, Topology::Bridged];

/// Two peers that can talk, with the paths that they write and read.
pub(crate) struct Session {
    pub(crate) alice: Peer,
    pub(crate) bob: Peer,
    /// The relay's own URIs on the way from alice to bob: the first one is alice's next hop.
    pub(crate) out: String,
    /// ... and from bob to alice.
    pub(crate) back: String,
    /// To-Path of alice, and From-Path as bob then sees it.
    pub(crate) to_bob: String,
    pub(crate) from_alice: String,
    /// To-Path of bob, and From-Path as alice then sees it.
    pub(crate) to_alice: String,
    pub(crate) from_bob: String,
}

impl Session {
    /// One short message from alice to bob and one back, both answered.
    #[track_caller]
    pub(crate) fn talks(&mut self) {
        let (first_own, first_other) = (first(&self.out), first(&self.back));
        self.alice.says(&send("talk0001", &self.to_bob, "{alice}", "hello"));
        self.alice.hears_response("talk0001", "200 OK", &first_own);
        let heard = self.bob.message();
        assert_eq!(heard.body.as_deref(), Some(&b"hello"[..]));
        self.bob.answers(&heard, "200 OK");
        self.bob.says(&send("talk0002", &self.to_alice, "{bob}", "and you"));
        self.bob.hears_response("talk0002", "200 OK", &first_other);
        let heard = self.alice.message();
        assert_eq!(heard.body.as_deref(), Some(&b"and you"[..]));
        self.alice.answers(&heard, "200 OK");
    }
}

/// The first URI of a path.
pub(crate) fn first(path: &str) -> String {
    path.split(' ').next().unwrap_or_default().to_owned()
}

/// A SEND with neither body nor Content-Type, as endpoints send it first (RFC 4975 §5.4).
pub(crate) fn empty_send(tid: &str, to: &str, from: &str) -> String {
    send_of(tid, to, from, "Message-ID: 12339sdqwer\nByte-Range: 1-0/0")
}

/// A SEND that wants no failure reports, and so nothing back.
pub(crate) fn quiet_send(tid: &str, to: &str, from: &str, body: &str) -> String {
    send_with(tid, to, from, "Failure-Report: no\n", body)
}

#[track_caller]
fn introduce(active: &mut Peer, to: &str, from: &str, second: &mut Peer) {
    let own = first(to);
    active.says(&empty_send("join0001", to, from));
    active.hears_response("join0001", "200 OK", &own);
    let request = second.message();
    assert_eq!(request.what, "SEND");
    second.answers(&request, "200 OK");
}
