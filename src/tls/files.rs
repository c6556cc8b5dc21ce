//! Reads PEM files, and the system's roots, into a configuration. A fault names the file's purpose and the rule, never a
//! path.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, InconsistentKeys, RootCertStore};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::system_roots::SystemRoots;
use super::validity::valid_until;
use crate::domain::time::UnixMillis;

/// The PEM files of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Roots that are trusted beside those of the system.
    pub ca: Option<PathBuf>,
    /// The client certificate with its chain, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// A bundle of all public roots has a quarter of it.
const BYTES_MAX: u64 = 1024 * 1024;

/// The purpose of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFile {
    Ca,
    ClientCertificate,
    ClientKey,
    /// The roots of this machine.
    System,
}

/// A file that cannot be used. `problem` follows the name of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFault {
    pub file: TlsFile,
    pub problem: String,
}

impl FileFault {
    fn new(file: TlsFile, problem: impl Into<String>) -> FileFault {
        FileFault { file, problem: problem.into() }
    }

    pub(super) fn no_system_roots() -> FileFault {
        let problem = "needs certificates of authorities for TLS, and this machine has none (SSL_CERT_FILE)";
        FileFault::new(TlsFile::System, problem)
    }
}

pub(super) type Fingerprint = [u8; 32];

type Bytes = Result<Zeroizing<Vec<u8>>, String>;

pub(super) struct Configured {
    pub(super) config: ClientConfig,
    pub(super) client_valid_until: Option<UnixMillis>,
}

/// The contents of the files at one time.
pub(super) struct Material {
    system: Arc<SystemRoots>,
    ca: Option<Bytes>,
    client: Option<(Bytes, Bytes)>,
}

impl Material {
    pub(super) fn read(files: &TlsFiles, system: Arc<SystemRoots>) -> Material {
        Material {
            system,
            ca: files.ca.as_deref().map(read),
            client: files.client.as_ref().map(|(certificate, key)| (read(certificate), read(key))),
        }
    }

    pub(super) fn has_system_roots(&self) -> bool {
        !self.system.roots.is_empty()
    }

    /// Equal for equal contents.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let mut digest = Sha256::new();
        let mut add = |part: &[u8]| {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        };
        let client = self.client.iter().flat_map(|(certificate, key)| [certificate, key]);
        for file in self.ca.iter().chain(client) {
            match file {
                Ok(bytes) => add(bytes),
                Err(problem) => add(problem.as_bytes()),
            }
        }
        add(&self.system.fingerprint);
        digest.finalize().into()
    }

    pub(super) fn config(self) -> Result<Configured, Vec<FileFault>> {
        let mut faults = Vec::new();
        let roots = roots(&self.system, self.ca).map_err(|fault| faults.push(fault)).ok();
        let client = self
            .client
            .and_then(|client| client_identity(client).map_err(|of_client| faults.extend(of_client)).ok());
        let Some(roots) = roots.filter(|_| faults.is_empty()) else { return Err(faults) };
        let config = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers of TLS 1.2 and 1.3")
            .with_root_certificates(roots);
        let client_valid_until = client
            .iter()
            .flat_map(|(chain, _)| chain)
            .filter_map(|certificate| valid_until(certificate))
            .min();
        let mut config = match client {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                config.with_client_auth_cert(chain, key).map_err(|error| vec![unfit(&error)])?
            }
        };
        // Each connection checks the server's certificate anew, and shows ours.
        config.resumption = Resumption::disabled();
        Ok(Configured { config, client_valid_until })
    }
}

/// The system's roots and those of the file.
fn roots(system: &SystemRoots, ca: Option<Bytes>) -> Result<RootCertStore, FileFault> {
    let mut roots = system.roots.clone();
    if let Some(ca) = ca {
        let fault = |problem| FileFault::new(TlsFile::Ca, problem);
        for root in certificates(ca).map_err(fault)? {
            roots.add(root).map_err(|_| fault(UNUSABLE.to_owned()))?;
        }
    }
    if roots.is_empty() { Err(FileFault::no_system_roots()) } else { Ok(roots) }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn client_identity((certificate, key): (Bytes, Bytes)) -> Result<Identity, Vec<FileFault>> {
    let chain =
        certificates(certificate).map_err(|problem| FileFault::new(TlsFile::ClientCertificate, problem));
    let key = private_key(key).map_err(|problem| FileFault::new(TlsFile::ClientKey, problem));
    match (chain, key) {
        (Ok(chain), Ok(key)) => Ok((chain, key)),
        (chain, key) => Err([chain.err(), key.err()].into_iter().flatten().collect()),
    }
}

/// The fault of a certificate and a key that can be read.
fn unfit(error: &rustls::Error) -> FileFault {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            FileFault::new(TlsFile::ClientKey, "names a key that does not belong to the client certificate")
        }
        rustls::Error::InvalidCertificate(_) => FileFault::new(TlsFile::ClientCertificate, UNUSABLE),
        _ => FileFault::new(TlsFile::ClientKey, "names a key of a kind that TLS does not use"),
    }
}

const UNUSABLE: &str = "names a file with a certificate that cannot be used";

/// At least one certificate.
fn certificates(file: Bytes) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = file?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err("names a file without a certificate in PEM".to_owned()),
        Ok(found) => Ok(found),
        Err(_) => Err("names a file whose PEM is damaged".to_owned()),
    }
}

fn private_key(file: Bytes) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = file?;
    let is_encrypted = |mark: &[u8]| bytes.windows(mark.len()).any(|window| window == mark);
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        let problem = match is_encrypted(b"ENCRYPTED") {
            true => "names a file with an encrypted key: decrypt it, as by openssl pkey",
            false => "names a file without a private key in PEM",
        };
        problem.to_owned()
    })
}

fn read(path: &Path) -> Bytes {
    let unread = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => "names a file that does not exist".to_owned(),
        kind => format!("names a file that cannot be read: {kind}"),
    };
    // Checked before it is opened: opening a pipe waits for a writer.
    let about = std::fs::metadata(path).map_err(unread)?;
    if !about.is_file() {
        return Err("names no file".to_owned());
    }
    if about.len() > BYTES_MAX {
        return Err("names a file that is longer than 1024 KiB".to_owned());
    }
    let bytes = Zeroizing::new(std::fs::read(path).map_err(unread)?);
    match bytes.iter().all(u8::is_ascii_whitespace) {
        true => Err("names an empty file".to_owned()),
        false => Ok(bytes),
    }
}
