//! `msrpclient receive`

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
    time::Duration,
};

use msrprelay::{
    cli::msrpclient::{HostPort, ReceiveArgs},
    client::{
        ClientError, Endpoint, Watcher,
        files::{Destination, Kept},
        mint, receive_file,
    },
    msrp::{Path, Uri},
    tls::{self, Identity},
    transport,
};
use rustls::ServerConfig;
use tokio::{net::TcpListener, time::timeout};

use super::{exit::Failure, progress::Meter, reach};

/// Time for the TLS handshake of an accepted connection.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Receives one file.
pub(crate) async fn run(args: ReceiveArgs) -> Result<(), Failure> {
    let destination = destination(args.output.as_deref());
    destination.check()?;
    match (&args.listen, &args.account) {
        (Some(listen), _) => listening(listen, &args, &destination).await,
        (None, Some(address)) => {
            let mut endpoint = reach::relay(address, &args.relay).await?;
            announce(&endpoint.path(), args.path_file.as_deref())?;
            let mut screen = Screen::new();
            let outcome = receive(&mut endpoint, &destination, &mut screen).await;
            endpoint.close().await;
            outcome
        }
        (None, None) => Err(Failure::Usage("USER@DOMAIN or --listen is wanted".to_owned())),
    }
}

/// Where the file goes: into a directory, or to exactly this path.
fn destination(output: Option<&FilePath>) -> Destination {
    let output = output.unwrap_or(FilePath::new("."));
    let ends_as_directory = output.as_os_str().as_encoded_bytes().ends_with(b"/");
    if ends_as_directory || output.is_dir() {
        return Destination::Directory(output.to_owned());
    }
    if output.exists() {
        eprintln!("{} will be replaced when the file is whole", output.display());
    }
    Destination::File(output.to_owned())
}

/// Waits for connections and receives a file from the first peer that sends one. A peer that leaves
/// without sending a file does not count.
async fn listening(
    listen: &HostPort,
    args: &ReceiveArgs,
    destination: &Destination,
) -> Result<(), Failure> {
    let config = server_config(args)?;
    let listener = bind(listen).await?;
    let port = listener.local_addr().map_err(failed("cannot listen"))?.port();
    let own = mint(config.is_some(), &listen.host, port)?;
    let path = Path::from_uris(std::slice::from_ref(&own));
    announce(&path.unwrap_or_else(|| unreachable!("one URI")), args.path_file.as_deref())?;
    loop {
        let (tcp, peer) = listener.accept().await.map_err(failed("cannot accept a connection"))?;
        let accepting = transport::accept(tcp, peer, config.clone());
        let link = match timeout(HANDSHAKE_TIMEOUT, accepting).await {
            Ok(Ok(link)) => link,
            Ok(Err(error)) => {
                eprintln!("{peer}: {error}");
                continue;
            }
            Err(_) => {
                eprintln!("{peer}: no TLS within {} s", HANDSHAKE_TIMEOUT.as_secs());
                continue;
            }
        };
        eprintln!("connection from {peer} ({})", link.security());
        let mut endpoint = Endpoint::direct(link, own.clone());
        let mut screen = Screen::new();
        let outcome = receive(&mut endpoint, destination, &mut screen).await;
        endpoint.close().await;
        match outcome {
            Err(Failure::Lost { .. }) if !screen.meter.started() => {
                eprintln!("{peer} left without sending a file; waiting for the next one");
            }
            outcome => return outcome,
        }
    }
}

async fn bind(listen: &HostPort) -> Result<TcpListener, Failure> {
    let host = &listen.host;
    let mut addresses = tokio::net::lookup_host((host.as_str(), listen.port.unwrap_or(0)))
        .await
        .map_err(failed("cannot listen"))?;
    let Some(address) = addresses.next() else {
        return Err(Failure::Failed(format!("cannot listen: {host} has no address")));
    };
    if address.ip().is_unspecified() {
        return Err(Failure::Usage(format!(
            "--listen {host}: give the address that the other side will dial"
        )));
    }
    listen_at(address).map_err(|cause| Failure::Failed(cause.to_string()))
}

fn listen_at(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::from_std(transport::listen(address)?)
}

fn server_config(args: &ReceiveArgs) -> Result<Option<Arc<ServerConfig>>, Failure> {
    if args.relay.no_tls {
        return Ok(None);
    }
    let (Some(certificate), Some(key)) = (&args.certificate, &args.key) else {
        return Err(Failure::Usage(
            "--listen needs --certificate FILE and --key FILE, or --no-tls".to_owned(),
        ));
    };
    let identity = Identity::load(certificate, key).map_err(reach::in_words)?;
    tls::server_config(&[identity]).map(Some).map_err(reach::in_words)
}

/// Prints the path, and writes it to `file`, for which another program may be waiting.
fn announce(path: &Path, file: Option<&FilePath>) -> Result<(), Failure> {
    let line = format!("{}\n", String::from_utf8_lossy(path.text()));
    if let Some(file) = file {
        write_whole(file, &line).map_err(|cause| {
            Failure::Failed(format!("cannot write {}: {cause}", file.display()))
        })?;
    }
    let mut stdout = std::io::stdout();
    stdout
        .write_all(line.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(failed("cannot print the path"))?;
    eprintln!("waiting for a file");
    Ok(())
}

/// Writes a file in one step: a program that waits for it sees all of the text or no file.
fn write_whole(file: &FilePath, text: &str) -> std::io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary: PathBuf = file.with_file_name(name);
    fs::write(&temporary, text)?;
    fs::rename(&temporary, file).inspect_err(|_| {
        // Clean up. Of the two errors, the caller needs the first.
        let _: std::io::Result<()> = fs::remove_file(&temporary);
    })
}

async fn receive(
    endpoint: &mut Endpoint,
    destination: &Destination,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let outcome = receive_file(endpoint, destination, screen).await;
    screen.meter.clear();
    match outcome {
        Ok(kept) => finished(kept, endpoint.peer().map(Path::last), screen).await,
        Err(error) => Err(failure(&screen.meter, error)),
    }
}

async fn finished(kept: Kept, from: Option<&Uri>, screen: &Screen) -> Result<(), Failure> {
    let from = from.map(|uri| format!(" from {uri}")).unwrap_or_default();
    eprintln!("received {}{from}: {}", kept.path.display(), screen.meter.summary());
    let digest = kept.digest.await.map_err(|_| {
        Failure::Failed(format!("cannot read {} to compute its hash", kept.path.display()))
    })?;
    eprintln!("SHA-256 {digest}");
    Ok(())
}

fn failure(meter: &Meter, error: ClientError) -> Failure {
    Failure::after(meter.octets(), "received", error)
}

fn failed(what: &'static str) -> impl Fn(std::io::Error) -> Failure {
    move |cause| Failure::Failed(format!("{what}: {cause}"))
}

/// Shows the transfer on the terminal.
struct Screen {
    meter: Meter,
}

impl Screen {
    fn new() -> Self {
        Self { meter: Meter::new() }
    }
}

impl Watcher for Screen {
    fn offered(&mut self, name: &str, total: Option<u64>) {
        let size = total.map_or_else(|| "of unknown size".to_owned(), |t| format!("{t} bytes"));
        self.meter.say(&format!("receiving \"{}\", {size}", name.escape_debug()));
        self.meter.start(total);
    }

    fn arrived(&mut self, octets: u64) {
        self.meter.set(octets);
    }

    fn said(&mut self, text: &str) {
        for line in text.lines() {
            let shown: String = line.chars().filter(|c| !c.is_control()).collect();
            self.meter.say(&format!("says: {shown}"));
        }
    }
}
