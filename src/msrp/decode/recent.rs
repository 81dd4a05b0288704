//! Heads: paths and headers put together, with a memory of the paths read last.

use super::event::{Event, Malformed};
use crate::msrp::{
    header::{HeaderError, Headers, Name},
    message::{Head, Method, Start, TransactId},
    uri::{Path, UriError},
};

/// The paths read last. A session uses the same few all the time, so most are found here and need
/// no parsing.
#[derive(Debug, Default)]
pub(super) struct RecentPaths {
    paths: [Option<Path>; 4],
    next: usize,
}

impl RecentPaths {
    fn parse(&mut self, value: &[u8]) -> Result<Path, UriError> {
        if let Some(path) = self.paths.iter().flatten().find(|path| path.text() == value) {
            return Ok(path.clone());
        }
        let path = Path::parse(value)?;
        self.paths[self.next] = Some(path.clone());
        self.next = (self.next + 1) % self.paths.len();
        Ok(path)
    }

    fn path(&mut self, headers: &Headers, name: Name) -> Result<Path, UriError> {
        self.parse(headers.value(name).ok_or(UriError::EmptyPath)?)
    }

    pub(super) fn head(
        &mut self,
        transact_id: TransactId,
        start: Start,
        headers: Headers,
        has_body: bool,
    ) -> Event {
        let to_path = self.path(&headers, Name::ToPath);
        let from_path = self.path(&headers, Name::FromPath);
        match (to_path, from_path, headers.defect()) {
            (Ok(to_path), Ok(from_path), None) => {
                Event::Head(Head { transact_id, start, to_path, from_path, headers, has_body })
            }
            (to, from, defect) => {
                let unreadable = |path: &Result<Path, UriError>, name: Name| {
                    path.as_ref().err().map(|_| HeaderError::Unreadable(name.as_str()))
                };
                let broken_path =
                    unreadable(&to, Name::ToPath).or_else(|| unreadable(&from, Name::FromPath));
                let error = defect.or(broken_path).unwrap_or(HeaderError::Line);
                // An answer needs the relay's own URI of To-Path only, the first one; and of
                // From-Path as well if it goes to the previous hop alone (RFC 4975 §7.2).
                let is_send = start == Start::Request(Method::Send);
                let to = to.or_else(|error| nearest(&headers, Name::ToPath, error));
                let from = if is_send {
                    from.or_else(|error| nearest(&headers, Name::FromPath, error))
                } else {
                    from
                };
                let paths = to.ok().zip(from.ok());
                Event::Malformed(Malformed { transact_id, start, paths, headers, error })
            }
        }
    }
}

/// The first URI of a path that holds too many.
fn nearest(headers: &Headers, name: Name, error: UriError) -> Result<Path, UriError> {
    match (error, headers.value(name)) {
        (UriError::PathTooLong, Some(value)) => Path::nearest(value),
        _ => Err(error),
    }
}
