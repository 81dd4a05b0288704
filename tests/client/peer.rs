//! The other end of the connection, in bytes written by hand: a codec must not be its own witness.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
};

use crate::harness::DEADLINE;

pub(crate) struct Peer {
    pub(crate) link: TcpStream,
    unread: Vec<u8>,
    pub(crate) to: String,
    from: String,
}

impl Peer {
    pub(crate) fn dial(path: &str) -> Self {
        let address = path.split('/').nth(2).unwrap();
        let from = "msrp://127.0.0.1:9/peer;tcp".to_owned();
        Self::new(TcpStream::connect(address).unwrap(), path.to_owned(), from)
    }

    pub(crate) fn accept(listener: &TcpListener, own: &str) -> Self {
        Self::new(listener.accept().unwrap().0, String::new(), own.to_owned())
    }

    pub(crate) fn new(link: TcpStream, to: String, from: String) -> Self {
        link.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { link, unread: Vec::new(), to, from }
    }

    pub(crate) fn says(
        &mut self,
        id: &str,
        method: &str,
        headers: &[impl AsRef<str>],
        body: Option<&[u8]>,
        flag: char,
    ) {
        let mut text =
            format!("MSRP {id} {method}\r\nTo-Path: {}\r\nFrom-Path: {}\r\n", self.to, self.from);
        for header in headers {
            text.push_str(header.as_ref());
            text.push_str("\r\n");
        }
        let mut octets = text.into_bytes();
        if let Some(body) = body {
            octets.extend_from_slice(b"\r\n");
            octets.extend_from_slice(body);
            octets.extend_from_slice(b"\r\n");
        }
        octets.extend_from_slice(format!("-------{id}{flag}\r\n").as_bytes());
        self.link.write_all(&octets).unwrap();
    }

    pub(crate) fn responds(&mut self, id: &str, status: &str) {
        let text = format!(
            "MSRP {id} {status}\r\nTo-Path: {}\r\nFrom-Path: {}\r\n-------{id}$\r\n",
            self.to, self.from
        );
        self.link.write_all(text.as_bytes()).unwrap();
    }

    /// A message without a body, its end-line included.
    pub(crate) fn hears(&mut self) -> String {
        self.until(b"$\r\n").unwrap_or_else(|rest| panic!("the end, after {rest:?}"))
    }

    pub(crate) fn hears_nothing_but_the_end(&mut self) -> String {
        self.until(b"\r\n-------").unwrap_or_else(|rest| rest)
    }

    /// A head up to the blank line, or a message without a body.
    pub(crate) fn head(&mut self) -> String {
        let mut head = String::new();
        loop {
            let line = self.until(b"\r\n").expect("a line of a head");
            head.push_str(&line);
            if line == "\r\n" || line.starts_with("-------") {
                return head;
            }
        }
    }

    /// How many octets there are before this end-line.
    pub(crate) fn body(&mut self, id: &str, flag: char) -> u64 {
        let end = format!("\r\n-------{id}{flag}\r\n").into_bytes();
        let mut octets = 0;
        loop {
            if let Some(at) = find(&self.unread, &end) {
                self.unread.drain(..at + end.len());
                return octets + at as u64;
            }
            let safe = self.unread.len().saturating_sub(end.len());
            self.unread.drain(..safe);
            octets += safe as u64;
            assert!(self.read() > 0, "the end instead of {flag}");
        }
    }

    pub(crate) fn until(&mut self, end: &[u8]) -> Result<String, String> {
        loop {
            if let Some(at) = find(&self.unread, end) {
                let text = self.unread.drain(..at + end.len()).collect();
                return Ok(String::from_utf8(text).unwrap());
            }
            if self.read() == 0 {
                return Err(String::from_utf8_lossy(&self.unread).into_owned());
            }
        }
    }

    pub(crate) fn read(&mut self) -> usize {
        let mut block = vec![0; 64 * 1024];
        let read = self.link.read(&mut block).unwrap();
        self.unread.extend_from_slice(&block[..read]);
        read
    }
}

/// Forwards `octets` of the first connection to `port`, then hangs up on both sides.
pub(crate) fn cutting_proxy(port: u16, octets: u64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (near, _) = listener.accept().unwrap();
        let mut far = TcpStream::connect(("127.0.0.1", port)).unwrap();
        std::io::copy(&mut (&near).take(octets), &mut far).unwrap();
        near.shutdown(Shutdown::Both).unwrap();
        far.shutdown(Shutdown::Both).unwrap();
    });
    own
}

fn find(octets: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(octets, what)
}

pub(crate) fn header(head: &str, name: &str) -> String {
    let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {head}")).to_owned()
}

pub(crate) fn transact_id(head: &str) -> String {
    head.split(' ').nth(1).unwrap().to_owned()
}
