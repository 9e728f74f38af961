"""Data whose preparation is killed at every moment are prepared again, to the same bytes."""

import signal
from pathlib import Path

from research import data, study
from tests import tiny

GETS_ITS_NAME = "os.path.basename(args[1]).startswith('markov')"
COUNTED = "\n\nimport itertools\n\nopened = itertools.count()\n"
KILLS = {
    "after the first array": COUNTED
    + tiny.poison("hashlib.sha256", "not args and next(opened) == 1"),
    "while what the one before left is removed": tiny.poison(
        "os.unlink", "kwargs.get('dir_fd') is not None", "original(*args, **kwargs);" + tiny.DIE
    ),
    "before an array is on the disk": tiny.poison("os.fsync", "True"),
    "before meta.json gets its name": tiny.poison(
        "os.replace", "str(args[1]).endswith('meta.json')"
    ),
    "before the pack gets its name": tiny.poison("os.replace", GETS_ITS_NAME),
    "after it, before the name is on the disk": tiny.poison(
        "os.replace", GETS_ITS_NAME, "original(*args);" + tiny.DIE
    ),
}


def prepare(spec: str) -> None:
    data.load(study.load_config(spec).data, "train", verify=True)


def packed(folder: Path) -> dict[str, bytes]:
    files = [path for path in (folder / "data" / "packed").rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_kill_9_at_every_moment_of_a_preparation(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    for each in (whole, folder):
        each.mkdir()
    assert tiny.Started(prepare, tiny.write(whole)).end()[0] == 0
    last = list(KILLS)[-1]
    for moment, poison in KILLS.items():
        code, _, err = tiny.Started(prepare, tiny.write(folder, poison=poison)).end()
        assert (code, err) == (-signal.SIGKILL, []), (moment, err)
        names = [path.name for path in (folder / "data" / "packed").iterdir()]
        assert len(names) == 1, moment  # what the one before left is gone
        assert names[0].startswith(".") == (moment != last), moment
    assert packed(folder) == packed(whole)  # whole under its name, before anybody looked again
    for _ in range(2):
        assert tiny.Started(prepare, tiny.write(folder)).end() == (0, [], [])
        assert packed(folder) == packed(whole)
