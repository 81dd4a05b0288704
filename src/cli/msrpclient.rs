//! The command line of `msrpclient`.

use std::{path::PathBuf, str::FromStr};

use crate::msrp::Path;
use clap::{Parser, Subcommand};

/// The default port of MSRP (RFC 4975 §15.4).
const DEFAULT_PORT: u16 = 2855;

/// Sends and receives files over MSRP, through relays (RFC 4976) or directly (RFC 4975).
///
/// Both sides print the SHA-256 of the file. Start `msrpclient receive` first: it prints a path,
/// which is what `msrpclient send --to` takes.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_STATUS)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_STATUS: &str = "Exit status:
  0  every byte arrived
  1  refused or failed
  2  wrong usage
  3  connection lost after N bytes (N is printed)";

/// What `msrpclient` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send one file and wait until the receiver has confirmed every byte of it.
    #[command(after_help = SEND_EXAMPLES)]
    Send(SendArgs),
    /// Receive one file.
    ///
    /// Prints the path for the sender, and nothing else, as one line on the standard output.
    /// Everything else goes to the standard error. Ends after one file.
    #[command(after_help = RECEIVE_EXAMPLES)]
    Receive(ReceiveArgs),
}

const SEND_EXAMPLES: &str = "Examples:
  msrpclient send photo.jpg alice@example.com --to @/tmp/path
  msrpclient send photo.jpg --direct --to 'msrps://relay.example.com:2855/x1;tcp msrps://10.0.0.5:40001/x2;tcp'";

const RECEIVE_EXAMPLES: &str = "Examples:
  msrpclient receive bob@example.com --output downloads/ --path-file /tmp/path
  msrpclient receive --listen 192.0.2.7:4000 --no-tls";

// No doc comments on the groups of options: clap would show them.
#[derive(Debug, clap::Args)]
#[expect(missing_docs, reason = "the explanations of the options are its own")]
pub struct SendArgs {
    /// The file to send.
    pub file: PathBuf,
    /// Who you are at your relay. Not needed with --direct.
    #[arg(value_name = "USER@DOMAIN", required_unless_present = "direct")]
    pub account: Option<Address>,
    /// The path to send to: the line that `msrpclient receive` prints, as one argument. With @FILE,
    /// it is read from the file that the receiver writes with --path-file. FILE may appear up to 60
    /// seconds later.
    #[arg(long, value_name = "PATH|@FILE")]
    pub to: To,
    /// Use no relay of your own: connect to the first URI of the path.
    #[arg(long, conflicts_with_all = ["relay", "password_file", "expires"])]
    pub direct: bool,
    #[command(flatten)]
    pub relay: RelayArgs,
}

#[derive(Debug, clap::Args)]
#[expect(missing_docs, reason = "see SendArgs")]
pub struct ReceiveArgs {
    /// Who you are at your relay. Not needed with --listen.
    #[arg(value_name = "USER@DOMAIN", required_unless_present = "listen")]
    pub account: Option<Address>,
    /// Where to store the file. In a directory (default: the current one) it gets the name that the
    /// sender gives, and replaces no other file. Any other value is the file itself, which is
    /// replaced if it exists.
    #[arg(long, value_name = "FILE|DIR")]
    pub output: Option<PathBuf>,
    /// Also write the path to this file. The file appears only when it is complete.
    #[arg(long, value_name = "FILE")]
    pub path_file: Option<PathBuf>,
    /// Use no relay of your own: listen at this address, which the sender must be able to reach.
    /// Without a port, a free one is chosen. Needs --certificate and --key, or --no-tls.
    #[arg(
        long,
        value_name = "ADDRESS",
        conflicts_with_all = ["relay", "password_file", "expires", "ca", "insecure"]
    )]
    pub listen: Option<HostPort>,
    /// The certificate to show with --listen, a PEM file.
    #[arg(long, value_name = "FILE", requires = "listen", requires = "key")]
    pub certificate: Option<PathBuf>,
    /// Its private key, a PEM file.
    #[arg(long, value_name = "FILE", requires = "listen", requires = "certificate")]
    pub key: Option<PathBuf>,
    #[command(flatten)]
    pub relay: RelayArgs,
}

#[derive(Debug, clap::Args)]
#[expect(missing_docs, reason = "see SendArgs")]
pub struct RelayArgs {
    /// Your relay. Default: the domain itself, port 2855. DNS SRV records are not looked up.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub relay: Option<HostPort>,
    /// Trust the certificate authorities in this PEM file instead of those of the system. A
    /// self-signed certificate can be given here itself.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["insecure", "no_tls"])]
    pub ca: Option<PathBuf>,
    /// Do not check the certificate of the other side. Anybody could pretend to be it.
    #[arg(long, conflicts_with = "no_tls")]
    pub insecure: bool,
    /// Use plain TCP instead of TLS. Everybody on the way can read along.
    #[arg(long)]
    pub no_tls: bool,
    /// Read the password from the first line of this file. Default: the environment variable
    /// `MSRP_PASSWORD`. If that is not set, you are asked.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Ask the relay for a session of this many seconds. It is refreshed in time. Default: the
    /// relay decides.
    #[arg(long, value_name = "SECONDS")]
    pub expires: Option<u32>,
}

/// `user@domain`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// User name: the part before the last `@`.
    pub user: String,
    /// Domain: the part after it.
    pub domain: String,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix("sip:").unwrap_or(text);
        match text.rsplit_once('@') {
            Some((user, domain)) if !user.is_empty() && !domain.is_empty() => {
                Ok(Self { user: user.to_owned(), domain: domain.to_owned() })
            }
            _ => Err("not of the form USER@DOMAIN".to_owned()),
        }
    }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port` or an IPv6 address without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// `None` stands for the default port of MSRP.
    pub port: Option<u16>,
}

impl HostPort {
    /// The port, or the default port of MSRP.
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(DEFAULT_PORT)
    }

    /// The host of this name, at the default port. Brackets around an IPv6 address are removed.
    pub fn of_domain(domain: &str) -> Self {
        let host = domain.trim_start_matches('[').trim_end_matches(']');
        Self { host: host.to_owned(), port: None }
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or("no : behind the ]")?)),
            None if text.parse::<std::net::Ipv6Addr>().is_ok() => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if host.is_empty() {
            return Err("no host".to_owned());
        }
        let port = port
            .map(|port| port.parse().map_err(|_| format!("{port:?} is no port")))
            .transpose()?;
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Where to send a file.
#[derive(Debug, Clone, PartialEq)]
pub enum To {
    /// To this path.
    Path(Path),
    /// To the path in this file, which may not exist yet.
    File(PathBuf),
}

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix('@') {
            Some("") => Err("no file behind the @".to_owned()),
            Some(file) => Ok(Self::File(file.into())),
            None => parse_path(text).map(Self::Path),
        }
    }
}

/// Parses a path as a person passes it on: URIs separated by spaces. All must use TCP.
pub fn parse_path(text: &str) -> Result<Path, String> {
    let path = Path::parse(text.trim().as_bytes()).map_err(|cause| {
        format!("{text:?} is no path, as `msrpclient receive` prints it: {cause}")
    })?;
    match path.iter().find(|uri| !uri.transport().eq_ignore_ascii_case("tcp")) {
        Some(uri) => Err(format!("{uri} is not for TCP")),
        None => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn hosts_and_ports() {
        for (text, host, port) in [
            ("relay", "relay", None),
            ("relay:1", "relay", Some(1)),
            ("[::1]:2", "::1", Some(2)),
            ("[::1]", "::1", None),
            ("::1", "::1", None),
            ("127.0.0.1:65535", "127.0.0.1", Some(65535)),
        ] {
            assert_eq!(text.parse(), Ok(HostPort { host: host.to_owned(), port }), "{text}");
        }
        for bad in ["", ":1", "a:", "a:65536", "a:b", "[::1]1", "[]"] {
            assert!(bad.parse::<HostPort>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_and_paths() {
        let address: Address = "a@b@example.com".parse().unwrap();
        assert_eq!((address.user.as_str(), address.domain.as_str()), ("a@b", "example.com"));
        assert!("alice".parse::<Address>().is_err() && "@x".parse::<Address>().is_err());
        assert_eq!("@f".parse(), Ok(To::File("f".into())));
        let To::Path(path) = " msrp://a:1/x;tcp msrp://b:2/y;tcp\n".parse().unwrap() else {
            panic!("no path")
        };
        assert_eq!(path.len(), 2);
        for bad in ["", "@", "http://x", "msrp://a:1/x;ws"] {
            assert!(bad.parse::<To>().is_err(), "{bad}");
        }
    }
}
