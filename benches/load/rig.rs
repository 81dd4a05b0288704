//! Relay, baseline and receiver, set up side by side in the same shape: sender to relay, relay
//! to receiver, the receiver being dialled.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinSet,
    time::timeout,
};

use crate::{
    content::Content,
    failure::Failure,
    net::{self, HOST, Over, Tls},
    process::Process,
    receiver::{Receiver, Sink},
    sender::{Contestant, PASSWORD, Sender, Target, USER},
};

/// Sessions that connect and AUTH at the same time.
const OPENING: usize = 64;
/// For one session to open.
const OPENING_LIMIT: Duration = Duration::from_secs(30);

/// Everything that one scenario needs; the processes are fresh.
pub(crate) struct Rig {
    over: Over,
    tls: Tls,
    sink: Sink,
    relay: Process,
    copier: Process,
    content: Content,
    _directory: TempDir,
}

/// Both ends of one session.
pub(crate) struct Pair {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    pub(crate) content: Content,
}

impl Rig {
    pub(crate) async fn start(program: &Path, over: Over) -> Result<Self, Failure> {
        let directory = TempDir::new()?;
        let tls = match over {
            Over::Tcp => Tls::none(),
            Over::Tls => {
                net::write_certificate(directory.path())?;
                Tls::load(directory.path())?
            }
        };
        let sink = Sink::listen(over, tls.clone()).await?;
        let relay = Process::start(&mut relay_command(program, over, directory.path())?)?;
        let copier = Process::start(&mut copier_command(&sink, over, directory.path())?)?;
        let content = Content::new();
        Ok(Self { over, tls, sink, relay, copier, content, _directory: directory })
    }

    pub(crate) const fn over(&self) -> Over {
        self.over
    }

    pub(crate) const fn process(&self, contestant: Contestant) -> &Process {
        match contestant {
            Contestant::Relay => &self.relay,
            Contestant::Copier => &self.copier,
        }
    }

    /// Opens sessions until a first message has gone through each.
    pub(crate) async fn open(
        &self,
        contestant: Contestant,
        count: usize,
    ) -> Result<Vec<Pair>, Failure> {
        let target = Target {
            contestant,
            over: self.over,
            address: self.process(contestant).address,
            tls: self.tls.clone(),
        };
        let turns = Arc::new(Semaphore::new(OPENING));
        let mut opening = JoinSet::new();
        for number in 0..count {
            let (target, turns) = (target.clone(), Arc::clone(&turns));
            let (uri, arrived) = self.sink.expect();
            let content = self.content.of_session(number);
            opening.spawn(async move {
                let _turn = turns.acquire().await;
                timeout(OPENING_LIMIT, Pair::open(&target, &uri, arrived, content, number)).await?
            });
        }
        let mut pairs = Vec::with_capacity(count);
        while let Some(pair) = opening.join_next().await {
            pairs.push(pair??);
        }
        Ok(pairs)
    }
}

impl Pair {
    async fn open(
        target: &Target,
        receiver: &str,
        arrived: oneshot::Receiver<Receiver>,
        content: Content,
        number: usize,
    ) -> Result<Self, Failure> {
        let mut sender = Sender::open(target, receiver, number).await?;
        sender.message(b"hello").await?;
        let receiver = arrived.await.map_err(|_| Failure::Closed)?;
        Ok(Self { sender, receiver, content })
    }
}

/// Closes both ends of each session; how the other side takes it is not judged here.
pub(crate) async fn close(pairs: Vec<Pair>) {
    for Pair { sender, receiver, .. } in pairs {
        let _ = sender.close().await;
        let _ = receiver.close().await;
    }
}

fn relay_command(program: &Path, over: Over, directory: &Path) -> Result<Command, Failure> {
    let config = directory.join("config.ini");
    fs::write(&config, configuration(over, directory))?;
    let mut command = Command::new(program);
    command.arg("--no-fork").arg("--config-file").arg(config);
    command.arg("--runtime-dir").arg(directory);
    Ok(command)
}

/// Limits per address and user are off: everybody here is one user at one address.
fn configuration(over: Over, directory: &Path) -> String {
    let security = match over {
        Over::Tcp => "debug_notls = Yes\n".to_owned(),
        Over::Tls => format!(
            "certificate = {}\nkey = {}\n",
            directory.join(net::CERTIFICATE).display(),
            directory.join(net::KEY).display()
        ),
    };
    format!(
        "[Relay]\naddress = 127.0.0.1:0\n{security}backend = memory\n\
         allowed_peers = 127.0.0.0/8\nmax_connections = 0\nmax_connections_per_ip = 0\n\
         max_unauthenticated = 0\nmax_sessions_per_user = 0\nlog_level = INFO\n\n\
         [Memory]\n{USER}@{HOST} = {PASSWORD}\n"
    )
}

fn copier_command(sink: &Sink, over: Over, directory: &Path) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--copier").arg(sink.address.to_string());
    if over == Over::Tls {
        command.arg("--tls").arg(directory);
    }
    Ok(command)
}

/// The relay that cargo built with this benchmark.
pub(crate) fn built_relay() -> PathBuf {
    env!("CARGO_BIN_EXE_msrprelay").into()
}
