//! A public key infrastructure of a test's own: authorities, and certificates for this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use otpost::tls::{TlsClient, TlsFiles};

use crate::real::{install_crypto, unique};

/// Its files are removed when it is dropped.
pub struct Pki {
    pub folder: PathBuf,
}

const EXTENSIONS: &str = "basicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n\
                          extendedKeyUsage=serverAuth,clientAuth\n";

impl Pki {
    /// `None` if openssl is not installed.
    pub fn new() -> Option<Pki> {
        install_crypto();
        let folder = std::env::temp_dir().join(unique("pki"));
        fs::create_dir(&folder).expect("a folder can be made");
        fs::write(folder.join("extensions"), EXTENSIONS).expect("a file can be written");
        let pki = Pki { folder };
        if Command::new("openssl").arg("version").output().is_err() {
            eprintln!("not tried: openssl is not installed");
            return None;
        }
        Some(pki)
    }

    /// An authority: `name.pem` and `name.key`.
    pub fn authority(&self, name: &str) {
        let (key, pem) = (format!("{name}.key"), format!("{name}.pem"));
        let subject = format!("/CN={name} of a test");
        self.openssl(
            &["req", "-x509", "-days", "30", "-subj", &subject, "-keyout", &key, "-out", &pem],
            true,
        );
    }

    /// A certificate of an authority: `name.crt` and `name.key`.
    pub fn issue(&self, authority: &str, name: &str, common_name: &str) {
        let [key, request, certificate] = ["key", "csr", "crt"].map(|kind| format!("{name}.{kind}"));
        let subject = format!("/CN={common_name}");
        self.openssl(&["req", "-new", "-subj", &subject, "-keyout", &key, "-out", &request], true);
        let (ca, ca_key) = (format!("{authority}.pem"), format!("{authority}.key"));
        let serial = format!("{}", fastrand::u32(1..));
        let by = ["-CA", &ca, "-CAkey", &ca_key, "-set_serial", &serial, "-days", "30"];
        let what = ["x509", "-req", "-in", &request, "-out", &certificate, "-extfile", "extensions"];
        self.openssl(&[&what[..], &by[..]].concat(), false);
    }

    /// Puts the certificate and key of one name in the place of another's.
    pub fn replace(&self, name: &str, by: &str) {
        for kind in ["crt", "key"] {
            let of = |name: &str| self.folder.join(format!("{name}.{kind}"));
            fs::copy(of(by), of(name)).expect("both are files");
        }
    }

    pub fn path(&self, file: &str) -> String {
        self.folder.join(file).to_str().expect("text").to_owned()
    }

    /// The file of an authority, and the certificate and key of a client.
    pub fn files(&self, authority: &str, client: Option<&str>) -> TlsFiles {
        let file = |name: &str, kind: &str| Path::new(&self.folder).join(format!("{name}.{kind}"));
        TlsFiles {
            ca: Some(file(authority, "pem")),
            client: client.map(|name| (file(name, "crt"), file(name, "key"))),
        }
    }

    pub fn client(&self, authority: &str, client: Option<&str>) -> TlsClient {
        TlsClient::new(self.files(authority, client)).expect("valid files")
    }

    fn openssl(&self, arguments: &[&str], makes_key: bool) {
        let mut command = Command::new("openssl");
        command.current_dir(&self.folder).args(arguments);
        if makes_key {
            command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        }
        let output = command.output().expect("it is installed");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
