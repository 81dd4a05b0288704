//! One session used both ways at once: a file goes forth while lines of chat come back.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use msrprelay::{
    clock::now,
    msrp::{Continuation, Event},
};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{self, Notify},
    time::{MissedTickBehavior, interval},
};

use crate::{
    failure::Failure,
    net::{End, Incoming, Outgoing},
    sender::{File, write_chunk},
    wire::{self, SendHead},
};

/// When each line was said, by its number.
#[derive(Default)]
pub(crate) struct Said(Mutex<Vec<Instant>>);

impl Said {
    /// A new line: its number.
    fn next(&self) -> usize {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.push(now());
        said.len() - 1
    }

    fn age(&self, number: usize) -> Option<Duration> {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.get(number).map(Instant::elapsed)
    }
}

/// The end with the file: sends it, and gives how long each line was under way.
pub(crate) async fn send_file(
    end: &mut End,
    file: &File,
    said: &Said,
) -> Result<Vec<Duration>, Failure> {
    let End { incoming, outgoing, to_path, own_uri } = end;
    let chunks = file.chunks();
    let mut lines = Lines { said, text: Vec::new(), delays: Vec::new(), last: false };
    let mut unanswered = chunks.len() as u64;
    // An answer leaves between two chunks.
    let outgoing = sync::Mutex::new(outgoing);
    let write = async {
        let accepted = AtomicU64::new(0);
        for (number, (offset, length)) in chunks.enumerate() {
            let head = SendHead {
                transact_id: wire::transact_id(&format!("file{number:08x}")),
                to_path,
                from: own_uri,
                message_id: "file",
                offset,
                length,
                total: file.size,
            };
            write_chunk(*outgoing.lock().await, &head, &file.content, &accepted).await?;
        }
        Ok::<_, Failure>(())
    };
    let read = async {
        while unanswered > 0 || !lines.last {
            match attend(incoming, &outgoing, |octets| lines.text.extend(octets)).await? {
                Attended::Answer => unanswered -= 1,
                Attended::Message { .. } => lines.arrived()?,
            }
        }
        Ok(())
    };
    tokio::try_join!(write, read)?;
    Ok(lines.delays)
}

/// The end that gets the file: says a line every `pause` meanwhile, and gives the SHA-256.
pub(crate) async fn receive_file(
    end: &mut End,
    pause: Duration,
    said: &Said,
) -> Result<[u8; 32], Failure> {
    let End { incoming, outgoing, to_path, own_uri } = end;
    let outgoing = sync::Mutex::new(outgoing);
    let complete = Notify::new();
    let (lines, last_said) = (AtomicU64::new(0), AtomicBool::new(false));
    let say = async |last: bool| {
        let mut outgoing = outgoing.lock().await;
        let number = said.next();
        lines.store(number as u64 + 1, Ordering::Relaxed);
        last_said.store(last, Ordering::Relaxed);
        let (message_id, text) = (format!("line{number:08x}"), line(number, last));
        let length = text.len() as u64;
        let head = SendHead {
            transact_id: wire::transact_id(&message_id),
            to_path,
            from: own_uri,
            message_id: &message_id,
            offset: 0,
            length,
            total: length,
        };
        head.write(&mut outgoing.buffer);
        outgoing.buffer.extend(text.as_bytes());
        head.write_end(&mut outgoing.buffer);
        outgoing.write().await
    };
    let write = async {
        let mut ticks = interval(pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = complete.notified() => return say(true).await,
                _ = ticks.tick() => say(false).await?,
            }
        }
    };
    let mut digest = Sha256::new();
    let mut answered = 0;
    let read = async {
        while !last_said.load(Ordering::Relaxed) || answered < lines.load(Ordering::Relaxed) {
            match attend(incoming, &outgoing, |octets| digest.update(octets)).await? {
                Attended::Answer => answered += 1,
                Attended::Message { flag: Continuation::More } => {}
                Attended::Message { flag: Continuation::End } => complete.notify_one(),
                Attended::Message { .. } => return Err(Failure::Wire("the file was given up")),
            }
        }
        Ok(())
    };
    tokio::try_join!(write, read)?;
    Ok(digest.finalize().into())
}

/// The lines that arrive.
struct Lines<'a> {
    said: &'a Said,
    text: Vec<u8>,
    delays: Vec<Duration>,
    last: bool,
}

impl Lines<'_> {
    /// A line is there: it must be the next one, whole.
    fn arrived(&mut self) -> Result<(), Failure> {
        let number = self.delays.len();
        self.last = self.text == line(number, true).as_bytes();
        if !self.last && self.text != line(number, false).as_bytes() {
            return Err(Failure::Wire("a line is lost, changed or out of order"));
        }
        self.text.clear();
        self.delays.extend(self.said.age(number));
        Ok(())
    }
}

fn line(number: usize, last: bool) -> String {
    let more = if last { "that was all" } else { "there is more to say" };
    format!("line {number} of a talk beside the file: {more}")
}

/// What has come.
enum Attended {
    /// A 200.
    Answer,
    /// A SEND, which has been answered; with its continuation flag.
    Message { flag: Continuation },
}

/// Reads one message and answers it, if it is one that wants that.
async fn attend(
    incoming: &mut Incoming,
    outgoing: &sync::Mutex<&mut Outgoing>,
    mut body: impl FnMut(&[u8]),
) -> Result<Attended, Failure> {
    let mut message = None;
    loop {
        match incoming.next()? {
            Some(Event::Head(head)) if wire::is_send(&head) => message = Some(head),
            Some(Event::Head(head)) => wire::demand_ok(&head)?,
            Some(Event::Body(octets)) => body(&octets),
            Some(Event::End(flag)) => {
                let Some(message) = message else { return Ok(Attended::Answer) };
                let mut outgoing = outgoing.lock().await;
                wire::write_reply(&message, &mut outgoing.buffer);
                outgoing.write().await?;
                return Ok(Attended::Message { flag });
            }
            Some(_) => {}
            None => incoming.read().await?,
        }
    }
}
