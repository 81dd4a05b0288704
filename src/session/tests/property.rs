//! Whatever comes, however it is cut.

use super::*;

/// A message as a peer reads it.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
    pub(super) flag: Continuation,
}

/// Reads what a peer was sent; all of it must be whole, well-formed messages.
pub(super) fn messages(wire: &[u8]) -> Vec<Heard> {
    let (messages, rest) = complete_messages(wire);
    assert_eq!(rest, 0, "an unfinished message");
    messages
}

/// The same for a stream that may stop anywhere; also returns how much is unfinished.
pub(super) fn complete_messages(wire: &[u8]) -> (Vec<Heard>, usize) {
    let mut decoder = Decoder::default();
    let mut unread = BytesMut::from(wire);
    let mut messages = Vec::new();
    let mut current = None;
    while let Some(event) = decoder.next(&mut unread).unwrap() {
        match event {
            Event::Head(head) => current = Some((head, Vec::new())),
            Event::Body(bytes) => current.as_mut().unwrap().1.extend_from_slice(&bytes),
            Event::End(flag) => {
                let (head, body) = current.take().unwrap();
                messages.push(Heard { head, body, flag });
            }
            Event::Malformed(message) => panic!("{:?}", message.error),
            Event::Collision => unreachable!("no guard"),
        }
    }
    let unfinished = unread.len() + current.map_or(0, |(_, body)| body.len() + 1);
    (messages, unfinished)
}
