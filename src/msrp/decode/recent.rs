//! Heads, with the paths read last.

use super::event::{Event, Malformed};
use crate::msrp::{
    header::{HeaderError, Headers, Name},
    message::{Head, Start, TransactId},
    uri::{Path, UriError},
};

/// The paths read last. In a session they are always the same few, so that most need no reading.
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

    fn path(&mut self, headers: &Headers, name: Name) -> Result<Path, HeaderError> {
        let value = headers.value(name).ok_or(HeaderError::Unreadable(name.as_str()))?;
        self.parse(value).map_err(|_| HeaderError::Unreadable(name.as_str()))
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
                let broken_path = to.as_ref().err().or(from.as_ref().err()).copied();
                let error = defect.or(broken_path).unwrap_or(HeaderError::Line);
                let paths = to.ok().zip(from.ok());
                Event::Malformed(Malformed { transact_id, start, paths, headers, error })
            }
        }
    }
}
