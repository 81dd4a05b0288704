//! Certificates to test with.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    pki_types::ServerName,
};
use tempfile::TempDir;

use super::{Anchors, Identity};

mod scripts;

/// Writes a self-signed pair as `NAME.crt` and `NAME.key`.
pub(super) fn write_pair(dir: &Path, name: &str, sans: &[&str]) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let certificate = params(name, sans).self_signed(&key).unwrap();
    (
        write(dir, &format!("{name}.crt"), certificate.pem()),
        write_key(dir, &format!("{name}.key"), &key.serialize_pem()),
    )
}

pub(super) fn params(common_name: &str, sans: &[&str]) -> CertificateParams {
    let names: Vec<String> = sans.iter().map(|&san| san.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

pub(super) fn write(dir: &Path, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, contents).unwrap();
    path
}

pub(super) fn write_key(dir: &Path, name: &str, contents: &str) -> PathBuf {
    let path = write(dir, name, contents);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A self-signed identity for `sans`.
pub(crate) fn identity(sans: &[&str]) -> Identity {
    let dir = TempDir::new().unwrap();
    let (certificate, key) = write_pair(dir.path(), sans[0], sans);
    Identity::load(&certificate, &key).unwrap()
}

pub(crate) fn trusting(identity: &Identity) -> Anchors {
    let mut anchors = Anchors::empty();
    anchors.add(identity.chain()[0].clone()).unwrap();
    anchors
}

pub(super) fn openssl(arguments: &[&str], dir: &Path) {
    let output = Command::new("openssl").args(arguments).current_dir(dir).output();
    assert_success(&output.expect("the tests need openssl"));
}

pub(super) fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The same for rustls's own verifiers.
pub(crate) fn roots(identity: &Identity) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(identity.chain()[0].clone()).unwrap();
    roots
}

/// A handshake in memory, as the client sees it.
pub(super) fn shake_hands(
    name: &'static str,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> Result<(), rustls::Error> {
    let mut client = ClientConnection::new(client, ServerName::try_from(name).unwrap()).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    while client.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &*wire).unwrap();
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &*wire).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}
