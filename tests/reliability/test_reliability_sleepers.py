"""A worker that is stopped past its lease and wakes changes nothing of its heir's.

It is really stopped (SIGSTOP), each time between its check of the lease and what it was about to
write, remove or rename; the heir takes the run over, finishes the study, and the first one wakes.
"""

import os
import signal
import time
from pathlib import Path

import pytest

from tests import tiny
from tests.reliability.interrupt import of_one_size

SHORT = """
from research.run import lease

lease.EXPIRY_SECONDS = 1.5
"""
SLEEP = "os.kill(os.getpid(), signal.SIGSTOP)"
MOMENTS = {
    "a row": ("research.run.record.digest", "args[0].get('step') == 10"),
    "a row of a finished run": ("research.run.record.digest", "args[0].get('step') == 24"),
    "the heartbeat": ("os.replace", "str(args[1]).endswith('trunk/progress.json')"),
    "a checkpoint's name": ("os.rename", "'/8.orbax-checkpoint-tmp-' in str(args[0])"),
    "the result": ("os.replace", "str(args[1]).endswith('steps18/result.json')"),
    "the samples": ("os.replace", "str(args[1]).endswith('samples.txt')"),
}
QUICK = ("a row",)


def asleep(process) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2][0] == "T"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="sees sleepers in Linux' /proc")
@pytest.mark.parametrize(
    "moment", [m if m in QUICK else pytest.param(m, marks=pytest.mark.slow) for m in MOMENTS]
)
def test_a_worker_that_slept_wakes_to_another_s_run(undisturbed, workdir, moment):
    folder = workdir / "tiny"
    function, when = MOMENTS[moment]
    poison = tiny.poison(function, f"{when} and not os.path.exists({str(workdir / 'slept')!r})",
                         f"open({str(workdir / 'slept')!r}, 'w').close();{SLEEP}")  # fmt: skip
    sleeper = tiny.Started(tiny.one_worker, tiny.write(workdir, poison=SHORT + poison), str(folder))
    try:
        end = time.monotonic() + 120
        while not (sleeper.process.is_alive() and asleep(sleeper.process)):
            assert sleeper.process.is_alive() and time.monotonic() < end, moment
            time.sleep(0.02)
        code, _, err = tiny.worker(tiny.write(workdir, poison=SHORT), folder)
        assert (code, err) == (0, []), (moment, err)
        left = of_one_size(undisturbed)
        assert tiny.left(folder) == left, moment
    finally:
        os.kill(sleeper.process.pid or 0, signal.SIGCONT)
        code, _, err = sleeper.end()
    assert code in (0, 75) and not any("Traceback" in line for line in err), (code, err)
    assert tiny.left(folder) == left, moment
    assert not list(folder.rglob("*isoflop-tmp")) and not list(folder.rglob("*checkpoint-tmp*"))
