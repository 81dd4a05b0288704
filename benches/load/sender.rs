//! The client that sends: AUTH (RFC 4976 §5.1, digest of RFC 2617), then SENDs.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use md5::Md5;
use msrprelay::msrp::{Event, Name, Path, Start, StatusCode, TransactId, Uri};
use rand::{RngExt as _, rng};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;

use crate::{
    content::Content,
    failure::Failure,
    net::{End, HOST, Incoming, Outgoing, Over, Tls, split},
    wire::{self, SendHead},
};

pub(crate) const USER: &str = "bench";
pub(crate) const PASSWORD: &str = "in memory only";

/// Clients in use hand long chunks to their TLS library in pieces.
const LONGEST_WRITE: u64 = 64 * 1024;

/// Who stands between sender and receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Contestant {
    /// Wants AUTH, answers SENDs itself.
    Relay,
    /// Passes everything on, so there is nobody to AUTH to.
    Copier,
}

/// What a sender connects to.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) contestant: Contestant,
    pub(crate) over: Over,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Tls,
}

/// One session as its sender sees it.
pub(crate) struct Sender {
    incoming: Incoming,
    outgoing: Outgoing,
    own_uri: Uri,
    to_path: Path,
    sent: u64,
}

impl Sender {
    /// Connects, authenticates, and is then ready to send to `receiver`.
    pub(crate) async fn open(
        target: &Target,
        receiver: &str,
        number: usize,
    ) -> Result<Self, Failure> {
        let (incoming, outgoing) =
            split(target.tls.connect(TcpStream::connect(target.address).await?).await?);
        let scheme = target.over.scheme();
        let own_uri = wire::uri(format!("{scheme}://{HOST}:2855/sender{number:06};tcp"))?;
        let mut sender =
            Self { incoming, outgoing, own_uri, to_path: wire::path(receiver)?, sent: 0 };
        let port = target.address.port();
        let relay = match target.contestant {
            Contestant::Relay => {
                sender.authenticate(&format!("{scheme}://{HOST}:{port};tcp")).await?
            }
            // As long as the URI that a relay hands out, so that both carry the same octets.
            Contestant::Copier => format!("{scheme}://{HOST}:{port}/0123456789abcdefghijkl;tcp"),
        };
        sender.to_path = wire::path(&format!("{relay} {receiver}"))?;
        Ok(sender)
    }

    /// AUTH, challenge, AUTH: gives the Use-Path.
    async fn authenticate(&mut self, relay: &str) -> Result<String, Failure> {
        let first = self.auth(relay, None).await?;
        let Answer { status: StatusCode::UNAUTHORIZED, challenge: Some(challenge), .. } = first
        else {
            return Err(Failure::Wire("the first AUTH was not challenged"));
        };
        let credentials = credentials(&challenge, relay)?;
        match self.auth(relay, Some(&credentials)).await? {
            Answer { status: StatusCode::OK, use_path: Some(path), .. } => Ok(path),
            Answer { status, .. } => Err(Failure::Refused(status)),
        }
    }

    async fn auth(&mut self, relay: &str, credentials: Option<&str>) -> Result<Answer, Failure> {
        let transact_id = self.next_transact_id();
        let relay = wire::uri(relay.to_owned())?;
        let out = &mut self.outgoing.buffer;
        wire::write_auth(transact_id, &relay, &self.own_uri, credentials, out);
        self.outgoing.write().await?;
        loop {
            if let Some(event) = self.incoming.next()? {
                let Event::Head(head) = event else { continue };
                let Start::Response { status, .. } = head.start else {
                    return Err(Failure::Wire("a request before AUTH was answered"));
                };
                let answer = Answer {
                    status,
                    challenge: wire::header(&head, Name::WwwAuthenticate).ok(),
                    use_path: wire::header(&head, Name::UsePath).ok(),
                };
                self.end_of_message().await?;
                return Ok(answer);
            }
            self.incoming.read().await?;
        }
    }

    async fn end_of_message(&mut self) -> Result<(), Failure> {
        loop {
            match self.incoming.next()? {
                Some(Event::End(_)) => return Ok(()),
                Some(_) => {}
                None => self.incoming.read().await?,
            }
        }
    }

    /// Sends one short message and waits for its 200.
    pub(crate) async fn message(&mut self, body: &[u8]) -> Result<(), Failure> {
        let transact_id = self.next_transact_id();
        let length = body.len() as u64;
        let head = SendHead {
            transact_id,
            to_path: &self.to_path,
            from: &self.own_uri,
            message_id: &transact_id.to_string(),
            offset: 0,
            length,
            total: length,
        };
        let out = &mut self.outgoing.buffer;
        head.write(out);
        out.extend_from_slice(body);
        head.write_end(out);
        self.outgoing.write().await?;
        await_answers(&mut self.incoming, 1).await
    }

    /// Sends one message in chunks of at most `chunk` octets, without waiting for the 200 of one
    /// before the next, and then waits for them all. `accepted` counts what the socket took.
    pub(crate) async fn file(
        &mut self,
        file: &File,
        accepted: &Arc<AtomicU64>,
    ) -> Result<(), Failure> {
        let count = file.chunks().len() as u64;
        let first_id = self.sent;
        self.sent += count;
        let outgoing = &mut self.outgoing;
        let write = async {
            for (id, (offset, length)) in (first_id..).zip(file.chunks()) {
                let head = SendHead {
                    transact_id: transact_id(id),
                    to_path: &self.to_path,
                    from: &self.own_uri,
                    message_id: "file",
                    offset,
                    length,
                    total: file.size,
                };
                write_chunk(outgoing, &head, &file.content, accepted).await?;
            }
            Ok(())
        };
        tokio::try_join!(write, await_answers(&mut self.incoming, count))?;
        Ok(())
    }

    /// To be used both ways.
    pub(crate) fn into_end(self) -> End {
        let Self { incoming, outgoing, own_uri, to_path, .. } = self;
        End { incoming, outgoing, to_path, own_uri }
    }

    pub(crate) async fn close(mut self) -> Result<(), Failure> {
        self.outgoing.close().await
    }

    fn next_transact_id(&mut self) -> TransactId {
        self.sent += 1;
        transact_id(self.sent - 1)
    }
}

/// What one session is to carry as one message.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) content: Content,
    pub(crate) size: u64,
    pub(crate) chunk: u64,
}

impl File {
    /// Offset and length of each chunk.
    pub(crate) fn chunks(&self) -> impl ExactSizeIterator<Item = (u64, u64)> {
        let &Self { size, chunk, .. } = self;
        let count = u32::try_from(size.div_ceil(chunk)).expect("fewer than 2^32 chunks");
        (0..count).map(move |number| {
            let offset = u64::from(number) * chunk;
            (offset, chunk.min(size - offset))
        })
    }

    pub(crate) fn sha256(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        let mut offset = 0;
        while offset < self.size {
            let slice = self.content.slice(offset, self.size - offset);
            digest.update(slice);
            offset += slice.len() as u64;
        }
        digest.finalize().into()
    }
}

/// One write for a chunk, several for a long one.
pub(crate) async fn write_chunk(
    outgoing: &mut Outgoing,
    head: &SendHead<'_>,
    content: &Content,
    accepted: &AtomicU64,
) -> Result<(), Failure> {
    head.write(&mut outgoing.buffer);
    let mut written = 0;
    while written < head.length {
        let piece = LONGEST_WRITE.min(head.length - written);
        content.copy(head.offset + written, piece, &mut outgoing.buffer);
        written += piece;
        if written == head.length {
            head.write_end(&mut outgoing.buffer);
        }
        outgoing.write().await?;
        accepted.fetch_add(piece, Ordering::Relaxed);
    }
    Ok(())
}

/// Reads responses until `count` of them said 200; whatever else comes is a failure.
async fn await_answers(incoming: &mut Incoming, count: u64) -> Result<(), Failure> {
    let mut missing = count;
    while missing > 0 {
        match incoming.next()? {
            Some(Event::Head(head)) => wire::demand_ok(&head)?,
            Some(Event::End(_)) => missing -= 1,
            Some(_) => {}
            None => incoming.read().await?,
        }
    }
    Ok(())
}

/// Within the grammar of all clients in use: alphanumeric, 4 to 32 characters.
fn transact_id(number: u64) -> TransactId {
    wire::transact_id(&format!("load{number:08x}"))
}

struct Answer {
    status: StatusCode,
    challenge: Option<String>,
    use_path: Option<String>,
}

/// The value of Authorization for a challenge, qop=auth with MD5 (RFC 2617 §3.2.2).
fn credentials(challenge: &str, uri: &str) -> Result<String, Failure> {
    let realm = parameter(challenge, "realm")?;
    let nonce = parameter(challenge, "nonce")?;
    let opaque = parameter(challenge, "opaque")?;
    let cnonce = hex(rng().random());
    let ha1 = md5(&format!("{USER}:{realm}:{PASSWORD}"));
    let ha2 = md5(&format!("AUTH:{uri}"));
    let response = md5(&format!("{ha1}:{nonce}:00000001:{cnonce}:auth:{ha2}"));
    Ok(format!(
        "Digest username=\"{USER}\", realm=\"{realm}\", nonce=\"{nonce}\", qop=auth, nc=00000001, \
         cnonce=\"{cnonce}\", response=\"{response}\", opaque=\"{opaque}\""
    ))
}

/// A quoted parameter of a challenge; relays put no comma into these values.
fn parameter<'a>(challenge: &'a str, name: &str) -> Result<&'a str, Failure> {
    challenge
        .strip_prefix("Digest ")
        .into_iter()
        .flat_map(|parameters| parameters.split(','))
        .find_map(|parameter| parameter.trim().strip_prefix(name)?.strip_prefix('='))
        .map(|value| value.trim_matches('"'))
        .ok_or(Failure::Wire("a parameter of the challenge is missing"))
}

fn md5(text: &str) -> String {
    hex(Md5::digest(text).into())
}

fn hex(octets: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(octets))
}
