use std::path::{Path, PathBuf};
use std::{fs, io};

use rustls::{AlertDescription, CertificateError};

use super::fault::ServerWords;
use super::fault::TlsFault;
use super::{FileFault, Look, TlsClient, TlsFile, TlsFiles};

/// A key or a certificate of the tests.
fn of_tests(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/keys").join(name)
}

/// Removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("the system has randomness");
        let folder = std::env::temp_dir().join(format!("otpost-tls-{}", hex::encode(random)));
        fs::create_dir(&folder).expect("a folder can be made");
        Folder(folder)
    }

    fn write(&self, name: &str, text: &[u8]) -> PathBuf {
        let file = self.0.join(name);
        fs::write(&file, text).expect("a file can be written");
        file
    }

    fn copy(&self, name: &str, of: &str) -> PathBuf {
        self.write(name, &fs::read(of_tests(of)).expect("a file of the tests"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn faults(files: TlsFiles) -> Vec<(TlsFile, String)> {
    let Err(faults) = TlsClient::new(files) else { return Vec::new() };
    faults.into_iter().map(|FileFault { file, problem }| (file, problem)).collect()
}

fn fault_of_ca(ca: PathBuf) -> String {
    match &faults(TlsFiles { ca: Some(ca), client: None })[..] {
        [(TlsFile::Ca, problem)] => problem.clone(),
        other => panic!("{other:?}"),
    }
}

fn with_client(certificate: PathBuf, key: PathBuf) -> TlsFiles {
    TlsFiles { ca: Some(of_tests("redis.certificate.pem")), client: Some((certificate, key)) }
}

#[test]
fn a_file_that_cannot_be_used_is_named_by_its_rule() {
    let folder = Folder::new();
    let of = |text: &str| fault_of_ca(folder.write("ca", text.as_bytes()));
    assert_eq!(fault_of_ca(folder.0.join("absent")), "names a file that does not exist");
    assert_eq!(fault_of_ca(folder.0.clone()), "names no file");
    assert_eq!(of(" \n"), "names an empty file");
    assert_eq!(of("a certificate"), "names a file without a certificate in PEM");
    let damaged = "names a file whose PEM is damaged";
    assert_eq!(of("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"), damaged);
    assert_eq!(of("-----BEGIN CERTIFICATE-----\nMIIB\n"), damaged);
    let unusable = "names a file with a certificate that cannot be used";
    assert_eq!(of("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"), unusable);
    assert_eq!(fault_of_ca(of_tests("redis.private.pem")), "names a file without a certificate in PEM");
    let long = vec![b'x'; 1024 * 1024 + 1];
    assert_eq!(fault_of_ca(folder.write("long", &long)), "names a file that is longer than 1024 KiB");
}

#[test]
fn a_client_certificate_needs_its_own_key() {
    let folder = Folder::new();
    let (certificate, key) = (of_tests("redis.certificate.pem"), of_tests("redis.private.pem"));
    assert_eq!(faults(with_client(certificate.clone(), key.clone())), []);
    let of_key = |key, problem: &str| {
        let found = faults(with_client(certificate.clone(), key));
        assert_eq!(found, [(TlsFile::ClientKey, problem.to_owned())]);
    };
    let foreign = "names a key that does not belong to the client certificate";
    of_key(of_tests("relay.private.pem"), foreign);
    of_key(certificate.clone(), "names a file without a private key in PEM");
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted = folder.write("encrypted", encrypted.as_bytes());
    of_key(encrypted, "names a file with an encrypted key: decrypt it, as by openssl pkey");
    let broken = folder.write("broken", b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n");
    of_key(broken, "names a key of a kind that TLS does not use");
}

#[test]
fn all_faults_are_reported_at_once() {
    let absent = |name: &str| Path::new("/nonexistent").join(name);
    let files = TlsFiles { ca: Some(absent("ca")), client: Some((absent("certificate"), absent("key"))) };
    let named: Vec<TlsFile> = faults(files).into_iter().map(|(file, _)| file).collect();
    assert_eq!(named, [TlsFile::Ca, TlsFile::ClientCertificate, TlsFile::ClientKey]);
}

#[tokio::test(start_paused = true)]
async fn changed_files_are_taken_over_and_bad_ones_are_reported_once() {
    let folder = Folder::new();
    let ca = folder.copy("ca", "redis.certificate.pem");
    let client = (folder.copy("crt", "redis.certificate.pem"), folder.copy("key", "redis.private.pem"));
    let tls = TlsClient::new(TlsFiles { ca: Some(ca), client: Some(client) }).expect("valid files");
    let first = tls.config();
    assert_eq!((tls.look().await, tls.generation()), (Look::Unchanged, 0));

    folder.copy("crt", "relay.certificate.pem");
    let problem = "names a key that does not belong to the client certificate".to_owned();
    let refused = Look::Refused(vec![FileFault { file: TlsFile::ClientKey, problem }]);
    assert_eq!((tls.look().await, tls.look().await, tls.generation()), (refused, Look::Unchanged, 0));
    assert!(std::sync::Arc::ptr_eq(&first, &tls.config()), "the old certificate stays in use");

    folder.copy("key", "relay.private.pem");
    assert_eq!((tls.look().await, tls.look().await, tls.generation()), (Look::Reloaded, Look::Unchanged, 1));
    tls.newer_than(0).await;

    fs::remove_file(folder.0.join("ca")).expect("it is there");
    assert!(matches!(tls.look().await, Look::Refused(_)));
    folder.copy("ca", "redis.certificate.pem");
    assert_eq!((tls.look().await, tls.generation()), (Look::Unchanged, 1), "the contents are those in use");
    fs::remove_file(folder.0.join("ca")).expect("it is there");
    assert!(matches!(tls.look().await, Look::Refused(_)), "a new fault is reported again");
}

#[tokio::test(start_paused = true)]
async fn files_behind_a_link_are_followed_when_it_is_swapped() {
    let folder = Folder::new();
    for (version, name) in [("v1", "redis"), ("v2", "relay")] {
        fs::create_dir(folder.0.join(version)).expect("a folder can be made");
        folder.copy(&format!("{version}/tls.crt"), &format!("{name}.certificate.pem"));
        folder.copy(&format!("{version}/tls.key"), &format!("{name}.private.pem"));
    }
    let data = folder.0.join("data");
    std::os::unix::fs::symlink("v1", &data).expect("a link can be made");
    let tls = TlsClient::new(with_client(data.join("tls.crt"), data.join("tls.key"))).expect("valid files");
    std::os::unix::fs::symlink("v2", folder.0.join("next")).expect("a link can be made");
    fs::rename(folder.0.join("next"), &data).expect("a link can be replaced");
    assert_eq!((tls.look().await, tls.look().await), (Look::Reloaded, Look::Unchanged));
}

#[test]
fn sentences_name_settings_and_differ() {
    let words = |client_certificate| ServerWords {
        server: "Redis",
        url: "REDIS_URL",
        ca: "REDIS_CA_FILE",
        client_certificate,
    };
    let mut sentences = TlsFault::ALL.map(|fault| fault.sentence(&words(Some("REDIS_CLIENT_CERT_FILE"))));
    sentences.sort_unstable();
    assert!(sentences.windows(2).all(|two| two[0] != two[1]), "{sentences:?}");
    let without = TlsFault::ClientCertificateRequired.sentence(&words(None));
    assert!(without.contains("there is no setting"), "{without}");
}

#[test]
fn errors_of_the_library_become_faults() {
    let of = |error: rustls::Error| TlsFault::of(&io::Error::new(io::ErrorKind::InvalidData, error));
    let certificate = |error| of(rustls::Error::InvalidCertificate(error));
    assert_eq!(certificate(CertificateError::BadSignature), Some(TlsFault::BadSignature));
    assert_eq!(certificate(CertificateError::Revoked), Some(TlsFault::Unusable));
    let alert = |alert| of(rustls::Error::AlertReceived(alert));
    assert_eq!(alert(AlertDescription::CertificateExpired), Some(TlsFault::ClientCertificateRefused));
    assert_eq!(alert(AlertDescription::CertificateRequired), Some(TlsFault::ClientCertificateRequired));
    assert_eq!(alert(AlertDescription::ProtocolVersion), Some(TlsFault::Handshake));
    assert_eq!(TlsFault::of(&io::ErrorKind::ConnectionReset.into()), None);
    assert_eq!(TlsFault::of(&io::Error::other("no error of TLS")), None);
}
