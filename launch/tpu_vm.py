"""Cloud TPU VMs: a queued resource for each element, driven from this machine by gcloud.

An element is one shell script, which `--render` prints whole: ask for slices, ship the code of one
git revision, run it on all their machines, and delete the slices however it ends. Slices that are
taken away are asked for again; that, and leaving with `AGAIN`, is free, other failures count.
`submit` starts the scripts in the background, their output in `logs_folder`; to stop paying,
`sweep cancel`.
"""

import dataclasses
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from launch import job, tpu, variables
from launch.job import Backend, JobSpec, call, option
from research.errors import AGAIN, UserError

ROOT = Path(__file__).resolve().parent.parent
GCLOUD = ("gcloud", "compute", "tpus", "queued-resources")
EVERYWHERE = ("--node=all", "--worker=all", "--batch-size=all")  # 64 at a time would never meet
SCRIPT = """\
#!/usr/bin/env bash
# {name}: {slices} x {chip}:{topology}, the code of revision {revision}{given}
set -uo pipefail

create() {{
  {create}
}}
state() {{
  {look} || echo UNKNOWN
}}
ship() {{
  git archive --format=tar.gz --output={archive} {revision} &&
    {copy} &&
    {install}
}}
run() {{
  {run}
}}
delete() {{
  {delete}
}}

failures=0
fail() {{
  failures=$((failures + 1))
  echo "{name}: failure $failures, may start again {restarts} times"
  [ "$failures" -le {restarts} ] || exit 1
  sleep {poll}
}}

trap 'trap "" TERM INT HUP; {forget}delete' EXIT
trap 'exit 143' TERM INT HUP
while true; do
  case "$(state)" in
    "") create || fail ;;
    ACTIVE)
      ship || {{ fail; continue; }}
      run
      code=$?
      case "$code" in
        0 | 2) exit "$code" ;;
        124) echo "{name}: time is up"; exit 1 ;;
        {again}) echo "{name}: stopped with its state saved, starts again"; sleep {poll} ;;
        *) sleep {poll}; [ "$(state)" != ACTIVE ] || fail ;;
      esac ;;
    SUSPENDED) echo "{name}: taken away, asks again"; delete ;;
    FAILED) delete; fail ;;
    *) sleep {poll} ;;
  esac
done
"""
COMMIT = job.Form(r"[0-9a-f]{40}([0-9a-f]{24})?", "the whole hash of a commit")
# On each machine; Ubuntu's Python there is older than 3.11. Code that is there is left alone.
INSTALL = """\
set -e; test -d {folder} && exit 0; mkdir -p {folder}.new; tar -xzf {archive} -C {folder}.new; \
cd {folder}.new; python3 -m pip install --quiet --user uv; \
~/.local/bin/uv venv --quiet --clear --relocatable --python 3.12; \
~/.local/bin/uv pip install --quiet -r requirements.txt -r requirements-pods.txt; \
mv ../{folder}.new ../{folder}"""
# Never two at once: where a connection broke, the next start waits for what still runs.
RUN = (
    "cd {folder} && {env}ISOFLOP_REVISION={revision} ISOFLOP_DIRTY=false "
    "flock ../isoflop.lock {timeout}.venv/bin/python {command}"
)


@dataclasses.dataclass(frozen=True)
class TpuVm(Backend):
    """TPU VMs of one project and zone."""

    ID: ClassVar[job.Form] = job.Form(
        rf"({job.NAME.pattern})-\d+@\w[\w.-]*:[1-9]\d*", "NAME@HOST:PID"
    )

    project: str = option("", "Google Cloud project that pays", job.ADDRESS, required=True)
    zone: str = option("", "zone that has the chips: us-west4-a", job.LABEL, required=True)
    spot: bool = option(False, "on spot capacity, cheaper and taken away at will")
    reserved: bool = option(False, "on capacity the project has reserved")
    service_account: str = option("", "service account whose rights the machines have", job.ADDRESS)
    revision: str = option("HEAD", "git revision whose code is shipped", job.REVISION)
    dirty: bool = option(False, "ship it although the working tree has changes, which stay here")
    logs_folder: str = option(
        ".cache/launch", "folder of this machine for scripts and their output", job.FOLDER
    )
    poll: int = option(30, "seconds between two looks at the queue")

    def pinned(self) -> "TpuVm":
        """Return itself with `revision` as a commit.

        Raises:
            UserError: when there is no such revision, or the tree has changes and not `dirty`.
        """
        named = f"{self.revision}^{{commit}}"
        revision = _git("rev-parse", "--verify", "--quiet", "--end-of-options", named)
        if not revision:
            raise UserError(f"--revision {self.revision}: git knows no such commit")
        changed = _git("status", "--porcelain", "--untracked-files=no").splitlines()
        if changed and not self.dirty:
            raise UserError(
                f"{changed[0].split()[-1]} has changes that no revision holds; commit them, or say "
                "--dirty to ship the revision without them"
            )
        return dataclasses.replace(self, revision=revision)

    def check(self, spec: JobSpec) -> None:
        """Raise UserError for slices or code that gcloud could not bring together."""
        if spec.image:
            raise UserError("--image: the tpu-vm backend ships this code; leave it out")
        if not tpu.kind(spec.accelerator).type:
            raise UserError(f"--topology {spec.accelerator}: TPU VMs have none; --backend gke does")
        if self.spot and self.reserved:
            raise UserError("--spot and --reserved: capacity is one or the other")
        COMMIT.check("revision", self.revision)
        file = spec.argv[spec.argv.index("--config") + 1].partition(":")[0]
        if not _git("cat-file", "-t", f"{self.revision}:{file}"):
            raise UserError(
                f"--config {file}: not in revision {self.revision[:12]}, which is what is shipped"
            )

    def render(self, spec: JobSpec) -> str:
        """Return the scripts, one after another; variables are in files that they name."""
        return "\n".join(self.script(spec, index) for index in range(len(spec.array)))

    def submit(self, spec: JobSpec, env: Mapping[str, str]) -> list[str]:
        """Start the scripts; return ids NAME@HOST:PID."""
        if not shutil.which("gcloud"):
            raise UserError("--backend tpu-vm: no gcloud here; see launch/README.md")
        folder = self._folder
        folder.mkdir(parents=True, exist_ok=True)
        exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in env.items())
        ids = []
        for index in range(len(spec.array)):
            name = spec.element(index)
            script = folder / f"{name}.sh"
            script.write_text(self.script(spec, index))
            if env:
                variables.write(folder / f"{name}.env", exports)
            with (folder / f"{name}.log").open("a") as log:
                started = subprocess.Popen(
                    ["bash", str(script)], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log,
                    stderr=log, start_new_session=True,
                )  # fmt: skip
            ids.append(f"{name}@{socket.gethostname()}:{started.pid}")
        return ids

    def states(self, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return {id: (state, state of the queued resource)} of those that still cost or run."""
        listed = json.loads(call(*GCLOUD, "list", *self._place, "--format=json") or "[]")
        queue = {each["name"].rpartition("/")[2]: each["state"]["state"] for each in listed}
        found = {}
        for id in ids:
            state = queue.get(id.partition("@")[0], "")
            if self._process(id):
                found[id] = (job.RUNNING if state == "ACTIVE" else job.WAITING, state)
            elif state:
                found[id] = (
                    job.FAILED,
                    f"{state}, and no script of this machine drives it: cancel",
                )
        return found

    def logs(self, id: str) -> str:
        """Return what the script, and through it every machine, printed."""
        path = self._folder / f"{id.partition('@')[0]}.log"
        if not path.exists():
            host = id.partition("@")[2].partition(":")[0]
            raise UserError(f"{path}: no such log; the job was submitted from {host}")
        return path.read_text(errors="replace")

    def cancel(self, ids: Sequence[str]) -> None:
        """End the scripts and delete the slices."""
        for id in ids:
            name = id.partition("@")[0]
            if process := self._process(id):
                os.killpg(process, signal.SIGTERM)  # and it deletes what it holds
            else:
                call(*self.delete(name), "--async")

    # The commands of gcloud.

    def create(self, spec: JobSpec, name: str) -> tuple[str, ...]:
        kind = tpu.accelerator_type(spec.accelerator, spec.topology)
        nodes = f"--node-count={spec.slices}" if spec.slices > 1 else f"--node-id={name}"
        words = [f"--accelerator-type={kind}", nodes]
        words += [f"--runtime-version={tpu.kind(spec.accelerator).runtime}"]
        words += ["--spot"] if self.spot else []
        words += ["--reserved"] if self.reserved else []
        words += [f"--service-account={self.service_account}"] if self.service_account else []
        return (*GCLOUD, "create", name, *self._place, *words)

    def look(self, name: str) -> tuple[str, ...]:
        # Not `describe`, which fails as well where there is none as where the network is down.
        only = f"--filter=name~/{name}$"
        return (*GCLOUD, "list", *self._place, only, "--format=value(state.state)")

    def copy(self, name: str, *files: str) -> tuple[str, ...]:
        return (*GCLOUD, "scp", *files, f"{name}:", *self._place, *EVERYWHERE)

    def ssh(self, name: str, command: str) -> tuple[str, ...]:
        return (*GCLOUD, "ssh", name, *self._place, *EVERYWHERE, f"--command={command}")

    def delete(self, name: str) -> tuple[str, ...]:
        return (*GCLOUD, "delete", name, *self._place, "--force", "--quiet")

    def script(self, spec: JobSpec, index: int) -> str:
        """Return the script of element `index`."""
        name = spec.element(index)
        folder = f"isoflop-{self.revision[:12]}"
        archive = f"{name}.tar.gz"
        shipped = [str(Path(self.logs_folder) / archive)]
        # They are read there and removed; each start is preceded by a copy.
        env, forget, given = "", "", ""
        if spec.env:
            shipped.append(str(Path(self.logs_folder) / f"{name}.env"))
            env = f". ../{name}.env && rm ../{name}.env && "
            forget = f"rm -f {shlex.quote(shipped[1])}; "
            given = f"\n# variables, from {shipped[1]}: {' '.join(spec.env)}"
        words = {
            "folder": folder,
            "env": env,
            "revision": self.revision,
            "timeout": f"timeout --kill-after=300 {spec.timeout * 60} " if spec.timeout else "",
            "command": shlex.join(spec.command(index)),
        }
        return SCRIPT.format(
            name=name,
            slices=spec.slices,
            chip=spec.accelerator,
            topology=spec.topology,
            revision=self.revision,
            given=given,
            archive=shlex.quote(shipped[0]),
            create=shlex.join(self.create(spec, name)),
            look=shlex.join(self.look(name)),
            copy=shlex.join(self.copy(name, *shipped)),
            install=shlex.join(self.ssh(name, INSTALL.format(folder=folder, archive=archive))),
            run=shlex.join(self.ssh(name, RUN.format(**words))),
            forget=forget,
            delete=shlex.join(self.delete(name)),
            restarts=spec.restarts,
            poll=self.poll,
            again=AGAIN,
        )

    @property
    def _place(self) -> tuple[str, str]:
        return f"--project={self.project}", f"--zone={self.zone}"

    @property
    def _folder(self) -> Path:
        return ROOT / self.logs_folder

    def _process(self, id: str) -> int:
        """The process of an element's script, or 0 when none on this machine runs it."""
        name, _, place = id.partition("@")
        host, _, number = place.rpartition(":")
        command = Path(f"/proc/{number}/cmdline")
        if host != socket.gethostname() or not command.exists():
            return 0
        ours = ["bash", str(self._folder / f"{name}.sh"), ""]  # no other process is ever ended
        return int(number) if command.read_text().split("\0") == ours else 0


def _git(*words: str) -> str:
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
