//! What stands between a relay and its database, and fails in all the ways in which networks and
//! servers do.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use socket2::{Domain, Socket, Type};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As if it were not there.
    Open,
    /// Connections are accepted; nothing comes back any more, on none.
    Silent,
    /// Nothing comes back at all, not even to who wants to connect.
    BlackHole,
    /// All is over.
    Closed,
}

/// A port that passes on to a server.
pub(crate) struct Gate {
    address: SocketAddr,
    state: Arc<State>,
    accepting: Option<thread::JoinHandle<()>>,
    /// Fill the queue of a black hole.
    plugs: Vec<Socket>,
}

struct State {
    mode: Mutex<Mode>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn to(server: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
        // The kernel drops who wants in while its queue, of one, is full.
        socket.listen(0).expect("a listener");
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State { mode: Mutex::new(Mode::Open), changed: Condvar::new() });
        let accepting = thread::spawn({
            let state = Arc::clone(&state);
            move || state.accept(&listener, server)
        });
        Self { address, state, accepting: Some(accepting), plugs: Vec::new() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&mut self, mode: Mode) {
        *self.state.mode() = mode;
        self.state.changed.notify_all();
        self.plugs.clear();
        if mode == Mode::BlackHole {
            // One for who is in the middle of accept, and two for the queue.
            while self.plugs.len() < 3 {
                let plug = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
                plug.set_nonblocking(true).expect("a socket that does not wait");
                let _ = plug.connect(&self.address.into());
                self.plugs.push(plug);
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.set(Mode::Closed);
        // Wakes who accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl State {
    fn mode(&self) -> MutexGuard<'_, Mode> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn await_other_than(&self, unwanted: &[Mode]) -> Mode {
        let wait = |mode: &mut Mode| unwanted.contains(mode);
        *self.changed.wait_while(self.mode(), wait).unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener, server: SocketAddr) {
        let mut held = Vec::new();
        loop {
            if self.await_other_than(&[Mode::BlackHole]) == Mode::Closed {
                return;
            }
            let Ok((client, _)) = listener.accept() else { return };
            if self.await_other_than(&[Mode::BlackHole]) != Mode::Open {
                held.push(client);
                continue;
            }
            // Refused by the server: by the gate too, by hanging up.
            let Ok(server) = TcpStream::connect(server) else { continue };
            for (mut from, mut to) in [(clone(&client), clone(&server)), (server, client)] {
                let state = Arc::clone(self);
                thread::spawn(move || state.copy(&mut from, &mut to));
            }
        }
    }

    fn copy(&self, from: &mut TcpStream, to: &mut TcpStream) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            // What came in vain is gone, and the connection with it.
            if self.mode().ne(&Mode::Open) {
                self.await_other_than(&[Mode::Silent, Mode::BlackHole]);
                break;
            }
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
        let _ = from.shutdown(std::net::Shutdown::Both);
    }
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a socket to share")
}
