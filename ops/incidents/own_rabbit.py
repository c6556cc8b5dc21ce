"""A RabbitMQ of its own, whose alarms harm no other."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from stage import Failure, free_port

SCRIPTS = Path(os.environ.get("OTPOST_TEST_RABBITMQ_SCRIPTS", "/usr/lib/rabbitmq/bin"))


def is_installed():
    return (SCRIPTS / "rabbitmq-server").exists() and (SCRIPTS / "rabbitmqctl").exists() and shutil.which("epmd")


class OwnRabbit:
    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="otpost-rabbit-"))
        self.port, distribution, names = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/%2f"
        self.node = f"otpost-incidents-{os.getpid()}@localhost"
        (self.folder / "enabled_plugins").write_text("[].")
        none = str(self.folder / "none")
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.folder), "ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_EPMD_PORT": str(names),
            "ERL_CRASH_DUMP": str(self.folder / "crash"), "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_NODE_PORT": str(self.port), "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_CONF_ENV_FILE": none, "RABBITMQ_CONFIG_FILE": none, "RABBITMQ_ADVANCED_CONFIG_FILE": none,
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"), "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"), "RABBITMQ_LOGS": "-",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
        }
        # Erlang would start an epmd that outlives the node, so it finds one that ends with it.
        epmd = ["epmd", "-address", "127.0.0.1", "-port", str(names)]
        self.children = [self.start(epmd), self.start([str(SCRIPTS / "rabbitmq-server")])]
        deadline = time.monotonic() + 90
        while not self.answers():
            if time.monotonic() > deadline or self.children[1].poll() is not None:
                self.__exit__()
                raise Failure("a RabbitMQ of its own did not start")
            time.sleep(0.3)
        return self

    def start(self, command):
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, env=self.environment, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                probe.settimeout(5)
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                return bool(probe.recv(1))
        except OSError:
            return False

    def control(self, *arguments):
        command = [str(SCRIPTS / "rabbitmqctl"), "-n", self.node, *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise Failure(f"rabbitmqctl {arguments[0]}: {done.stdout}{done.stderr}")

    def __exit__(self, *_):
        for child in reversed(self.children):
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
