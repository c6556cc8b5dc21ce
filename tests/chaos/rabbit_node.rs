//! One node of RabbitMQ: its places on this machine, and the commands that start it and ask it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::servers::command;

/// Debian's `rabbitmq-server` in the PATH insists on its own user; the script that it wraps does not.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// The name of a program of RabbitMQ: in the folder of `OTPOST_TEST_RABBITMQ_SCRIPTS`, or of this machine.
pub fn program(name: &str) -> String {
    let folder = std::env::var("OTPOST_TEST_RABBITMQ_SCRIPTS").unwrap_or_else(|_| SCRIPTS.to_owned());
    let script = format!("{folder}/{name}");
    if Path::new(&script).exists() { script } else { name.to_owned() }
}

/// Arguments of Erlang's virtual machine.
pub const ERL_ARGS: &str = "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS";
/// Busy-waiting schedulers would take CPU time from the tested processes.
pub const ERL_ARGS_OF_ALL: &str =
    "+sbwt none +sbwtdcpu none +sbwtdio none +S 2:2 -kernel inet_dist_use_interface {127,0,0,1}";

pub struct Seat {
    pub name: String,
    pub address: SocketAddr,
    /// Of epmd.
    pub names_port: u16,
    /// Of Erlang's distribution.
    pub distribution_port: u16,
    /// Has the plugins, and the cookie, which the nodes of a cluster share.
    pub home: PathBuf,
    pub folder: PathBuf,
}

impl Seat {
    pub fn server(&self) -> Command {
        let mut server = self.command("rabbitmq-server");
        server
            .env("ERL_CRASH_DUMP", self.folder.join("crash"))
            // The script becomes the server, and needs no second program to stop it.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("RABBITMQ_NODE_IP_ADDRESS", self.address.ip().to_string())
            .env("RABBITMQ_NODE_PORT", self.address.port().to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("RABBITMQ_CONF_ENV_FILE", self.folder.join("none"))
            // It may be missing.
            .env("RABBITMQ_CONFIG_FILE", self.folder.join("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", self.folder.join("none"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.home.join("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", self.folder.join("data"))
            .env("RABBITMQ_LOG_BASE", self.folder.join("log"))
            .env("RABBITMQ_LOGS", "-")
            .env(ERL_ARGS, ERL_ARGS_OF_ALL);
        server
    }

    /// A command of `rabbitmqctl` for this node.
    pub fn ctl(&self, arguments: &[&str]) -> Command {
        let mut ctl = self.command("rabbitmqctl");
        ctl.args(arguments);
        ctl
    }

    fn command(&self, name: &str) -> Command {
        let mut command = command(program(name));
        command
            .env("HOME", &self.home)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.names_port.to_string())
            .env("RABBITMQ_NODENAME", &self.name);
        command
    }
}
