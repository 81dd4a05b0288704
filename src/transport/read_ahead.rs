//! Reading a socket in large pieces.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::io::poll_read_buf;

/// Most octets read at once.
const MOST: usize = 64 * 1024;

/// A TCP connection under TLS.
///
/// rustls asks for 4 KiB at a time, which is five system calls for a full record. Here as much is
/// read at once as its user has room for, and kept until rustls has taken it.
#[derive(Debug)]
pub(super) struct ReadAhead {
    tcp: TcpStream,
    /// What was read and not taken: no memory while there is nothing.
    block: BytesMut,
    /// Octets to read at once.
    room: usize,
}

impl ReadAhead {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self { tcp, block: BytesMut::new(), room: 0 }
    }

    /// How many octets of plaintext there is room for. Records are longer than what is in them, so
    /// all that is read then is used up soon.
    pub(super) fn set_room(&mut self, octets: usize) {
        self.room = octets.min(MOST);
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    pub(super) fn tcp_mut(&mut self) -> &mut TcpStream {
        &mut self.tcp
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { tcp, block, room } = &mut *self;
        if block.is_empty() {
            if *room <= buf.remaining() {
                return Pin::new(tcp).poll_read(cx, buf);
            }
            // No block is taken for a socket that has nothing.
            ready!(tcp.poll_read_ready(cx))?;
            block.reserve(*room);
            match poll_read_buf(Pin::new(tcp), cx, block) {
                Poll::Ready(Ok(octets)) if octets > 0 => {}
                other => {
                    *block = BytesMut::new();
                    return other.map_ok(drop);
                }
            }
        }
        let octets = block.len().min(buf.remaining());
        buf.put_slice(&block[..octets]);
        block.advance(octets);
        if block.is_empty() {
            *block = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
