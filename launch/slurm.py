"""SLURM, by submitit: an array with one task for each element, on a file system all nodes share.

SLURM warns a task shortly before its time is up (USR2). The task then saves its state and leaves
with `AGAIN`, upon which the batch script puts it back into the queue; it goes on where it was. A
preempted task is asked by TERM, and SLURM itself requeues it; `scancel` asks by TERM as well, and
the task stays away.
"""

import contextlib
import getpass
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from launch import job, run, tpu
from launch.job import Backend, JobSpec, call, option
from research.errors import AGAIN, UserError

STATES = {
    "PENDING": job.WAITING, "CONFIGURING": job.WAITING, "REQUEUED": job.WAITING,
    "REQUEUE_HOLD": job.WAITING, "SPECIAL_EXIT": job.WAITING, "RESV_DEL_HOLD": job.WAITING,
    "RUNNING": job.RUNNING, "COMPLETING": job.RUNNING, "SUSPENDED": job.RUNNING,
    "STOPPED": job.RUNNING, "SIGNALING": job.RUNNING, "STAGE_OUT": job.RUNNING,
    "COMPLETED": job.FINISHED, "CANCELLED": job.CANCELLED, "REVOKED": job.CANCELLED,
}  # fmt: skip
# After srun: its exit code is the highest of its tasks. A user's mistake (2) fails again. The last
# task's SLURM_JOB_ID is that of the whole array, so a task is named by its number.
TASK = "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
REQUEUE = """\
code=$?
if [ $code -eq {again} ] || {{ [ $code -ne 0 ] && [ $code -ne 2 ] && \
[ ${{SLURM_RESTART_COUNT:-0}} -lt {restarts} ]; }}; then
  scontrol requeue "{id}"
fi
exit $code"""


@dataclass(frozen=True)
class Slurm(Backend):
    """A SLURM cluster, seen from a machine that has its commands."""

    shares_disk: ClassVar[bool] = True
    ID: ClassVar[job.Form] = job.Form(r"\d+(_\d+)?", "a number of sbatch's, such as 1234_0")

    partition: str = option("", "partition of the cluster; by default the cluster's own", job.WORD)
    account: str = option("", "account that pays", job.WORD)
    qos: str = option("", "quality of service", job.WORD)
    cpus: int = option(0, "cores of each process; by default the cluster's own number")
    memory: int = option(0, "GB of memory of each machine; by default the cluster's own")
    parallel: int = option(256, "elements that may run at once", low=1)
    warning: int = option(90, "seconds before the time limit at which the state is saved")
    logs_folder: str = option(
        ".cache/launch", "where submitit keeps scripts and logs; shared", job.FOLDER
    )

    def check(self, spec: JobSpec) -> None:
        """Raise UserError for what SLURM does not run here: TPUs, containers, several slices."""
        if spec.image:
            raise UserError("--image: the slurm backend runs this checkout; leave it out")
        if spec.accelerator in tpu.KINDS:
            raise UserError(
                f"--topology {spec.accelerator}: no TPUs under SLURM; --backend tpu-vm or gke"
            )
        if spec.slices > 1:
            raise UserError(f"--slices {spec.slices}: slices are TPUs'; the slurm backend has none")
        if 0 < spec.timeout * 60 <= self.warning:
            raise UserError(
                f"--timeout {spec.timeout}m is not longer than --warning {self.warning} seconds"
            )
        job.FOLDER.check("logs_folder", str(self._folder(spec)))  # this checkout's name is in it

    def render(self, spec: JobSpec) -> str:
        """Return the batch script, submitit's own."""
        return _script(self._folder(spec), spec, self._parameters(spec))

    def submit(self, spec: JobSpec, env: Mapping[str, str]) -> list[str]:
        """Submit the array; return ids such as 1234_0. SLURM hands on sbatch's environment."""
        submitit = _submitit()
        for command in ("srun", "sbatch"):
            if not shutil.which(command):
                raise UserError(f"--backend slurm: no {command} here; log in to the cluster first")
        executor = submitit.SlurmExecutor(self._folder(spec))
        executor.update_parameters(**self._parameters(spec))
        words = [list(spec.command(index)[2:]) for index in range(len(spec.array))]
        try:
            with _handed_on(env):
                return [task.job_id for task in executor.map_array(run.start, words)]
        except submitit.core.utils.FailedJobError as error:
            raise UserError(f"sbatch refused the job: {' '.join(str(error).split())}") from error

    def states(self, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return {id: (state, node)}; SLURM forgets ended jobs after a few minutes."""
        asked = ["--noheader", "--array", "--states=all", "--format=%i|%F|%T|%N|%r"]
        found = {}
        for line in call("squeue", f"--user={getpass.getuser()}", *asked).splitlines():
            id, _, state, node, reason = line.split("|")
            where = node or (f"({reason})" if reason not in ("None", "") else "")
            found[id] = (STATES.get(state, job.FAILED), where)
        return {id: found[id] for id in ids if id in found}

    def logs(self, id: str) -> str:
        """Return what the first process of task `id` printed."""
        path = Path(self.logs_folder).absolute() / f"{id}_0_log.out"
        found = next(iter(Path(self.logs_folder).absolute().glob(f"*/{path.name}")), path)
        if not found.exists():
            raise UserError(f"{found}: no log yet")
        return found.read_text(errors="replace")

    def cancel(self, ids: Sequence[str]) -> None:
        """Cancel these tasks, running or waiting."""
        call("scancel", "--quiet", *ids)

    def _folder(self, spec: JobSpec) -> Path:
        return Path(self.logs_folder).absolute() / spec.name

    def _parameters(self, spec: JobSpec) -> dict[str, Any]:
        """The arguments of submitit's SlurmExecutor.update_parameters."""
        id = TASK if len(spec.array) > 1 else "$SLURM_JOB_ID"
        gpus = {}
        if spec.accelerator != "cpu":
            gpus = {"gpus_per_node": int(spec.topology) // spec.hosts}
        return {
            "job_name": spec.name,
            "nodes": spec.hosts,
            "ntasks_per_node": 1,
            **gpus,
            "time": spec.timeout or None,
            "partition": self.partition or None,
            "account": self.account or None,
            "qos": self.qos or None,
            "cpus_per_task": self.cpus or None,
            "mem": f"{self.memory}GB" if self.memory else None,
            "array_parallelism": self.parallel,
            "signal_delay_s": self.warning,
            "stderr_to_stdout": True,
            "wckey": None,
            "additional_parameters": {"requeue": True, **_export(spec)},
            "srun_args": ["--kill-on-bad-exit=1"],
            "teardown": REQUEUE.format(again=AGAIN, restarts=spec.restarts, id=id).splitlines(),
        }


def _export(spec: JobSpec) -> dict[str, str]:
    """What sbatch takes from its environment: by default, or by what the site says, and `env`."""
    site = os.environ.get("SBATCH_EXPORT", "ALL").split(",")
    words = [word for word in site if word not in ("NONE", "NIL")]
    return {"export": ",".join(dict.fromkeys([*words, *spec.env]))} if spec.env else {}


@contextlib.contextmanager
def _handed_on(env: Mapping[str, str]) -> Iterator[None]:
    """Have `env` in the environment meanwhile, and nothing there that says what sbatch takes."""
    former = os.environ.copy()
    os.environ.update(env)
    if env:
        os.environ.pop("SBATCH_EXPORT", None)  # see _export
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(former)


def _script(folder: Path, spec: JobSpec, parameters: dict[str, Any]) -> str:
    """The text submitit hands to sbatch; its executor, which writes it, wants a cluster around."""
    _submitit()
    from submitit.slurm import slurm

    command = (
        f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    )
    count = len(spec.array) if len(spec.array) > 1 else None
    return slurm._make_sbatch_string(command, folder, map_count=count, **parameters) + "\n"


def _submitit() -> Any:
    os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")  # else it closes everybody's handlers
    try:
        import submitit
    except ImportError:
        raise UserError(
            "--backend slurm needs submitit: pip install -r requirements-pods.txt"
        ) from None
    return submitit
