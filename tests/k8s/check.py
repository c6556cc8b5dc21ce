"""Runs the checks by name, all without arguments. A check that cannot run here says so and counts as skipped."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

import helm
import pages as named
import samples
from compare import compare, key
from render import PAIRS, ROOT, examples, kustomize, write
from rules import breaches
from schemas import by_schema, problems
from values import faults

UNITS = ROOT / "packaging" / "systemd"
COMPOSE = ROOT / "docker-compose.yml"
COMMAND = ROOT / "k8s" / "examples" / "command.jq"
# The greatest exposure that `systemd-analyze security` may find, in tenths.
EXPOSURE = 15


class Skipped(Exception):
    pass


def overlays():
    """Every object of the overlays fits the schemas of three versions of Kubernetes, or the small ones of its own kind."""
    for name in PAIRS:
        objects = kustomize(name)
        write(name, objects)
        for item in objects:
            yield from (f"{name}: {problem}" for problem in problems(item))


def claims():
    """So do the objects of k8s/examples."""
    for name, objects in examples().items():
        write(f"example-{name.removesuffix('.yaml')}", objects)
        for item in objects:
            yield from (f"{name}: {problem}" for problem in problems(item))


def rules():
    """The overlays follow the rules of this project."""
    for name in PAIRS:
        yield from (f"{name}: {breach}" for breach in breaches(kustomize(name), name != "development"))


def chart():
    """Helm finds nothing in the chart, and renders the objects of the overlays from it."""
    helms = helm.found()
    if not helms:
        raise Skipped("Helm is not to be had here")
    for version, tool in helms.items():
        yield from rendered(version, tool)
        try:
            tool.template("otpost", [], {})
            yield f"{version}: a release without image.digest is rendered"
        except helm.HelmError as error:
            if "image.digest is not set" not in str(error):
                yield f"{version}: {error}"


def rendered(version, tool):
    for name, (namespace, files, values) in PAIRS.items():
        try:
            tool.lint(namespace, files, values)
            objects = tool.template(namespace, files, values)
        except helm.HelmError as error:
            yield f"{version}, {name}: {error}"
            continue
        for item in objects:
            yield from (f"{version}, {name}: {problem}" for problem in problems(item))
        yield from (f"{version}, {name}: {difference}" for difference in compare(kustomize(name), objects))


def values():
    """The chart renders what operators choose, and refuses what is wrong."""
    helms = helm.found()
    if not helms:
        raise Skipped("Helm is not to be had here")
    for version, tool in helms.items():
        yield from (f"{version}: {fault}" for fault in faults(tool))


def command():
    """The Job of one command has all that a worker has, and is counted as none."""
    if not shutil.which("jq"):
        raise Skipped("jq is missing")
    run = ["store", "reshard", "16", "--dry-run"]
    for name in PAIRS:
        objects = kustomize(name)
        worker = next(item for item in objects if key(item) == "Deployment otpost-worker")
        options = ["--from-file", COMMAND, "--args", "--", *run]
        done = subprocess.run(["jq", *options], input=json.dumps(worker), capture_output=True, text=True)
        if done.returncode:
            yield f"{name}: jq: {done.stderr.strip()}"
            continue
        job = json.loads(done.stdout)
        named = job | {"metadata": job["metadata"] | {"name": "command"}}
        yield from (f"{name}: {problem}" for problem in problems(named))
        yield from (f"{name}: {difference}" for difference in command_differs(job["spec"]["template"], worker, run))


def command_differs(job, worker, run):
    theirs, ours = worker["spec"]["template"]["spec"], job["spec"]
    for part in ("volumes", "securityContext", "serviceAccountName", "automountServiceAccountToken"):
        if ours.get(part) != theirs.get(part):
            yield f"{part} is {ours.get(part)}"
    container = ours["containers"][0]
    for part in ("image", "env", "envFrom", "volumeMounts", "resources", "securityContext"):
        if container.get(part) != theirs["containers"][0].get(part):
            yield f"{part} of the container is {container.get(part)}"
    if container["args"] != run:
        yield f"its arguments are {container['args']}"
    if "ports" in container or "readinessProbe" in container:
        yield "it is measured as a worker"
    selector = worker["spec"]["selector"]["matchLabels"]
    if selector.items() <= job["metadata"]["labels"].items():
        yield "it is counted as a worker"


def pages():
    """The pages name objects and files that exist."""
    yield from named.problems()


def checkov():
    """checkov finds nothing in what was rendered, nor in the Dockerfile, but the exceptions that are explained."""
    exceptions = yaml.safe_load((Path(__file__).parent / "exceptions.yaml").read_text())
    unused = list(exceptions)
    for failed in checkov_findings():
        fits = [item for item in exceptions if covers(item, failed)]
        unused = [item for item in unused if item not in fits]
        if not fits:
            yield f"{failed['check_id']} {failed['file_path']} {failed['resource']}: {failed['check_name']}"
    yield from (f"exceptions.yaml: {item['check']} of {item['file']} fits nothing" for item in unused)


def covers(exception, failed):
    return exception["check"] == failed["check_id"] and re.fullmatch(exception["file"], Path(failed["file_path"]).name)


def checkov_findings():
    with tempfile.TemporaryDirectory() as folder:
        for name in PAIRS:
            shutil.copy(write(name, kustomize(name)), folder)
        for name, objects in examples().items():
            (Path(folder) / f"example-{name}").write_text(yaml.safe_dump_all(objects))
        shutil.copy(ROOT / "Dockerfile", folder)
        command = [Path(sys.executable).parent / "checkov", "--directory", folder, "--output", "json", "--quiet"]
        command += ["--framework", "kubernetes", "dockerfile", "--skip-download", "--compact"]
        done = subprocess.run(command, capture_output=True, text=True)
    reports = json.loads(done.stdout or "[]")
    checked = sum(report["summary"]["passed"] for report in reports)
    assert checked > 200, f"checkov made {checked} checks: {done.stderr.strip()[-300:]}"
    return [failed for report in reports for failed in report["results"]["failed_checks"]]


def compose():
    """The Compose file fits the specification, and Compose reads it with and without the profiles."""
    yield from by_schema("compose", yaml.safe_load(COMPOSE.read_text()))
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        print("      Compose itself is not to be had here: the schema alone was compared")
        return
    for profile in [[], ["--profile", "scale"], ["--profile", "observability"]]:
        done = subprocess.run(
            ["docker", "compose", *profile, "config", "--quiet"], cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode or done.stderr:
            yield f"docker compose {' '.join(profile)} config: {done.stderr.strip()}"


def units():
    """systemd accepts the units, and finds them hardened."""
    if not shutil.which("systemd-analyze"):
        raise Skipped("systemd-analyze is not to be had here")
    with tempfile.TemporaryDirectory() as folder:
        for unit in UNITS.glob("otpost*.*"):
            text = unit.read_text().replace("/usr/local/bin/otpost ", "/bin/true ")
            (Path(folder) / unit.name.replace("@", "@1")).write_text(text)
        found = sorted(unit for unit in Path(folder).iterdir() if unit.suffix in (".service", ".target"))
        done = subprocess.run(["systemd-analyze", "verify", *found], capture_output=True, text=True)
        yield from done.stderr.splitlines()
        for unit in (unit for unit in found if unit.suffix == ".service"):
            if "\nLimitCORE=0\n" not in unit.read_text():
                yield f"{unit.name}: a core dump would hold keys"
            command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE}", unit]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                summary = re.findall(r"Overall exposure.*", done.stdout) or [done.stderr.strip()]
                yield f"{unit.name}: {summary[0]}"


def themselves():
    """Each check finds what is wrong with a bad sample."""
    yield from samples.unseen(kustomize("production"), yaml.safe_load(COMPOSE.read_text()))


CHECKS = [themselves, overlays, claims, rules, chart, values, command, pages, compose, units, checkov]


def run(check):
    try:
        found = list(check())
    except Skipped as reason:
        print(f"skip  {check.__name__}: {reason}")
        return "skipped"
    print(f"{'FAIL' if found else 'ok'}  {check.__name__}")
    for problem in found:
        print(f"      {problem}")
    return "failed" if found else "passed"


def main(names):
    unknown = set(names) - {check.__name__ for check in CHECKS}
    if unknown:
        raise SystemExit(f"no such check: {', '.join(sorted(unknown))}")
    chosen = [check for check in CHECKS if not names or check.__name__ in names]
    results = [run(check) for check in chosen]
    counts = {result: results.count(result) for result in ("passed", "failed", "skipped")}
    print(", ".join(f"{count} {result}" for result, count in counts.items()))
    raise SystemExit(1 if counts["failed"] else 0)


main(sys.argv[1:])
