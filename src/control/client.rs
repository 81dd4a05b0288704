//! The client side of the control socket, for `msrprelayctl`.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;

use super::{Request, Response};

/// Longest wait for the response. A reload resolves names and reads files.
const PATIENCE: Duration = Duration::from_mins(2);

/// Why there is no response. Each error names the socket.
#[derive(Debug, Error)]
pub enum AskError {
    /// No relay listens on the socket.
    #[error("no relay is running at {}: {cause}", path.display())]
    NotRunning {
        path: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
    /// The socket exists, but this user may not connect to it.
    #[error(
        "{}: permission denied; become root, the relay's user or a member of its group",
        .0.display()
    )]
    Forbidden(PathBuf),
    /// Any other error while connecting, writing or reading.
    #[error("{}: {cause}", path.display())]
    System {
        path: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
    /// The response is not a valid [`Response`].
    #[error("{}: the relay's response is not understood: {cause}", path.display())]
    Unintelligible {
        path: PathBuf,
        /// What is wrong with the response.
        cause: serde_json::Error,
    },
}

/// Sends `request` to the relay that listens on the socket `path`, and waits for the response for
/// up to two minutes.
pub fn ask(path: &Path, request: Request) -> Result<Response, AskError> {
    let system = |cause| AskError::System { path: path.to_owned(), cause };
    let stream = UnixStream::connect(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::NotRunning { path: path.to_owned(), cause }
        }
        io::ErrorKind::PermissionDenied => AskError::Forbidden(path.to_owned()),
        _ => system(cause),
    })?;
    let line = exchange(&stream, request, PATIENCE).map_err(system)?;
    serde_json::from_str(&line)
        .map_err(|cause| AskError::Unintelligible { path: path.to_owned(), cause })
}

fn exchange(mut stream: &UnixStream, request: Request, patience: Duration) -> io::Result<String> {
    stream.set_read_timeout(Some(patience))?;
    let mut line = serde_json::to_string(&request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut response = String::new();
    BufReader::new(stream).read_line(&mut response).map_err(|cause| match cause.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no response within {} s; the relay's log may tell why", patience.as_secs()),
        ),
        _ => cause,
    })?;
    if response.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the relay closed the connection without a response",
        ));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_that_does_not_answer_is_told_in_words() {
        let (stream, _silent) = UnixStream::pair().unwrap();
        let error = exchange(&stream, Request::Reload, Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().starts_with("no response within 0 s; "), "{error}");
    }
}
