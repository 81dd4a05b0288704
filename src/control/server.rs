//! The server side of the control socket.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _},
        net::UnixListener,
    },
    path::{self, Path, PathBuf},
    time::Duration,
};

use nix::{
    fcntl::AT_FDCWD,
    sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat},
    unistd::{Gid, Uid, User, getegid, geteuid, getgrouplist},
};
use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::unix::UCred,
    task::JoinSet,
    time::timeout,
};
use tracing::{debug, warn};

use super::{Request, Response, Status};
use crate::relay::{Handle, Reloaded, on_own_thread};

/// Mode of the socket: its owner and its group may connect.
const MODE: u32 = 0o660;
/// Most clients served at the same time. Further ones wait in the backlog.
const MAX_CLIENTS: usize = 32;
/// Longest request, in octets.
const MAX_REQUEST: u64 = 4096;
/// Longest time that a client may take to send its request, and to read the response.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time for the last clients to read their responses when the relay ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// Longest time that a reload waits for the backends before it is answered. The configuration is in
/// force by then, and a database may be away for hours.
const BACKEND_PATIENCE: Duration = Duration::from_secs(2);
/// Pause after a failed accept, so that a lasting failure causes no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the control socket cannot be opened.
#[derive(Debug, Error)]
pub enum BindError {
    /// Another process listens on the socket.
    #[error("control socket {}: another relay is listening there", .0.display())]
    InUse(PathBuf),
    /// The path leads to a file that is not a socket. It is not ours to remove.
    #[error("control socket {}: there is a file of that name that is no socket", .0.display())]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("control socket {}: {cause}", path.display())]
    System {
        /// The path of the socket.
        path: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
}

/// Opens the control socket: listening, non-blocking, with mode 0660. A socket that a dead relay
/// has left behind is replaced.
///
/// If the relay is still root, the socket belongs to root until its owner is changed.
pub fn bind(path: &Path) -> Result<UnixListener, BindError> {
    // Absolute, because the daemon changes its working directory but has to remove the socket in
    // the end.
    let path = path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let failed = |cause| BindError::System { path: path.clone(), cause };
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(BindError::NotASocket(path)),
        Ok(_) => match connect(&path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(&path).map_err(failed)?;
            }
            // Another process listens, but its backlog is full.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(BindError::InUse(path));
            }
            Err(error) => return Err(failed(error)),
            Ok(()) => return Err(BindError::InUse(path)),
        },
    }
    open(&path).map_err(failed)
}

/// Connects without waiting, to find out whether another process listens.
fn connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

fn open(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Linux creates the file with the mode of the socket, less the umask. So the file is never open
    // to more users than intended.
    let mode = Mode::from_bits_truncate(MODE);
    fchmod(&socket, mode)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Add what the umask has removed. Follow no link: the relay's user may have put one in the
    // place of the socket.
    fchmodat(AT_FDCWD, path, mode, FchmodatFlags::NoFollowSymlink)?;
    socket.set_nonblocking(true)?;
    socket.listen(i32::try_from(MAX_CLIENTS).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Serves clients until the relay ends, then removes the socket. Must be called within a tokio
/// runtime.
pub async fn serve(listener: UnixListener, handle: Handle) {
    let place = Place::of(&listener);
    let listener = match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            warn!("msrprelayctl cannot be used: {error}");
            return;
        }
    };
    let mut clients = JoinSet::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if clients.len() < MAX_CLIENTS => accepted,
            Some(_) = clients.join_next() => continue,
            () = handle.ending() => break,
        };
        match accepted {
            Ok((client, _)) => {
                failing = false;
                clients.spawn(attend(client, handle.clone(), place.as_ref().map(|p| p.group)));
            }
            Err(error) => {
                // Log one line for a series of failures.
                if !std::mem::replace(&mut failing, true) {
                    warn!("control socket: {error}");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    if let Some(place) = place {
        place.clear();
    }
    let last = async { while clients.join_next().await.is_some() {} };
    if timeout(FAREWELL, last).await.is_err() {
        debug!("a client of the control socket did not read its response");
    }
}

/// The file of a socket, with its device and inode numbers and its group.
struct Place {
    path: PathBuf,
    identity: (u64, u64),
    group: Gid,
}

impl Place {
    fn of(listener: &UnixListener) -> Option<Self> {
        let path = listener.local_addr().ok()?.as_pathname()?.to_owned();
        let found = fs::symlink_metadata(&path).ok()?;
        let group = Gid::from_raw(found.gid());
        Some(Self { path, identity: (found.dev(), found.ino()), group })
    }

    /// Removes the file, unless another one has taken its place.
    fn clear(&self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            debug!("control socket {} could not be removed: {error}", self.path.display());
        }
    }
}

async fn attend(mut client: tokio::net::UnixStream, handle: Handle, group: Option<Gid>) {
    if let Err(error) = converse(&mut client, &handle, group).await {
        debug!("control socket: {error}");
    }
}

async fn converse(
    client: &mut tokio::net::UnixStream,
    handle: &Handle,
    group: Option<Gid>,
) -> io::Result<()> {
    let peer = client.peer_cred()?;
    // Read the request even if the client will be refused: closing with unread input would destroy
    // the response.
    let Some(line) = request(client).await? else { return Ok(()) };
    // The look-up of groups may block, for example on LDAP.
    let allowed = on_own_thread("control", move || is_allowed(&peer, group)).await;
    let response = if allowed.unwrap_or(false) {
        match serde_json::from_str(&line) {
            Ok(request) => respond(request, handle).await,
            Err(error) => failed(&format!("the request is not understood: {error}")),
        }
    } else {
        warn!("control socket: user {} may not use it", peer.uid());
        failed(
            "permission denied: only root, the relay's user and the members of its group may \
             steer it",
        )
    };
    say(client, &response).await
}

/// Reads one line. `None` if the client closed without sending anything: it only checked whether a
/// relay listens.
async fn request(client: &mut tokio::net::UnixStream) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut input = BufReader::new(client).take(MAX_REQUEST);
    let read = timeout(PATIENCE, input.read_until(b'\n', &mut line)).await;
    let octets = read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok((octets > 0).then(|| String::from_utf8_lossy(&line).into_owned()))
}

fn failed(error: &str) -> Response {
    Response::Failed { error: error.to_owned() }
}

/// Whether the peer may steer the relay: root, the relay's own user, and the members of the group
/// of the socket or of the relay.
fn is_allowed(peer: &UCred, socket_group: Option<Gid>) -> bool {
    let (user, group) = (Uid::from_raw(peer.uid()), Gid::from_raw(peer.gid()));
    let ours = |group: Gid| group == getegid() || Some(group) == socket_group;
    user.is_root() || user == geteuid() || ours(group) || groups(user, group).into_iter().any(ours)
}

/// All groups of a user, from the user database of the system.
fn groups(user: Uid, group: Gid) -> Vec<Gid> {
    let Ok(Some(account)) = User::from_uid(user) else { return Vec::new() };
    let Ok(name) = std::ffi::CString::new(account.name) else { return Vec::new() };
    getgrouplist(&name, group).unwrap_or_default()
}

async fn respond(request: Request, handle: &Handle) -> Response {
    match request {
        Request::Status => Response::Status(Box::new(Status::of(handle))),
        Request::Reload => match handle.reload().await {
            Ok(Reloaded { generation, in_force, mut warnings }) => {
                warnings.extend(handle.ask_backends(BACKEND_PATIENCE).await);
                Response::Reloaded { generation, in_force, warnings }
            }
            Err(error) => failed(&error.to_string()),
        },
        Request::Drain => {
            handle.drain();
            let sessions = handle.sessions();
            Response::Draining { sessions: sessions.waiting + sessions.bound }
        }
    }
}

async fn say(client: &mut tokio::net::UnixStream, response: &Response) -> io::Result<()> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    let said = async {
        client.write_all(&line).await?;
        client.shutdown().await
    };
    timeout(PATIENCE, said).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
