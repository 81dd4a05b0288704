//! Listening sockets.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::AsFd,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections that the kernel completes and holds until they are accepted.
pub const BACKLOG: i32 = 1024;

/// Opens a non-blocking listening socket. Needs no runtime, because the daemon binds before it
/// forks.
///
/// An IPv6 address accepts IPv6 only, so that `0.0.0.0` and `[::]` can be bound side by side. The
/// error names the address and says what an operator can do.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    bind(address, false).map_err(|cause| advised(&cause, address))
}

/// Like [`listen`], while `own` holds our listeners on the same port whose addresses overlap with
/// this one. `0.0.0.0` overlaps with every IPv4 address.
///
/// The kernel allows an overlap only if all sockets have `SO_REUSEPORT` set and belong to the same
/// user. The option is set on `own` only while this socket is bound.
pub fn listen_beside(address: SocketAddr, own: &[impl AsFd]) -> io::Result<TcpListener> {
    let agree = |agree: bool| {
        own.iter().try_for_each(|listener| SockRef::from(listener).set_reuse_port(agree))
    };
    agree(true)?;
    let bound = bind(address, true);
    // Otherwise other programs of the same user could bind the port, too.
    agree(false)?;
    let listener = bound.map_err(|cause| advised(&cause, address))?;
    SockRef::from(&listener).set_reuse_port(false)?;
    Ok(listener)
}

fn advised(cause: &io::Error, address: SocketAddr) -> io::Error {
    let advice = bind_advice(cause, address.port());
    io::Error::new(cause.kind(), format!("cannot listen on {address}: {cause}{advice}"))
}

/// Advice for the operator about an address that cannot be bound. Begins with `: `, or is empty.
fn bind_advice(cause: &io::Error, port: u16) -> String {
    match cause.kind() {
        io::ErrorKind::AddrInUse => format!(
            ": another program listens there, `ss -ltnp sport = :{port}` names it; stop it or set \
             another address"
        ),
        io::ErrorKind::PermissionDenied => {
            ": ports below 1024 are for root and for whoever has CAP_NET_BIND_SERVICE".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            ": this machine has no such address, `ip address` lists those it has".to_owned()
        }
        _ => String::new(),
    }
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::{super::tests::LOOPBACK, *};

    #[test]
    fn listening_needs_no_runtime_and_errors_name_the_address() {
        let first = listen(LOOPBACK.parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = first.accept().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let error = listen(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&format!("cannot listen on {address}: ")), "{error}");
    }

    #[test]
    fn both_families_are_bound_side_by_side() {
        let v6 = listen("[::]:0".parse().unwrap()).unwrap();
        let port = v6.local_addr().unwrap().port();
        listen(SocketAddr::from(([0, 0, 0, 0], port))).unwrap();
        assert!(SockRef::from(&v6).only_v6().unwrap());
    }
}
