//! An `openssl s_server` in front of a peer that speaks plain TCP, for certificates and keys that
//! rustls does not serve with.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

use tempfile::TempDir;

use super::until;

/// An address of its own: nothing else takes the free port before openssl does.
const HOST: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);

/// Serves one connection and ends with this value.
pub(crate) struct Terminator {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Terminator {
    /// Runs openssl with each of `commands` to make `crt` and `key`, and serves with these and the
    /// option `version`. What comes in goes on to `plain`.
    pub(crate) fn start(commands: &[&str], version: &str, plain: SocketAddr) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for command in commands {
            let arguments = command.split(' ');
            let made = openssl(directory.path()).args(arguments).output().expect("openssl");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        let free = TcpListener::bind((HOST, 0)).expect("a free port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let mut child = openssl(directory.path())
            .args(["s_server", "-quiet", "-cert", "crt", "-key", "key", "-naccept", "1"])
            .args([version, "-cipher", "DEFAULT@SECLEVEL=0", "-accept", &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("openssl s_server");
        let (to, from) =
            (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        thread::spawn(move || carry(from, to, plain));
        until("openssl listens", || listens(address));
        Self { child, address, _directory: directory }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Terminator {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _: io::Result<()> = self.child.kill();
        let _: io::Result<_> = self.child.wait();
    }
}

fn openssl(directory: &Path) -> Command {
    let mut command = Command::new("openssl");
    command.current_dir(directory).stderr(Stdio::piped());
    command
}

/// Between the pipes of openssl and a connection, which is made when the first octet comes.
fn carry(mut from: ChildStdout, mut to: ChildStdin, plain: SocketAddr) -> io::Result<()> {
    let mut first = [0];
    from.read_exact(&mut first)?;
    let mut link = TcpStream::connect(plain)?;
    link.write_all(&first)?;
    let mut back = link.try_clone()?;
    thread::spawn(move || {
        // Not `io::copy`: into a pipe it uses splice(2), which waits for more than there is.
        let mut block = [0; 4096];
        while let Ok(length @ 1..) = back.read(&mut block) {
            to.write_all(&block[..length])?;
        }
        io::Result::Ok(())
    });
    io::copy(&mut from, &mut link)?;
    link.shutdown(Shutdown::Write)
}

/// A connection to find out would be served as the one that counts.
fn listens(address: SocketAddr) -> bool {
    let octets = u32::from_ne_bytes(HOST.octets());
    let row = format!("{octets:08X}:{:04X} 00000000:0000 0A ", address.port());
    fs::read_to_string("/proc/net/tcp").expect("Linux").contains(&row)
}
