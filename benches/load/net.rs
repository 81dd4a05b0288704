//! Connections of the load generator and of the baseline, with the crypto provider of the relay.

use std::{io, path::Path, sync::Arc};

use bytes::BytesMut;
use msrprelay::msrp::{self, Event};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{failure::Failure, wire::Parser};

/// The host in the certificate, in AUTH and so the realm of the user.
pub(crate) const HOST: &str = "localhost";
pub(crate) const CERTIFICATE: &str = "certificate.pem";
pub(crate) const KEY: &str = "key.pem";

/// What carries MSRP.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum, Debug)]
pub(crate) enum Over {
    Tls,
    Tcp,
}

impl Over {
    pub(crate) const fn scheme(self) -> &'static str {
        match self {
            Self::Tls => "msrps",
            Self::Tcp => "msrp",
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
        }
    }
}

/// A stream of either kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Both sides of TLS with one self-signed certificate, or nothing over TCP.
#[derive(Clone)]
pub(crate) struct Tls(Option<(TlsAcceptor, TlsConnector)>);

impl Tls {
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Reads the pair written by [`write_certificate`].
    pub(crate) fn load(directory: &Path) -> Result<Self, Failure> {
        let certificate = CertificateDer::from_pem_file(directory.join(CERTIFICATE))
            .map_err(|error| Failure::Setup(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_file(directory.join(KEY))
            .map_err(|error| Failure::Setup(error.to_string()))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone())?;
        let server = server_config(Arc::clone(&provider), certificate, key)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Some((Arc::new(server).into(), Arc::new(client).into()))))
    }

    /// Speaks first.
    pub(crate) async fn connect(&self, tcp: TcpStream) -> io::Result<Box<dyn Stream>> {
        tcp.set_nodelay(true)?;
        let Some((_, connector)) = &self.0 else {
            return Ok(Box::new(tcp));
        };
        let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
        Ok(Box::new(connector.connect(name, tcp).await?))
    }

    /// Is spoken to.
    pub(crate) async fn accept(&self, tcp: TcpStream) -> io::Result<Box<dyn Stream>> {
        tcp.set_nodelay(true)?;
        let Some((acceptor, _)) = &self.0 else {
            return Ok(Box::new(tcp));
        };
        Ok(Box::new(acceptor.accept(tcp).await?))
    }
}

fn server_config(
    provider: Arc<CryptoProvider>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
}

/// Makes a certificate for [`HOST`] and its key (P-256).
pub(crate) fn write_certificate(directory: &Path) -> Result<(), Failure> {
    let pair = rcgen::generate_simple_self_signed([HOST.to_owned()])
        .map_err(|error| Failure::Setup(error.to_string()))?;
    std::fs::write(directory.join(CERTIFICATE), pair.cert.pem())?;
    std::fs::write(directory.join(KEY), pair.signing_key.serialize_pem())?;
    Ok(())
}

/// The reading side of a connection.
pub(crate) struct Incoming {
    half: ReadHalf<Box<dyn Stream>>,
    parser: Parser,
}

/// The writing side of a connection.
pub(crate) struct Outgoing {
    half: WriteHalf<Box<dyn Stream>>,
    /// Composed and not yet written.
    pub(crate) buffer: BytesMut,
}

/// One end of a session.
pub(crate) struct End {
    pub(crate) incoming: Incoming,
    pub(crate) outgoing: Outgoing,
    pub(crate) to_path: msrp::Path,
    pub(crate) own_uri: msrp::Uri,
}

pub(crate) fn split(stream: Box<dyn Stream>) -> (Incoming, Outgoing) {
    let (reading, writing) = tokio::io::split(stream);
    (
        Incoming { half: reading, parser: Parser::default() },
        Outgoing { half: writing, buffer: BytesMut::new() },
    )
}

impl Incoming {
    /// Waits until the peer has said something; the end of the stream is a failure.
    pub(crate) async fn read(&mut self) -> Result<(), Failure> {
        use tokio::io::AsyncReadExt as _;

        let octets = self.half.read_buf(self.parser.space()).await?;
        if octets == 0 {
            return Err(Failure::Closed);
        }
        Ok(())
    }

    /// The next event of what was read.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, Failure> {
        self.parser.next()
    }
}

impl Outgoing {
    /// Writes what was composed.
    pub(crate) async fn write(&mut self) -> Result<(), Failure> {
        self.half.write_all(&self.buffer).await?;
        self.half.flush().await?;
        self.buffer.clear();
        Ok(())
    }

    /// Says goodbye: `close_notify`, then the end of the TCP stream.
    pub(crate) async fn close(&mut self) -> Result<(), Failure> {
        Ok(self.half.shutdown().await?)
    }
}
