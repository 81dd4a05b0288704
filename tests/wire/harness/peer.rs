//! One end of a connection to the relay, and what it says and hears.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConnection, ServerConnection, StreamOwned, pki_types::ServerName};

use socket2::{Domain, SockRef, Socket, Type};

use super::{
    Algorithm, Credentials, Message, PATIENCE, SILENCE, Transfer, now,
    script::{Names, Outcome, Script, bare_auth, escaped},
    tls::{IDENTITY, Identity},
};

trait Duplex: Read + Write + Send {}

impl<T: Read + Write + Send> Duplex for T {}

enum Read1 {
    More,
    Nothing,
    Ended,
}

/// A client, an endpoint or another relay, at one end of a connection.
///
/// It reads only when a test asks it to: a peer that is left alone is a slow reader.
pub(crate) struct Peer {
    me: String,
    names: Names,
    socket: TcpStream,
    stream: Box<dyn Duplex>,
    unread: Vec<u8>,
}

impl Peer {
    /// A connection to the relay; `{me}` is this peer's own URI.
    pub(crate) fn connect(me: &str, names: &Names, relay: SocketAddr, secure: bool) -> Self {
        Self::connect_to(me, names, relay, secure.then_some(&IDENTITY))
    }

    /// A connection to the relay, over TLS if an identity is expected there.
    pub(crate) fn connect_to(
        me: &str,
        names: &Names,
        relay: SocketAddr,
        expected: Option<&Identity>,
    ) -> Self {
        let socket = TcpStream::connect(relay).expect("a connection to the relay");
        Self::over(socket, me, names, expected)
    }

    /// A connection to the relay from another address of this machine.
    pub(crate) fn connect_from(me: &str, names: &Names, relay: SocketAddr, from: Ipv4Addr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let from = SocketAddr::from((from, 0));
        socket.bind(&from.into()).expect("a free port");
        socket.connect(&relay.into()).expect("a connection to the relay");
        Self::over(socket.into(), me, names, None)
    }

    pub(super) fn over(
        socket: TcpStream,
        me: &str,
        names: &Names,
        expected: Option<&Identity>,
    ) -> Self {
        socket.set_nodelay(true).expect("TCP_NODELAY");
        let stream: Box<dyn Duplex> = if let Some(identity) = expected {
            let name = ServerName::try_from("localhost").expect("a name");
            let tls =
                ClientConnection::new(Arc::clone(&identity.client), name).expect("a TLS client");
            Box::new(StreamOwned::new(tls, clone(&socket)))
        } else {
            Box::new(clone(&socket))
        };
        Self { me: me.to_owned(), names: names.clone(), socket, stream, unread: Vec::new() }
    }

    // Saying.

    /// Says a transcript.
    #[track_caller]
    pub(crate) fn says(&mut self, transcript: &str) {
        let octets = Script::parse(transcript).octets(&self.names);
        self.says_octets(&octets);
    }

    #[track_caller]
    pub(crate) fn says_octets(&mut self, octets: &[u8]) {
        self.tries(octets).expect("the relay takes what is said");
    }

    /// Says octets to a relay that may have hung up.
    pub(crate) fn tries(&mut self, octets: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(octets)?;
        self.stream.flush()
    }

    /// The octets of a transcript, for tests that cut them.
    #[track_caller]
    pub(crate) fn octets(&self, transcript: &str) -> Vec<u8> {
        Script::parse(transcript).octets(&self.names)
    }

    /// Says octets in writes of their own, `pause` between them.
    pub(crate) fn says_in_pieces<'a>(
        &mut self,
        pieces: impl IntoIterator<Item = &'a [u8]>,
        pause: Duration,
    ) {
        for piece in pieces {
            self.says_octets(piece);
            std::thread::sleep(pause);
        }
    }

    /// Answers the request `tid` of the relay; `to` is the hop that it came from.
    #[track_caller]
    pub(crate) fn responds(&mut self, tid: &str, status: &str, to: &str) {
        let me = &self.me;
        self.says(&format!(
            "MSRP {tid} {status}\nTo-Path: {to}\nFrom-Path: {{{me}}}\n-------{tid}$"
        ));
    }

    /// Answers a request that was read with [`Self::message`], as RFC 4975 §7.2 wants it for a SEND.
    #[track_caller]
    pub(crate) fn answers(&mut self, request: &Message, status: &str) {
        let first = |name| super::first(request.the(name));
        let (tid, to, from) = (&request.tid, first("From-Path"), first("To-Path"));
        self.says(&format!("MSRP {tid} {status}\nTo-Path: {to}\nFrom-Path: {from}\n-------{tid}$"));
    }

    // Hearing.

    /// The next octets are this transcript.
    #[track_caller]
    pub(crate) fn hears(&mut self, transcript: &str) {
        self.hears_within(PATIENCE, transcript);
    }

    #[track_caller]
    pub(crate) fn hears_within(&mut self, patience: Duration, transcript: &str) {
        let script = Script::parse(transcript);
        let deadline = now() + patience;
        loop {
            match script.compare(&self.names, &self.unread) {
                Outcome::Same { length, bound } => {
                    self.unread.drain(..length);
                    for (name, value) in bound {
                        self.names.bind(&name, value);
                    }
                    return;
                }
                Outcome::Differs { at } => self.fails(&script, &format!("differs at octet {at}")),
                Outcome::Short => match self.read(deadline) {
                    Read1::More => {}
                    Read1::Nothing => self.fails(&script, "nothing more comes"),
                    Read1::Ended => self.fails(&script, "the relay hung up"),
                },
            }
        }
    }

    /// The relay's answer to this peer's request `tid`, whose first To-Path URI was `from`.
    #[track_caller]
    pub(crate) fn hears_response(&mut self, tid: &str, status: &str, from: &str) {
        let me = &self.me;
        self.hears(&format!(
            "MSRP {tid} {status}\nTo-Path: {{{me}}}\nFrom-Path: {from}\n-------{tid}$"
        ));
    }

    /// The relay's answer where only the code is fixed.
    #[track_caller]
    pub(crate) fn hears_code(&mut self, tid: &str, code: &str) -> Message {
        let message = self.message();
        assert_eq!(message.tid, tid, "{message:?}");
        assert_eq!(message.what.get(..3), Some(code), "{message:?}");
        message
    }

    /// The relay's answer to `tid`, whatever it is.
    #[track_caller]
    pub(crate) fn hears_answer(&mut self, tid: &str) -> Message {
        let message = self.message();
        assert_eq!(message.tid, tid, "{message:?}");
        message
    }

    /// Nothing comes for this long, and the connection stays.
    #[track_caller]
    pub(crate) fn hears_nothing(&mut self, time: Duration) {
        let deadline = now() + time;
        let end = if self.unread.is_empty() { self.read(deadline) } else { Read1::More };
        match end {
            Read1::Nothing => {}
            Read1::More => {
                panic!("{} expected silence, but heard\n{}", self.me, escaped(&self.unread))
            }
            Read1::Ended => panic!("{} expected silence, but the relay hung up", self.me),
        }
    }

    /// The relay closes the connection without a further word.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) {
        self.is_closed_within(PATIENCE);
    }

    #[track_caller]
    pub(crate) fn is_closed_within(&mut self, patience: Duration) {
        assert!(self.hung_up_within(patience), "{} is still connected", self.me);
        assert!(
            self.unread.is_empty(),
            "{} heard before the end\n{}",
            self.me,
            escaped(&self.unread)
        );
    }

    /// Reads until the relay hangs up; false if it has not after that time. What came is kept.
    pub(crate) fn hung_up_within(&mut self, patience: Duration) -> bool {
        let deadline = now() + patience;
        loop {
            match self.read(deadline) {
                Read1::More => {}
                Read1::Nothing => return false,
                Read1::Ended => return true,
            }
        }
    }

    /// What was read and not yet asked for.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// The next message, taken apart.
    #[track_caller]
    pub(crate) fn message(&mut self) -> Message {
        self.message_within(PATIENCE).unwrap_or_else(|| {
            panic!("{} waits for a message, has\n{}", self.me, escaped(&self.unread))
        })
    }

    /// The next message, if one comes in time.
    #[track_caller]
    pub(crate) fn message_within(&mut self, patience: Duration) -> Option<Message> {
        let mut deadline = now() + patience;
        let mut scanned = 0;
        loop {
            if let Some((message, length)) = Message::read(&self.unread, &mut scanned) {
                self.unread.drain(..length);
                return Some(message);
            }
            match self.read(deadline) {
                Read1::More => deadline = now() + patience,
                Read1::Nothing | Read1::Ended => return None,
            }
        }
    }

    /// Receives one message in however many pieces it comes, answering each with 200.
    #[track_caller]
    pub(crate) fn receives(&mut self) -> Transfer {
        let mut transfer = Transfer::default();
        loop {
            let message = self.message();
            if message.what != "SEND" {
                transfer.others.push(message);
                continue;
            }
            self.answers(&message, "200 OK");
            if transfer.add(message) {
                return transfer;
            }
        }
    }

    /// Reads until `count` octets lie unread, without taking any.
    #[track_caller]
    pub(crate) fn awaits_octets(&mut self, count: usize) {
        let deadline = now() + PATIENCE;
        while self.unread.len() < count {
            assert!(
                matches!(self.read(deadline), Read1::More),
                "{} has {} octets of {count}",
                self.me,
                self.unread.len()
            );
        }
    }

    /// Reads this many octets and no more than a read beyond, or what comes without a longer pause.
    pub(crate) fn reads_about(&mut self, count: usize) {
        let wanted = self.unread.len() + count;
        while self.unread.len() < wanted {
            if !matches!(self.read(now() + SILENCE), Read1::More) {
                return;
            }
        }
    }

    // Logging in.

    /// The URI to which this peer sends AUTH.
    pub(crate) fn auth_uri(&self) -> String {
        self.names.text("relay")
    }

    /// Asks for a challenge and returns the right answer to it.
    #[track_caller]
    pub(crate) fn challenged(&mut self, tid: &str) -> Credentials {
        let (me, uri) = (self.me.clone(), self.auth_uri());
        self.says(&bare_auth(tid, &uri, &format!("{{{me}}}")));
        let challenge = self.hears_code(tid, "401");
        self.credentials(&challenge)
    }

    /// The right answer to a 401.
    #[track_caller]
    pub(crate) fn credentials(&self, challenge: &Message) -> Credentials {
        let value = challenge.the("WWW-Authenticate");
        Credentials {
            user: self.me.clone(),
            realm: quoted(value, "realm"),
            password: format!("secret-{}", self.me),
            nonce: quoted(value, "nonce"),
            opaque: quoted(value, "opaque"),
            nc: "00000001".to_owned(),
            cnonce: format!("{:032x}", u128::from_be_bytes(*b"the same cnonce.")),
            uri: self.auth_uri(),
            algorithm: Algorithm::Md5,
        }
    }

    /// AUTH with this Authorization and further header lines, each ending in a newline.
    #[track_caller]
    pub(crate) fn says_auth(&mut self, tid: &str, authorization: &str, headers: &str) {
        let octets = self.auth_octets(tid, authorization, headers);
        self.says_octets(&octets);
    }

    /// The same, to be said later.
    #[track_caller]
    pub(crate) fn auth_octets(&self, tid: &str, authorization: &str, headers: &str) -> Vec<u8> {
        let (me, uri) = (&self.me, self.auth_uri());
        self.octets(&format!(
            "MSRP {tid} AUTH\nTo-Path: {uri}\nFrom-Path: {{{me}}}\n\
             Authorization: {authorization}\n{headers}-------{tid}$"
        ))
    }

    /// Logs in, and binds the session's URI to the first letter of the own name, as a capital.
    #[track_caller]
    pub(crate) fn logs_in(&mut self, headers: &str) -> Message {
        let credentials = self.challenged("auth0001");
        self.says_auth("auth0002", &credentials.header(), headers);
        let granted = self.hears_code("auth0002", "200");
        self.names.bind(&self.session_name(), granted.the("Use-Path"));
        granted
    }

    /// The name that [`Self::logs_in`] binds: `A` for alice.
    pub(crate) fn session_name(&self) -> String {
        self.me[..1].to_uppercase()
    }

    /// The URI that it was given when it logged in.
    pub(crate) fn session_uri(&self) -> String {
        self.names.text(&self.session_name())
    }

    // Leaving.

    /// Says that nothing more will come, and goes on reading.
    pub(crate) fn half_closes(&self) {
        self.socket.shutdown(Shutdown::Write).expect("a connection to close");
    }

    /// Ends the connection with RST.
    pub(crate) fn resets(self) {
        SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    pub(crate) fn local_address(&self) -> SocketAddr {
        self.socket.local_addr().expect("a local address")
    }

    /// Writes give up after this long, for tests of back-pressure.
    pub(crate) fn set_write_timeout(&self, time: Duration) {
        self.socket.set_write_timeout(Some(time)).expect("SO_SNDTIMEO");
    }

    /// Writes once, as much as goes; the octets taken, or `None` when the time-out struck or the
    /// relay hung up.
    pub(crate) fn writes_some(&mut self, octets: &[u8]) -> Option<usize> {
        self.stream.write(octets).ok()
    }

    fn read(&mut self, deadline: Instant) -> Read1 {
        let left = deadline.saturating_duration_since(now());
        if left.is_zero() {
            return Read1::Nothing;
        }
        self.socket.set_read_timeout(Some(left)).expect("SO_RCVTIMEO");
        let mut buffer = vec![0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Read1::Ended,
            Ok(length) => {
                self.unread.extend_from_slice(&buffer[..length]);
                Read1::More
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Read1::More,
            Err(error) if is_timeout(error.kind()) => Read1::Nothing,
            Err(_) => Read1::Ended,
        }
    }

    #[track_caller]
    fn fails(&mut self, script: &Script, why: &str) -> ! {
        // The rest of the message is usually on its way, and says more than its first octets.
        let _ = self.read(now() + SILENCE);
        panic!(
            "{}: {why}\n  expected\n{}\n  heard\n{}",
            self.me,
            script.describe(&self.names),
            escaped(&self.unread)
        );
    }
}

/// A peer that waits to be dialled.
pub(crate) struct Listener {
    me: String,
    names: Names,
    socket: TcpListener,
    secure: bool,
}

impl Listener {
    /// Listens on `address`; binds `{me}` to its URI, with `host` in it and the port.
    pub(crate) fn bind(
        me: &str,
        names: &Names,
        address: SocketAddr,
        host: &str,
        secure: bool,
    ) -> Self {
        let socket = listening(address);
        let port = socket.local_addr().expect("an address").port();
        let scheme = if secure { "msrps" } else { "msrp" };
        names.bind(me, format!("{scheme}://{host}:{port}/{me}-session;tcp"));
        Self { me: me.to_owned(), names: names.clone(), socket, secure }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("an address")
    }

    /// The relay's next connection.
    #[track_caller]
    pub(crate) fn accepts(&self) -> Peer {
        self.accepts_within(PATIENCE).unwrap_or_else(|| panic!("nobody dials {}", self.me))
    }

    /// Nobody connects for this long.
    #[track_caller]
    pub(crate) fn is_left_alone(&self, time: Duration) {
        assert!(self.accepts_within(time).is_none(), "somebody dials {}", self.me);
    }

    #[track_caller]
    fn accepts_within(&self, time: Duration) -> Option<Peer> {
        let deadline = now() + time;
        self.socket.set_nonblocking(true).expect("O_NONBLOCK");
        let socket = loop {
            match self.socket.accept() {
                Ok((socket, _)) => break socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{} cannot accept: {error}", self.me),
            }
            if now() >= deadline {
                return None;
            }
            super::sleep(5);
        };
        socket.set_nonblocking(false).expect("blocking input");
        socket.set_nodelay(true).expect("TCP_NODELAY");
        let stream: Box<dyn Duplex> = if self.secure {
            let tls = ServerConnection::new(Arc::clone(&IDENTITY.server)).expect("a TLS server");
            Box::new(StreamOwned::new(tls, clone(&socket)))
        } else {
            Box::new(clone(&socket))
        };
        Some(Peer {
            me: self.me.clone(),
            names: self.names.clone(),
            socket,
            stream,
            unread: Vec::new(),
        })
    }
}

/// Waits for a fixed port that another run of these tests may be using.
fn listening(address: SocketAddr) -> TcpListener {
    let deadline = now() + PATIENCE;
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && now() < deadline => {
                super::sleep(100);
            }
            bound => return bound.expect("a free port"),
        }
    }
}

/// A SEND of a whole file in one chunk, as octets.
#[track_caller]
pub(crate) fn file(peer: &Peer, tid: &str, to: &str, from: &str, body: &[u8]) -> Vec<u8> {
    let mut octets = file_head(peer, tid, to, from, &format!("1-*/{}", body.len()));
    octets.extend_from_slice(body);
    octets.extend_from_slice(format!("\r\n-------{tid}$\r\n").as_bytes());
    octets
}

/// The head of a SEND of part of a file; the body follows.
#[track_caller]
pub(crate) fn file_head(peer: &Peer, tid: &str, to: &str, from: &str, range: &str) -> Vec<u8> {
    let mut octets = peer.octets(&format!(
        "MSRP {tid} SEND\nTo-Path: {to}\nFrom-Path: {from}\nMessage-ID: file\n\
         Byte-Range: {range}\nContent-Type: application/octet-stream\n"
    ));
    octets.extend_from_slice(b"\r\n");
    octets
}

/// Any port of 127.0.0.1.
pub(crate) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn clone(socket: &TcpStream) -> TcpStream {
    socket.try_clone().expect("a second handle of the socket")
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// The value of `name="value"` in a challenge.
#[track_caller]
fn quoted(challenge: &str, name: &str) -> String {
    challenge
        .split_once(&format!("{name}=\""))
        .and_then(|(_, rest)| rest.split_once('"'))
        .unwrap_or_else(|| panic!("no quoted {name} in {challenge:?}"))
        .0
        .to_owned()
}
