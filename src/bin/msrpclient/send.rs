//! `msrpclient send`

use std::{io, path::Path as FilePath, time::Duration};

use msrprelay::{
    cli::msrpclient::{SendArgs, To, parse_path},
    client::{ClientError, Endpoint, Message, Progress, files::FileSource, send_file},
    msrp::Path,
};
use tokio::time::{sleep, timeout};

use super::{exit::Failure, progress::Meter, reach};

/// How long `--to @FILE` waits for its file.
const PATH_FILE_TIMEOUT: Duration = Duration::from_mins(1);
/// Pause between two attempts to read that file.
const PATH_FILE_PAUSE: Duration = Duration::from_millis(100);

/// Sends one file.
pub(crate) async fn run(args: SendArgs) -> Result<(), Failure> {
    // Open the file before anything is sent, so that a bad file disturbs nobody.
    let source = FileSource::open(&args.file)?;
    let to = match &args.to {
        To::Path(path) => path.clone(),
        To::File(file) => path_from(file).await?,
    };
    let mut endpoint = match &args.account {
        Some(address) if !args.direct => reach::relay(address, &args.relay).await?,
        _ => reach::direct(to.first(), &args.relay).await?,
    };
    endpoint.set_peer(to);
    let outcome = send(&mut endpoint, &args.file, source).await;
    // Close on failure, too: an abort and the last responses must still leave.
    endpoint.close().await;
    outcome
}

async fn send(endpoint: &mut Endpoint, file: &FilePath, source: FileSource) -> Result<(), Failure> {
    let total = source.octets();
    let message = Message::file(endpoint, file, total);
    let (blocks, digest) = source.start();
    let mut meter = Meter::new();
    let mut progress = Progress::default();
    meter.start(Some(total));
    let outcome = send_file(endpoint, message, blocks, |now| {
        progress = now;
        meter.set(now.sent);
    })
    .await;
    meter.clear();
    if let Err(error) = outcome {
        return Err(failure(progress, error));
    }
    meter.set(total);
    eprintln!("sent {}: {}", file.display(), meter.summary());
    if let Ok(digest) = digest.await {
        eprintln!("SHA-256 {digest}");
    }
    Ok(())
}

fn failure(progress: Progress, error: ClientError) -> Failure {
    if matches!(error, ClientError::Lost(_)) {
        eprintln!("{} bytes were confirmed by the receiver", progress.confirmed);
    }
    Failure::after(progress.sent, "sent", error)
}

/// Reads the path from a file that may not exist yet.
async fn path_from(file: &FilePath) -> Result<Path, Failure> {
    match timeout(PATH_FILE_TIMEOUT, appearing(file)).await {
        Ok(Ok(text)) => parse_path(&text).map_err(Failure::Failed),
        Ok(Err(cause)) => Err(Failure::Failed(format!("cannot read {}: {cause}", file.display()))),
        Err(_) => Err(Failure::Failed(format!(
            "{} did not appear within {} s: is the receiver running?",
            file.display(),
            PATH_FILE_TIMEOUT.as_secs()
        ))),
    }
}

/// Waits until the file ends with a complete line. Its writer may need several writes.
async fn appearing(file: &FilePath) -> io::Result<String> {
    loop {
        match tokio::fs::read_to_string(file).await {
            Ok(text) if text.ends_with('\n') => return Ok(text),
            Ok(_) => {}
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(cause),
        }
        sleep(PATH_FILE_PAUSE).await;
    }
}
