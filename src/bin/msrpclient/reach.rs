//! Connects to a relay or a peer, over TLS or plain TCP.

use std::sync::Arc;

use msrprelay::{
    cli::msrpclient::{Address, HostPort, RelayArgs},
    client::{Endpoint, LoginCredentials, own_uri},
    msrp::Uri,
    tls::{self, Anchors, Verification},
    transport::{Dialler, Link, Resolver, Target},
};
use rustls::ClientConfig;

use super::{exit::Failure, password::password};

/// Authenticates at the relay of `address`, over a new connection.
pub(crate) async fn relay(address: &Address, args: &RelayArgs) -> Result<Endpoint, Failure> {
    let relay = args.relay.clone().unwrap_or_else(|| HostPort::of_domain(&address.domain));
    let port = relay.port_or_default();
    let credentials = LoginCredentials {
        user: address.user.clone(),
        domain: address.domain.clone(),
        password: password(args.password_file.as_deref(), &address.user)?,
        expires: args.expires.map(u64::from),
    };
    let target = Target { host: relay.host, port, tls: !args.no_tls };
    let link = connect(&target, args).await?;
    let endpoint = Endpoint::login(link, credentials, port).await?;
    eprintln!("authenticated as {}@{}", address.user.escape_debug(), address.domain);
    Ok(endpoint)
}

/// Opens a session with the peer at the first URI of a path, without a relay of our own.
pub(crate) async fn direct(uri: &Uri, args: &RelayArgs) -> Result<Endpoint, Failure> {
    let port = uri.port().map_or(Ok(2855), u16::try_from);
    let Ok(port) = port else {
        return Err(Failure::Usage(format!("the port of {uri} cannot be dialled")));
    };
    if args.no_tls && uri.secure() {
        return Err(Failure::Usage(format!("{uri} wants TLS, and --no-tls forbids it")));
    }
    let target = Target { host: uri.host().to_owned(), port, tls: uri.secure() };
    let link = connect(&target, args).await?;
    let own = own_uri(&link)?;
    Ok(Endpoint::direct(link, own))
}

async fn connect(target: &Target, args: &RelayArgs) -> Result<Link, Failure> {
    let resolver = Arc::new(Resolver::of_system());
    let dialler = Dialler { tls: client_config(args)?, resolver, permission: None };
    let link = dialler.connect(target, "").await;
    let link = link.map_err(|error| Failure::Client(error.into()))?;
    eprintln!("connected to {target} ({})", link.security());
    Ok(link)
}

/// Makes the TLS configuration. The certificate of the other side is verified unless an option
/// turns that off.
fn client_config(args: &RelayArgs) -> Result<Arc<ClientConfig>, Failure> {
    let verification = match (args.insecure || args.no_tls, &args.ca) {
        (true, _) => Verification::Off,
        (false, None) => Verification::Enforce { anchors: Anchors::system() },
        (false, Some(bundle)) => {
            let mut anchors = Anchors::empty();
            anchors.add_bundle(bundle).map_err(in_words)?;
            Verification::Enforce { anchors }
        }
    };
    tls::client_config(verification, None).map_err(in_words)
}

/// Turns a TLS error into a failure. Its text may name options of the relay; this one names those
/// of `msrpclient`.
pub(crate) fn in_words(error: tls::TlsError) -> Failure {
    match error {
        tls::TlsError::NoTrustAnchors => Failure::Failed(
            "no certificate authority is trusted here: install the package ca-certificates, or \
             name one with --ca FILE"
                .to_owned(),
        ),
        error => Failure::Failed(error.to_string()),
    }
}
