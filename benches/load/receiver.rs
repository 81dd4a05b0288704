//! The client that receives: a listener that the relay dials, and what it checks.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use msrprelay::msrp::{Continuation, Event, Path, Uri};
use sha2::{Digest as _, Sha256};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use crate::{
    content::Content,
    failure::Failure,
    net::{End, Incoming, Outgoing, Over, Tls, split},
    wire,
};

/// Where receivers are dialled; an arrival is told apart by the session-id it asks for.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    over: Over,
    expected: Arc<Expected>,
    minted: AtomicUsize,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Expected(Mutex<HashMap<String, oneshot::Sender<Receiver>>>);

impl Sink {
    pub(crate) async fn listen(over: Over, tls: Tls) -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let expected = Arc::<Expected>::default();
        let accepting = tokio::spawn(accept(listener, tls, Arc::clone(&expected)));
        Ok(Self { address, over, expected, minted: AtomicUsize::new(0), accepting })
    }

    /// A URI to send to, and the receiver that answers there once the first message has come.
    pub(crate) fn expect(&self) -> (String, oneshot::Receiver<Receiver>) {
        let number = self.minted.fetch_add(1, Ordering::Relaxed);
        let session_id = format!("receiver{number:08}");
        let uri = format!("{}://{}/{session_id};tcp", self.over.scheme(), self.address);
        let (arrival, arrived) = oneshot::channel();
        self.expected.lock().insert(session_id, arrival);
        (uri, arrived)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Expected {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<Receiver>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, tls: Tls, expected: Arc<Expected>) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            continue;
        };
        let (tls, expected) = (tls.clone(), Arc::clone(&expected));
        tokio::spawn(async move {
            if let Err(failure) = welcome(tcp, &tls, &expected).await {
                eprintln!("a connection to the receiver failed: {failure}");
            }
        });
    }
}

/// Reads and answers the first message, then hands the receiver to whoever expects it.
async fn welcome(tcp: TcpStream, tls: &Tls, expected: &Expected) -> Result<(), Failure> {
    let (incoming, outgoing) = split(tls.accept(tcp).await?);
    let mut receiver = Receiver { incoming, outgoing, ends: None };
    receiver.message(|_| Ok(())).await?;
    let session_id = receiver.ends.as_ref().and_then(|ends| ends.own_uri.session_id());
    let session_id = session_id.ok_or(Failure::Wire("a To-Path without session-id"))?;
    let waiting = expected.lock().remove(session_id);
    let waiting = waiting.ok_or(Failure::Wire("a session that nobody expects"))?;
    // Whoever expected it may have given up.
    let _ = waiting.send(receiver);
    Ok(())
}

/// One session as its receiver sees it.
pub(crate) struct Receiver {
    incoming: Incoming,
    outgoing: Outgoing,
    /// From the first message on.
    ends: Option<Ends>,
}

struct Ends {
    own_uri: Uri,
    /// The way to the sender.
    sender_path: Path,
}

impl Receiver {
    /// Receives one message in any number of chunks, answers each, and shows the body with its
    /// offset to `check`. Gives the length.
    async fn message(
        &mut self,
        mut check: impl FnMut(Piece<'_>) -> Result<(), Failure>,
    ) -> Result<u64, Failure> {
        let mut received = 0;
        let mut replied = None;
        loop {
            match self.incoming.next()? {
                Some(Event::Head(head)) => {
                    if !wire::is_send(&head) {
                        return Err(Failure::Wire("the receiver got something that is no SEND"));
                    }
                    if wire::range_start(&head)? != received + 1 {
                        return Err(Failure::Wire("a chunk is lost or out of order"));
                    }
                    self.ends.get_or_insert_with(|| Ends {
                        own_uri: head.to_path.last().clone(),
                        sender_path: head.from_path.clone(),
                    });
                    replied = Some(head);
                }
                Some(Event::Body(octets)) => {
                    check(Piece { offset: received, octets: &octets })?;
                    received += octets.len() as u64;
                }
                Some(Event::End(flag)) => {
                    if let Some(head) = replied.take() {
                        wire::write_reply(&head, &mut self.outgoing.buffer);
                    }
                    match flag {
                        Continuation::More => {}
                        Continuation::End => {
                            self.outgoing.write().await?;
                            return Ok(received);
                        }
                        Continuation::Abort => {
                            return Err(Failure::Wire("a message was given up"));
                        }
                    }
                }
                Some(_) => {}
                None => {
                    if !self.outgoing.buffer.is_empty() {
                        self.outgoing.write().await?;
                    }
                    self.incoming.read().await?;
                }
            }
        }
    }

    /// Receives one message and compares it octet by octet.
    pub(crate) async fn expect(&mut self, content: &Content, size: u64) -> Result<(), Failure> {
        let received = self
            .message(|piece| {
                let equal = content.equals(piece.offset, piece.octets);
                equal.then_some(()).ok_or(Failure::Content { offset: piece.offset })
            })
            .await?;
        if received == size { Ok(()) } else { Err(Failure::Content { offset: received }) }
    }

    /// Receives one message and gives its SHA-256.
    pub(crate) async fn sha256(&mut self) -> Result<[u8; 32], Failure> {
        let mut digest = Sha256::new();
        self.message(|piece| {
            digest.update(piece.octets);
            Ok(())
        })
        .await?;
        Ok(digest.finalize().into())
    }

    /// To be used both ways.
    pub(crate) fn into_end(self) -> Result<End, Failure> {
        let Self { incoming, outgoing, ends } = self;
        let Ends { own_uri, sender_path } = ends.ok_or(Failure::Wire("no message has come"))?;
        Ok(End { incoming, outgoing, to_path: sender_path, own_uri })
    }

    pub(crate) async fn close(mut self) -> Result<(), Failure> {
        self.outgoing.close().await
    }
}

/// A piece of a body and where in the message it stands.
struct Piece<'a> {
    offset: u64,
    octets: &'a [u8],
}
