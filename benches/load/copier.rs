//! The baseline: a relay that knows no MSRP. It accepts, dials the sink and copies octets both
//! ways, with the crates, the runtime and the socket options of the real one. What the real relay
//! costs beyond it is the price of MSRP.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    task::{Context, Poll, ready},
};

use msrprelay::transport::NOTSENT_LOWAT;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    net::{TcpListener, TcpStream},
};

use crate::{
    failure::Failure,
    net::{Stream, Tls},
};

/// Larger buffers were measured and save nothing worth their memory.
const BUFFER: usize = 64 * 1024;

/// Runs until killed; says where it listens in the words of the real relay.
pub(crate) async fn run(sink: SocketAddr, tls: Option<&Path>) -> Result<(), Failure> {
    let tls = tls.map_or_else(|| Ok(Tls::none()), Tls::load)?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    eprintln!("listening on {}", listener.local_addr()?);
    loop {
        let (tcp, _) = listener.accept().await?;
        let tls = tls.clone();
        tokio::spawn(async move {
            // A connection that ends badly is seen by the client, which does the judging.
            let _ = relay(tcp, sink, &tls).await;
        });
    }
}

async fn relay(tcp: TcpStream, sink: SocketAddr, tls: &Tls) -> io::Result<()> {
    let far = TcpStream::connect(sink).await?;
    for tcp in [&tcp, &far] {
        // Who lets the kernel queue megabytes sends in larger batches, and has next to nothing to
        // do with back-pressure: that would not be a comparison of relays.
        SockRef::from(tcp).set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    }
    let mut near = tls.accept(tcp).await?;
    let mut far = tls.connect(far).await?;
    let (mut forth, mut back) = (Pump::new(), Pump::new());
    std::future::poll_fn(|context| {
        let forth = forth.poll(context, &mut near, &mut far)?;
        let back = back.poll(context, &mut far, &mut near)?;
        // Either end hanging up ends both, as in the real relay.
        if forth.is_ready() || back.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// One direction: reads while there is something to read, writes it all, flushes once.
struct Pump {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    dirty: bool,
    finished: bool,
}

impl Pump {
    fn new() -> Self {
        let buffer = vec![0; BUFFER].into();
        Self { buffer, start: 0, end: 0, dirty: false, finished: false }
    }

    /// Ready at the end of input, when all of it has been written and the peer has been told.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &mut Box<dyn Stream>,
        to: &mut Box<dyn Stream>,
    ) -> Poll<io::Result<()>> {
        let mut to = Pin::new(to);
        loop {
            self.fill(context, from)?;
            if self.end > 0 {
                ready!(self.drain(context, to.as_mut()))?;
                continue;
            }
            if self.dirty {
                ready!(to.as_mut().poll_flush(context))?;
                self.dirty = false;
            }
            return if self.finished { to.poll_shutdown(context) } else { Poll::Pending };
        }
    }

    /// Reads until the buffer is full or the source has nothing more for now.
    fn fill(&mut self, context: &mut Context<'_>, from: &mut Box<dyn Stream>) -> io::Result<()> {
        while !self.finished && self.end < self.buffer.len() {
            let mut space = ReadBuf::new(&mut self.buffer[self.end..]);
            match Pin::new(&mut *from).poll_read(context, &mut space)? {
                Poll::Pending => break,
                Poll::Ready(()) if space.filled().is_empty() => self.finished = true,
                Poll::Ready(()) => self.end += space.filled().len(),
            }
        }
        Ok(())
    }

    fn drain(
        &mut self,
        context: &mut Context<'_>,
        mut to: Pin<&mut Box<dyn Stream>>,
    ) -> Poll<io::Result<()>> {
        while self.start < self.end {
            let pending = &self.buffer[self.start..self.end];
            let octets = ready!(to.as_mut().poll_write(context, pending))?;
            if octets == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.start += octets;
            self.dirty = true;
        }
        (self.start, self.end) = (0, 0);
        Poll::Ready(Ok(()))
    }
}
