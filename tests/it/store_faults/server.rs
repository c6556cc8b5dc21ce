//! A Redis of a test's own, to be broken and mended.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::real::{install_crypto, unique};

/// Ended, with its folder, when dropped.
pub struct OwnRedis {
    process: Child,
    pub port: u16,
    pub folder: PathBuf,
}

/// The options of a server that speaks TLS with one of the certificates of the tests, instead of plain TCP.
pub const TLS: &str = "TLS";

impl OwnRedis {
    /// `None` if the program is not installed.
    pub fn start(more: &[&str]) -> Option<OwnRedis> {
        install_crypto();
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let folder = std::env::temp_dir().join(unique("redis"));
        fs::create_dir(&folder).expect("a folder can be made");
        let mut command = Command::new("redis-server");
        if more == ["--sentinel"] {
            // A Sentinel insists on a file that it can write.
            let file = folder.join("sentinel.conf");
            fs::write(&file, format!("port {port}\nbind 127.0.0.1\n")).expect("a file can be written");
            command.arg(file);
        } else if let [TLS, certificate, more @ ..] = more {
            command.args(["--bind", "127.0.0.1", "--port", "0", "--tls-port", &port.to_string()]);
            command.args(["--save", "", "--tls-key-file", &key("redis.private.pem")]);
            command.args(["--tls-cert-file", &key(certificate), "--tls-ca-cert-file", &key(certificate)]);
            command.args(more);
            return OwnRedis::spawn(command, port, folder);
        } else {
            command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
        }
        command.args(more);
        OwnRedis::spawn(command, port, folder)
    }

    /// A server that also takes TLS, with a client certificate, at the second port.
    pub fn with_client_certificates([key, certificate, ca]: &[String; 3]) -> Option<(OwnRedis, u16)> {
        install_crypto();
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"));
        let [port, tls_port] = listeners.map(|listener| listener.local_addr().expect("it is bound").port());
        let folder = std::env::temp_dir().join(unique("redis"));
        fs::create_dir(&folder).expect("a folder can be made");
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]);
        command.args(["--tls-port", &tls_port.to_string(), "--tls-auth-clients", "yes"]);
        command.args(["--tls-key-file", key, "--tls-cert-file", certificate, "--tls-ca-cert-file", ca]);
        Some((OwnRedis::spawn(command, port, folder)?, tls_port))
    }

    fn spawn(mut command: Command, port: u16, folder: PathBuf) -> Option<OwnRedis> {
        let process = command.current_dir(&folder).stdout(Stdio::piped()).spawn();
        let Ok(mut process) = process else {
            eprintln!("not tried: redis-server is not installed");
            fs::remove_dir_all(&folder).expect("it is there");
            return None;
        };
        let log = BufReader::new(process.stdout.take().expect("it is piped"));
        let server = OwnRedis { process, port, folder };
        let mut lines = log.lines().map_while(Result::ok);
        // A Sentinel says when it is ready by its id.
        let is_ready =
            |line: String| line.contains("eady to accept connections") || line.contains("Sentinel ID is");
        assert!(lines.any(is_ready), "the server ended");
        // It would wait for a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Some(server)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn connection(&self, user: &str) -> redis::Connection {
        let url = format!("redis://{user}127.0.0.1:{}", self.port);
        redis::Client::open(url).expect("a URL").get_connection().expect("Redis answers")
    }

    /// Runs commands, each as its words.
    pub fn run(&self, commands: &[&str]) {
        let mut connection = self.connection("");
        for command in commands {
            let words: Vec<&str> = command.split(' ').collect();
            let answer: redis::RedisResult<redis::Value> =
                redis::cmd(words[0]).arg(&words[1..]).query(&mut connection);
            answer.unwrap_or_else(|error| panic!("{command}: {error}"));
        }
    }

    /// Freezes it: it neither answers nor closes a connection.
    pub fn freeze(&self) {
        let status = Command::new("kill").args(["-s", "STOP", &self.process.id().to_string()]).status();
        assert!(status.expect("kill is installed").success());
    }
}

/// The path of a key or certificate of the tests.
pub fn key(name: &str) -> String {
    format!("{}/tests/it/keys/{name}", env!("CARGO_MANIFEST_DIR"))
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
