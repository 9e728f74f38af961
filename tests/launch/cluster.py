"""A SLURM cluster of one machine, without systemd: munged, slurmctld and slurmd started by hand.

Needs root and Debian's slurm-wlm and munge. Also a script, to try the slurm backend out:

    python -m tests.launch.cluster COMMAND ...    # runs COMMAND beside a fresh cluster
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
# No accounting, no cgroups. `low` gives way to `high`. A requeued job may start again once the
# credential of its first start has expired: five seconds here, not two minutes.
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort={controller}
SlurmdPort={daemon}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
KillWait=30
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,defer,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES PriorityTier=1 GraceTime=60 MaxTime=60 OverSubscribe=NO
PartitionName=high Nodes={host} PriorityTier=2 MaxTime=60 OverSubscribe=NO
"""


def missing() -> str:
    """Why no cluster can be started here, or an empty string."""
    if os.geteuid() != 0:
        return "SLURM's daemons want root, and this is not"
    absent = [name for name in PROGRAMS if not _find(name)]
    return f"no {', '.join(absent)} here: apt-get install slurm-wlm munge" if absent else ""


@contextlib.contextmanager
def started() -> Iterator[dict[str, str]]:
    """Run a cluster; yields the variables by which SLURM's commands find it.

    Raises:
        RuntimeError: with the end of the controller's log, when it does not come up.
    """
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key, config = folder / "munge.key", folder / "slurm.conf"
    key.touch(0o600)
    key.write_bytes(os.urandom(128))
    controller, daemon = _free_ports(2)
    host = socket.gethostname().partition(".")[0]
    config.write_text(CONFIG.format(folder=folder, host=host, controller=controller, daemon=daemon))
    environment = {**os.environ, "SLURM_CONF": str(config)}
    running = []

    def start(name: str, *words: str) -> None:
        errors = (folder / f"{name}.err").open("w")
        command = [_find(name), *words]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": errors}
        running.append(subprocess.Popen(command, env=environment, **quiet))

    try:
        files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        files.append(f"--socket={folder}/munge.socket")
        start("munged", "--foreground", "--force", *files)
        _wait((folder / "munge.socket").exists, folder, "munged")
        start("slurmctld", "-D")
        start("slurmd", "-D")
        idle = ("sinfo", "--noheader", "--format=%t")
        _wait(lambda: "idle" in _run(environment, *idle), folder, "slurmctld")
        yield {"SLURM_CONF": str(config)}
    finally:
        with contextlib.suppress(subprocess.SubprocessError):
            _run(environment, "scancel", "--signal=KILL", "--full", "--user=root")
            _run(environment, "scancel", "--user=root")
        for process in reversed(running):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(ready, folder: Path, name: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            logs = [folder / f"{name}.log", folder / f"{name}.err"]
            said = "".join(log.read_text()[-2000:] for log in logs if log.exists())
            raise RuntimeError(f"{name} did not come up:\n{said}")
        time.sleep(0.2)


def _run(environment: dict[str, str], *words: str) -> str:
    return subprocess.run(
        words, env=environment, capture_output=True, text=True, timeout=30, check=False
    ).stdout


def _find(name: str) -> str:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or ""


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


if __name__ == "__main__":
    if reason := missing():
        sys.exit(reason)
    with started() as found:
        sys.exit(subprocess.run(sys.argv[1:], env=os.environ | found, check=False).returncode)
