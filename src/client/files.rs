//! Reads, writes and hashes files. Each file has a thread of its own, because this work blocks.

use std::{
    fs::{self, File, OpenOptions},
    io::Read,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::{ClientError, disposition};

/// Octets read at a time.
const BLOCK: usize = 256 * 1024;
/// Most blocks that wait between disk and network.
const BLOCKS: usize = 4;
/// Highest number that is appended to a name that is taken.
const MAX_NUMBER: u32 = 999;

/// A regular file that is open for sending.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    path: PathBuf,
    octets: u64,
}

impl FileSource {
    /// Opens a file. Anything but a regular file is an error.
    pub fn open(path: &Path) -> Result<Self, ClientError> {
        let failed = |cause| file_error("read", path, cause);
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(std::io::Error::other("not a regular file")));
        }
        Ok(Self { file, path: path.to_owned(), octets: metadata.len() })
    }

    /// Size in octets when the file was opened. This much is sent.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// Starts the reading thread. Returns the blocks of the file and, after the last one, the
    /// SHA-256 of them all in hexadecimal. A file that got shorter is [`ClientError::Changed`].
    pub fn start(self) -> (mpsc::Receiver<Result<Bytes, ClientError>>, oneshot::Receiver<String>) {
        let (blocks, receiver) = mpsc::channel(BLOCKS);
        let (digest, digested) = oneshot::channel();
        thread::spawn(move || {
            if let Some(hash) = self.read(&blocks) {
                // The receiver is gone if the sending has failed.
                let _: Result<(), String> = digest.send(hash);
            }
        });
        (receiver, digested)
    }

    fn read(mut self, blocks: &mpsc::Sender<Result<Bytes, ClientError>>) -> Option<String> {
        let mut hash = Sha256::new();
        let mut left = self.octets;
        while left > 0 {
            let block = self.block(left);
            if let Ok(block) = &block {
                hash.update(block);
                left -= block.len() as u64;
            }
            let failed = block.is_err();
            if blocks.blocking_send(block).is_err() || failed {
                return None;
            }
        }
        Some(HEXLOWER.encode(&hash.finalize()))
    }

    fn block(&mut self, left: u64) -> Result<Bytes, ClientError> {
        let mut block = Vec::with_capacity(BLOCK);
        let mut limited = (&mut self.file).take(left.min(BLOCK as u64));
        match limited.read_to_end(&mut block) {
            Ok(0) => Err(ClientError::Changed { path: self.path.clone() }),
            Ok(_) => Ok(block.into()),
            Err(cause) => Err(file_error("read", &self.path, cause)),
        }
    }
}

/// Where a received file is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// In this directory, under the name that the sender gives, made safe. A name that is taken
    /// gets a number.
    Directory(PathBuf),
    /// As exactly this file. A file that is there is replaced.
    File(PathBuf),
}

impl Destination {
    fn directory(&self) -> &Path {
        match self {
            Self::Directory(path) => path,
            Self::File(path) => match path.parent() {
                Some(parent) if parent != Path::new("") => parent,
                _ => Path::new("."),
            },
        }
    }

    fn name(&self, offered: &str) -> String {
        match self {
            Self::Directory(_) => disposition::safe_name(offered),
            Self::File(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    /// Checks that the directory exists, before anything is received.
    pub fn check(&self) -> Result<(), ClientError> {
        let directory = self.directory();
        let metadata =
            fs::metadata(directory).map_err(|cause| file_error("write to", directory, cause))?;
        if metadata.is_dir() {
            return Ok(());
        }
        let cause = std::io::ErrorKind::NotADirectory.into();
        Err(file_error("write to", directory, cause))
    }
}

/// A file that is being received. It is written as `NAME.part`, renamed when it is complete, and
/// removed if the sink is dropped before.
#[derive(Debug)]
pub struct FileSink {
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

/// A file that is complete and has its final name.
#[derive(Debug)]
pub struct Kept {
    /// Path of the file.
    pub path: PathBuf,
    /// SHA-256 in hexadecimal. Closed without a value if the file cannot be read again.
    pub digest: oneshot::Receiver<String>,
}

#[derive(Debug)]
enum Command {
    Write { at: u64, octets: Bytes },
    Sync(oneshot::Sender<Result<(), ClientError>>),
    Keep { octets: u64, kept: oneshot::Sender<Result<Kept, ClientError>> },
}

impl FileSink {
    /// Creates the `.part` file. `offered` is the name that the sender gives.
    pub fn create(destination: &Destination, offered: &str) -> Result<Self, ClientError> {
        let writer = Writer::create(destination, offered)?;
        let (commands, receiver) = mpsc::channel(BLOCKS * 2);
        let thread = thread::spawn(move || writer.run(receiver));
        Ok(Self { commands: Some(commands), thread: Some(thread) })
    }

    /// Writes octets at position `at`, counted from 0. [`sync`](Self::sync) returns errors of
    /// earlier writes.
    pub async fn write(&self, at: u64, octets: Bytes) {
        self.send(Command::Write { at, octets }).await;
    }

    /// Waits until all octets have been written to the file. They may still be in the cache of the
    /// kernel.
    pub async fn sync(&self) -> Result<(), ClientError> {
        let (done, outcome) = oneshot::channel();
        self.send(Command::Sync(done)).await;
        outcome.await.unwrap_or(Err(ClientError::Nonsense("the writing thread ended")))
    }

    /// Gives the complete file of `octets` its final name.
    pub async fn keep(mut self, octets: u64) -> Result<Kept, ClientError> {
        let (kept, outcome) = oneshot::channel();
        // Do not join the thread: it may hash a file that came out of order, and the sender need
        // not wait for that.
        self.thread = None;
        self.send(Command::Keep { octets, kept }).await;
        outcome.await.unwrap_or(Err(ClientError::Nonsense("the writing thread ended")))
    }

    async fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // If the thread has ended, the caller that waits for its answer notices.
            let _: Result<_, _> = commands.send(command).await;
        }
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // The thread removes the `.part` file, or finishes the hash. If it panicked, that has
            // been printed.
            let _: Result<_, _> = thread.join();
        }
    }
}

/// The thread behind a [`FileSink`].
struct Writer {
    file: File,
    part: PathBuf,
    destination: Destination,
    name: String,
    hash: Sha256,
    hashed: u64,
    in_order: bool,
    failure: Option<ClientError>,
}

impl Writer {
    fn create(destination: &Destination, offered: &str) -> Result<Self, ClientError> {
        let name = destination.name(offered);
        let (file, part) = create_part(destination.directory(), &name)?;
        Ok(Self {
            file,
            part,
            destination: destination.clone(),
            name,
            hash: Sha256::new(),
            hashed: 0,
            in_order: true,
            failure: None,
        })
    }

    fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.blocking_recv() {
            match command {
                Command::Write { at, octets } => self.write(at, &octets),
                Command::Sync(done) => {
                    let outcome = self.failure.take().map_or(Ok(()), Err);
                    // The caller may have been dropped in the meantime.
                    let _: Result<_, _> = done.send(outcome);
                }
                Command::Keep { octets, kept } => return self.keep(octets, kept),
            }
        }
        // Best effort: there is nobody left to report an error to.
        let _: Result<_, _> = fs::remove_file(&self.part);
    }

    fn write(&mut self, at: u64, octets: &[u8]) {
        if self.failure.is_some() {
            return;
        }
        if let Err(cause) = self.file.write_all_at(octets, at) {
            self.failure = Some(file_error("write", &self.part, cause));
            return;
        }
        self.in_order &= at == self.hashed;
        if self.in_order {
            self.hash.update(octets);
            self.hashed += octets.len() as u64;
        }
    }

    fn keep(self, octets: u64, kept: oneshot::Sender<Result<Kept, ClientError>>) {
        let outcome = match self.failure {
            None => give_name(&self.part, &self.destination, &self.name),
            Some(error) => Err(error),
        };
        let path = match outcome {
            Ok(path) => path,
            Err(error) => {
                let _: Result<_, _> = fs::remove_file(&self.part);
                let _: Result<_, _> = kept.send(Err(error));
                return;
            }
        };
        let (digest, digested) = oneshot::channel();
        let _: Result<_, _> = kept.send(Ok(Kept { path: path.clone(), digest: digested }));
        let whole = self.in_order && self.hashed == octets;
        let hash = if whole { Ok(self.hash) } else { hash_file(&path) };
        if let Ok(hash) = hash {
            let _: Result<_, _> = digest.send(HEXLOWER.encode(&hash.finalize()));
        }
    }
}

/// Hashes a file whose octets did not arrive in order.
fn hash_file(path: &Path) -> std::io::Result<Sha256> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; BLOCK];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hash),
            read => hash.update(&block[..read]),
        }
    }
}

fn create_part(directory: &Path, name: &str) -> Result<(File, PathBuf), ClientError> {
    create_free(directory, |number| match number {
        0 => format!("{name}.part"),
        number => format!("{name} ({number}).part"),
    })
}

fn give_name(part: &Path, to: &Destination, name: &str) -> Result<PathBuf, ClientError> {
    let path = match to {
        Destination::File(path) => path.clone(),
        // Creating an empty file reserves the name.
        Destination::Directory(directory) => {
            let (_, path) = create_free(directory, |number| match number {
                0 => name.to_owned(),
                number => disposition::numbered(name, number),
            })?;
            path
        }
    };
    fs::rename(part, &path).map_err(|cause| file_error("create", &path, cause))?;
    Ok(path)
}

/// Creates the first file, by number, whose name is free. Never overwrites a file.
fn create_free(
    directory: &Path,
    name: impl Fn(u32) -> String,
) -> Result<(File, PathBuf), ClientError> {
    for number in 0..=MAX_NUMBER {
        let path = directory.join(name(number));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(cause) => return Err(file_error("create", &path, cause)),
        }
    }
    let cause = std::io::ErrorKind::AlreadyExists.into();
    Err(file_error("create", &directory.join(name(0)), cause))
}

fn file_error(action: &'static str, path: &Path, cause: std::io::Error) -> ClientError {
    ClientError::File { action, path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    async fn write(destination: Destination, pieces: &[(u64, &str)], octets: u64) -> Kept {
        let sink = FileSink::create(&destination, "hello.txt").unwrap();
        for (at, piece) in pieces {
            sink.write(*at, Bytes::copy_from_slice(piece.as_bytes())).await;
        }
        sink.sync().await.unwrap();
        sink.keep(octets).await.unwrap()
    }

    #[tokio::test]
    async fn pieces_in_any_order_make_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        for (number, pieces) in [
            vec![(0, "hel"), (3, "lo")],
            vec![(3, "lo"), (0, "hel")],
            vec![(0, "hexx"), (2, "llo")],
        ]
        .into_iter()
        .enumerate()
        {
            let to = Destination::Directory(dir.path().to_owned());
            let kept = write(to, &pieces, 5).await;
            assert_eq!(fs::read_to_string(&kept.path).unwrap(), "hello");
            assert_eq!(kept.digest.await.unwrap(), HELLO);
            let name =
                if number == 0 { "hello.txt".into() } else { format!("hello ({number}).txt") };
            assert_eq!(kept.path, dir.path().join(name));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "no .part is left");
    }

    #[tokio::test]
    async fn a_named_file_is_replaced_and_an_unfinished_one_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "old").unwrap();
        let to = Destination::File(path.clone());
        let sink = FileSink::create(&to, "ignored").unwrap();
        sink.write(0, Bytes::from_static(b"new")).await;
        drop(sink);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let kept = write(to, &[(0, "hello")], 5).await;
        assert_eq!(fs::read_to_string(kept.path).unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error_in_words() {
        let part = PathBuf::from("/dev/full");
        let file = OpenOptions::new().write(true).open(&part).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let destination = Destination::Directory(dir.path().to_owned());
        let mut writer = Writer::create(&destination, "x").unwrap();
        writer.file = file;
        writer.write(0, b"octets");
        let error = writer.failure.unwrap().to_string();
        assert!(error.starts_with("cannot write") && error.contains("No space left"), "{error}");
    }

    #[tokio::test]
    async fn a_file_is_read_in_blocks_and_hashed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, vec![7; BLOCK * 2 + 1]).unwrap();
        let source = FileSource::open(&path).unwrap();
        assert_eq!(source.octets(), BLOCK as u64 * 2 + 1);
        let (mut blocks, digest) = source.start();
        let mut sizes = Vec::new();
        while let Some(block) = blocks.recv().await {
            sizes.push(block.unwrap().len());
        }
        assert_eq!(sizes, [BLOCK, BLOCK, 1]);
        let expected = HEXLOWER.encode(&Sha256::digest(fs::read(&path).unwrap()));
        assert_eq!(digest.await.unwrap(), expected);
        assert!(FileSource::open(dir.path()).is_err(), "a directory is no file");
    }

    #[tokio::test]
    async fn a_file_that_shrinks_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "1234").unwrap();
        let source = FileSource::open(&path).unwrap();
        fs::write(&path, "12").unwrap();
        let (mut blocks, _) = source.start();
        assert_eq!(blocks.recv().await.unwrap().unwrap(), "12");
        assert!(matches!(blocks.recv().await, Some(Err(ClientError::Changed { .. }))));
    }
}
