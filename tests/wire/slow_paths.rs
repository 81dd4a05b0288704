//! Paths on which octets take long: nothing fails that is only slow.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use crate::harness::{Scene, send_with, sleep};

/// Octets of each message.
const BODY: usize = 1000;
const MESSAGES: usize = 50;
/// Ten times a second.
const AT_ONCE: usize = 150;

/// Listens with a receive buffer of the least size, so that what it does not read stays with the
/// relay's kernel.
fn narrow() -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(1).expect("a buffer");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    socket.listen(1).expect("a listener");
    socket.into()
}

/// Reads slowly, and answers each SEND as soon as it has it. Returns the connection.
fn reads_slowly(listener: &TcpListener, uri: &str) -> TcpStream {
    let (mut socket, _) = listener.accept().expect("the relay");
    let (mut unread, mut answered) = (Vec::new(), 0);
    while answered < MESSAGES {
        let mut some = [0; AT_ONCE];
        let octets = socket.read(&mut some).expect("octets");
        assert!(octets > 0, "the relay hung up after {answered} messages");
        unread.extend_from_slice(&some[..octets]);
        let text = String::from_utf8_lossy(&unread).into_owned();
        if let Some(end) = text.find("$\r\n") {
            let tid = text.split(' ').nth(1).expect("a transact-id");
            let from = text.lines().find_map(|line| line.strip_prefix("From-Path: "));
            let hop = from.expect("a path").split(' ').next().expect("a URI");
            let answer = format!(
                "MSRP {tid} 200 OK\r\nTo-Path: {hop}\r\nFrom-Path: {uri}\r\n-------{tid}$\r\n"
            );
            socket.write_all(answer.as_bytes()).expect("an answer");
            unread.drain(..end + 3);
            answered += 1;
        }
        sleep(100);
    }
    socket
}

/// 40 s pass from the first octet that the relay's kernel takes to the last one that arrives.
#[test]
fn a_message_that_takes_long_to_arrive_is_not_overdue() {
    let scene = Scene::plain();
    let listener = narrow();
    let port = listener.local_addr().expect("an address").port();
    let uri = format!("msrp://127.0.0.1:{port}/bob;tcp");
    thread::scope(|scope| {
        let bob = scope.spawn(|| reads_slowly(&listener, &uri));
        let mut alice = scene.client("alice");
        for number in 0..MESSAGES {
            let tid = format!("slow{number:04}");
            alice.says(&send_with(&tid, &format!("{{A}} {uri}"), "{alice}", "", &"x".repeat(BODY)));
        }
        for number in 0..MESSAGES {
            alice.hears_code(&format!("slow{number:04}"), "200");
        }
        let _open = bob.join().expect("bob");
        alice.hears_nothing(Duration::from_secs(2));
    });
}
