"""A stand-in for gcloud: one queued resource whose machine is a folder, and trouble on demand.

In the folder FAKE_GCLOUD: `calls` gets each command line as JSON; `state` is the resource's, empty
where there is none; `plan` holds a line for each start of the training command: its exit code, and
after a space the state the resource is in from then on; `creates` holds a line for each creation:
the state that it leads to (ACTIVE when there is none left). `home` is the machine's home.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ.get("FAKE_GCLOUD", "."))
STATE, HOME = FOLDER / "state", FOLDER / "home"
# What `uv venv` makes: an interpreter that does as planned.
PYTHON = f"""\
#!/usr/bin/env bash
echo "$@" >> {FOLDER}/trained; echo "$ISOFLOP_REVISION $LIBTPU_INIT_ARGS" >> {FOLDER}/env
exec {sys.executable} {Path(__file__).resolve()} train
"""


def take(name: str, default: str) -> str:
    """The first line of a file, which loses it."""
    path = FOLDER / name
    lines = path.read_text().splitlines() if path.exists() else []
    path.write_text("".join(line + "\n" for line in lines[1:]))
    return lines[0] if lines else default


def train() -> int:
    code, _, state = take("plan", "0").partition(" ")
    if code == "wait":
        (FOLDER / "waits").touch()
        sys.stdin.read()
    if state:
        STATE.write_text(state)
    return int(code)


def uv(words: list[str]) -> int:
    if words[0] == "venv":
        Path(".venv/bin").mkdir(parents=True)
        python = Path(".venv/bin/python")
        python.write_text(PYTHON)
        python.chmod(0o755)
    return 0


def gcloud(words: list[str]) -> int:
    with (FOLDER / "calls").open("a") as calls:
        calls.write(json.dumps(words) + "\n")
    verb, options = words[3], {word.partition("=")[0]: word.partition("=")[2] for word in words}
    if verb == "create":
        STATE.write_text(take("creates", "ACTIVE"))
    elif verb == "delete":
        STATE.write_text("")
    elif verb == "list" and options["--format"] == "json":
        name = FOLDER.joinpath("name").read_text()
        print(json.dumps([{"name": f"projects/p/{name}", "state": {"state": STATE.read_text()}}]))
    elif verb == "list":
        print(STATE.read_text())
    elif verb == "scp":
        end = next(index for index, word in enumerate(words) if word.endswith(":"))
        for path in map(Path, words[4:end]):
            shutil.copy(path, HOME / path.name)  # the mode too, as scp does
    elif verb == "ssh":
        environment = os.environ | {"HOME": str(HOME)}
        return subprocess.run(
            ["bash", "-c", options["--command"]], cwd=HOME, env=environment, check=False
        ).returncode
    return 0


if __name__ == "__main__":
    first, *rest = sys.argv[1:]
    sys.exit({"train": train}[first]() if first == "train" else globals()[first](rest))
