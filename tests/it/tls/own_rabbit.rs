//! A RabbitMQ of a test's own: over TLS alone, with a client certificate that names the user.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::pki::Pki;

/// Debian's `rabbitmq-server` in the PATH insists on its own user; the script that it wraps does not.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";
const STARTS_WITHIN: Duration = Duration::from_secs(90);

fn script(name: &str) -> PathBuf {
    let folder = std::env::var_os("OTPOST_TEST_RABBITMQ_SCRIPTS");
    folder.map_or_else(|| PathBuf::from(SCRIPTS), PathBuf::from).join(name)
}

/// With what the server and its tool need.
fn command(script: &Path, folder: &Path, names_port: &str) -> Command {
    let mut command = Command::new(script);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", names_port)
        .env("ERL_CRASH_DUMP", folder.join("crash"))
        .env("RABBITMQ_CONF_ENV_FILE", folder.join("none"));
    command
}

/// Ended, with its name server, when dropped.
pub struct OwnRabbit {
    server: Child,
    names: Child,
    pub port: u16,
    names_port: String,
    folder: PathBuf,
}

impl OwnRabbit {
    /// Trusts the authority `private`, and lets in `otpost`. Its files are in the folder of `pki`, with the certificate `server`.
    /// `None` if a program is not installed.
    pub async fn start(pki: &Pki) -> Option<OwnRabbit> {
        let [port, names_port, distribution] = free_ports();
        let names_port = names_port.to_string();
        let epmd = ["-address", "127.0.0.1", "-port", &names_port];
        let names = Command::new("epmd").args(epmd).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let script = script("rabbitmq-server");
        let (true, Ok(names)) = (script.exists(), names) else {
            eprintln!("not tried: RabbitMQ is not installed");
            return None;
        };
        write_settings(pki, port);
        let none = pki.path("none");
        let log = fs::File::create(pki.path("rabbit.log")).expect("a file can be made");
        let server = command(&script, &pki.folder, &names_port)
            // The script becomes the server.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("RABBITMQ_NODENAME", node(port))
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("RABBITMQ_CONFIG_FILE", pki.path("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", &none)
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", pki.path("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", pki.path("data"))
            .env("RABBITMQ_LOG_BASE", pki.path("log"))
            .env("RABBITMQ_LOGS", "-")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+sbwt none +S 2:2 -kernel inet_dist_use_interface {127,0,0,1}",
            )
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .expect("it is installed");
        let mut started = OwnRabbit { server, names, port, names_port, folder: pki.folder.clone() };
        started.wait().await;
        Some(started)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("rabbit.log")).expect("it is there")
    }

    /// Begins or ends an alarm of memory, during which the server takes no messages.
    pub async fn set_alarm(&self, is_on: bool) {
        let watermark = if is_on { "0.00001" } else { "0.6" };
        let mut run = command(&script("rabbitmqctl"), &self.folder, &self.names_port);
        run.args(["-n", &node(self.port), "set_vm_memory_high_watermark", watermark]).stdin(Stdio::null());
        let run = tokio::task::spawn_blocking(move || run.output().expect("it is installed"));
        let output = run.await.expect("no panic");
        assert!(output.status.success(), "{output:?}");
    }

    /// So far.
    pub fn opened_connections(&self) -> usize {
        self.log().matches("accepting AMQP connection").count()
    }

    async fn wait(&mut self) {
        let until = Instant::now() + STARTS_WITHIN;
        while !self.log().contains("Server startup complete") {
            let has_ended = self.server.try_wait().expect("it is ours").is_some();
            assert!(!has_ended && Instant::now() < until, "{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub fn url(&self) -> String {
        format!("amqps://127.0.0.1:{}/%2f?auth_mechanism=external", self.port)
    }
}

fn node(port: u16) -> String {
    format!("tls-{port}@localhost")
}

fn write_settings(pki: &Pki, port: u16) {
    let file = |name: &str| pki.path(name);
    let settings = [
        "listeners.tcp = none".to_owned(),
        format!("listeners.ssl.1 = 127.0.0.1:{port}"),
        format!("ssl_options.cacertfile = {}", file("private.pem")),
        format!("ssl_options.certfile = {}", file("server.crt")),
        format!("ssl_options.keyfile = {}", file("server.key")),
        "ssl_options.verify = verify_peer".to_owned(),
        "ssl_options.fail_if_no_peer_cert = true".to_owned(),
        "auth_mechanisms.1 = EXTERNAL".to_owned(),
        "ssl_cert_login_from = common_name".to_owned(),
        format!("load_definitions = {}", file("definitions.json")),
    ];
    fs::write(file("rabbitmq.conf"), settings.join("\n") + "\n").expect("a file can be written");
    fs::write(file("enabled_plugins"), "[rabbitmq_auth_mechanism_ssl].\n").expect("a file can be written");
    // A user without a password can only log in by a certificate.
    let definitions = r#"{"vhosts":[{"name":"/"}],"users":[{"name":"otpost","password_hash":"","tags":""}],
        "permissions":[{"user":"otpost","vhost":"/","configure":".*","write":".*","read":".*"}]}"#;
    fs::write(file("definitions.json"), definitions).expect("a file can be written");
}

fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"));
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}

impl Drop for OwnRabbit {
    fn drop(&mut self) {
        for process in [&mut self.server, &mut self.names] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
