"""Whatever a jobs.json or an option holds, no shell, scheduler or manifest reads more than a word.

A study's folder is shared, so its jobs.json may be anybody's. Each of its texts is replaced by what
would run, redirect, split or be taken for an option: it is refused, or reaches the program that it
was for as the same text.
"""

import copy
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from launch import backends, journal, run, variables
from launch.gke import Gke
from launch.slurm import Slurm
from launch.tpu_vm import GCLOUD, TpuVm
from research.errors import UserError

HOSTILE = [
    *("$(touch canary)", "`touch canary`", "'; touch canary; '", '"; touch canary; "'),
    *("a;touch canary", "a|touch canary", "a&touch canary&", "a>canary", "${IFS}", "~root", "\\"),
    *("a\n#SBATCH --wrap=touch", "a\ntouch canary", "a\r\nb", "a\0b", "\x1b[2J", "a\u2028b"),
    *("--wrap=touch", "-x", "--all", "--config=evil.py", "..", "../../evil", "/etc/passwd", "%j"),
    *("{name}", "$HOME", "$(HOME)", "a b", " ", "é", "*", "!!", "1e3", "yes", "", "\ud800"),
    *(None, True, 7, -1, 10**30, 1.5, [], {}, ["$(touch canary)"], {"a": "$(touch canary)"}),
]
texts = st.sampled_from(HOSTILE) | st.text(max_size=12)
COMMAND = run.argv(run.Element("experiments/lm.py", "gs://b/runs", 1, ("--config.model.depth=6",)))
SPEC = {
    **{"name": "lm-0a1b", "argv": list(COMMAND), "env": ["TOKEN"], "array": ["a", "b"]},
    **{"accelerator": "v5e", "topology": "4x4", "slices": 2, "hosts": 4, "image": ""},
    **{"timeout": 60, "restarts": 1},
}
GPUS = {"accelerator": "h100", "topology": "8", "slices": 1, "hosts": 1}
CASES: dict[str, tuple[Any, dict, list[str]]] = {
    "slurm": (Slurm("gpu", "lab", "long", 2, 8), GPUS, ["12_0", "12_1"]),
    "gke": (Gke("tpus", "lab", "pods", service_account="me"), {"image": "lab/isoflop:1"}, []),
    "tpu-vm": (
        TpuVm("lab", "us-west4-a", service_account="me@lab.com", revision="0" * 40),
        {},
        ["lm-0a1b-0@host:12", "lm-0a1b-1@host:13"],
    ),
}


def content(name: str) -> dict[str, Any]:
    """What jobs.json holds after a job was submitted to backend `name`."""
    backend, changes, ids = CASES[name]
    one = {"backend": name, "options": dict(vars(backend)), "spec": {**SPEC, **changes}}
    one |= {"ids": ids or ["lm-0a1b-0", "lm-0a1b-1"], "submitted_at": "now"}
    groups = {"a": ["a"], "b": ["b"]}
    return copy.deepcopy({"study": "lm", "groups": groups, "submissions": [one]})


def places(tree: Any, path: tuple = ()) -> list[tuple]:
    """The path to each text and number of a JSON, and to each list and object that holds them."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for key, value in inner:
        found.append((*path, key))
        if isinstance(value, dict | list):
            found += places(value, (*path, key))
    return found


def changed(name: str, path: tuple, value: Any, append: bool) -> dict[str, Any]:
    tree = content(name)
    place = tree
    for key in path[:-1]:
        place = place[key]
    former = place[path[-1]]
    both = append and isinstance(former, str) and isinstance(value, str)
    place[path[-1]] = former + value if both else value
    return tree


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=200)
@given(st.data())
def test_a_hostile_record(name, folder, data):
    path = data.draw(st.sampled_from(places(content(name))))
    tree = changed(name, path, data.draw(texts), append=data.draw(st.booleans()))
    (folder / journal.FILE).write_text(json.dumps(tree))
    try:
        (submission,) = journal.read(folder).submissions
        backend, spec = submission.open(), submission.spec
        text = backend.render(spec)
    except UserError:
        return
    for id in submission.ids:
        assert not id.startswith("-") and not set(id) & set(" \n/;$*`'\"\\")
    if name == "tpu-vm":
        words(backend, spec, folder)
    else:
        {"slurm": lines, "gke": documents}[name](backend, spec, text)


@pytest.mark.parametrize("name", CASES)
def test_the_record_itself_is_read(name, folder):
    (folder / journal.FILE).write_text(json.dumps(content(name)))
    (submission,) = journal.read(folder).submissions
    assert submission.open() == CASES[name][0] and submission.spec.env == ("TOKEN",)
    assert submission.open().render(submission.spec)


def lines(backend: Slurm, spec, text: str) -> None:
    """SLURM reads as many options as there are, each with its value, and no shell runs another."""
    plain = CASES["slurm"][0].render(spec).splitlines()
    flags = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    given = {}
    for line in flags:
        _, word = shlex.split(line)
        key, _, value = word.removeprefix("--").partition("=")
        given[key] = value
    for key in ("account", "partition", "qos"):
        assert given.get(key, "") == getattr(backend, key)
    assert given["job-name"] == spec.name
    own = [line.split("=")[0] for line in plain if line.startswith("#SBATCH")]
    optional = {f"#SBATCH --{key}" for key in ("account", "partition", "qos", "mem")}
    optional |= {f"#SBATCH --{key}" for key in ("cpus-per-task", "time", "array", "export")}
    assert set(own) - {line.split("=")[0] for line in flags} <= optional
    (srun,) = [shlex.split(line) for line in text.splitlines() if line.startswith("srun ")]
    assert srun[-1] == str(backend._folder(spec)) and srun[-2] == "submitit.core._submit"
    shell = [line for line in text.splitlines() if line and not line.startswith(("#", "srun "))]
    assert len(shell) == 6 and shell[0] == "export SUBMITIT_EXECUTOR=slurm", shell


def documents(backend: Gke, spec, text: str) -> None:
    """The manifests hold the strings, which Kubernetes does not expand."""
    found = list(yaml.safe_load_all(text))
    jobsets = [each for each in found if each["kind"] == "JobSet"]
    assert jobsets == [backend.manifest(spec, index) for index in range(len(spec.array))]
    for index, each in enumerate(jobsets):
        pod = each["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
        command = pod["containers"][0]["command"]
        assert all(word.count("$") % 2 == 0 for word in command)
        assert [w.replace("$$", "$") for w in command] == ["python", *spec.command(index)]


STAND_INS = """
gcloud() { printf '%s\\0' "$@" END >&3; }
git() { :; }
"""


def words(backend: Any, spec, here: Path) -> None:
    """The script is run with stand-ins that note their words; so is what it runs on machines."""
    script = backend.script(spec, 0)
    defined = script.partition("failures=0")[0]
    done = subprocess.run(
        ["bash", "-c", f"{STAND_INS}{defined}\nexec 3>&1 >&2\ncreate; state; ship; run; delete"],
        capture_output=True, cwd=here, check=False,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    calls = [call.split("\0") for call in done.stdout.decode().split("\0END\0") if call]
    name = spec.element(0)
    create, look, copied, _, ran, deleted = [("gcloud", *call) for call in calls]
    assert create == backend.create(spec, name) and deleted == backend.delete(name)
    assert look == backend.look(name) and copied[: len(GCLOUD) + 1] == (*GCLOUD, "scp")
    command = next(w for w in ran if w.startswith("--command=")).removeprefix("--command=")
    inner = (
        'cd() { :; }; .() { :; }; rm() { :; }; flock() { printf "%s\\0" "$@"; };'
        f"set -f; {command.replace('. ../', ': ../', 1)}"
    )
    said = subprocess.run(["bash", "-c", inner], capture_output=True, cwd=here, check=False)
    assert said.stdout.decode().split("\0")[-len(spec.command(0)) - 1 : -1] == [*spec.command(0)]
    assert not said.stderr and not (here / "canary").exists()


@pytest.mark.parametrize("name", CASES)
@given(st.data())
def test_a_hostile_option(name, data):
    """The options of the command line are held to the same forms; the line shows them escaped."""
    options = dict(vars(CASES[name][0]))
    key = data.draw(st.sampled_from(sorted(options)))
    value = data.draw(texts)
    try:
        made = backends.make(name, {**options, key: value})
    except UserError as error:
        assert str(error).isprintable() and f"--{key}" in str(error)
        return
    assert type(getattr(made, key)) is type(options[key])
    if isinstance(value, str):
        assert not value.startswith("-") and not set(value) & set("\n\0`$'\"\\")


@given(st.lists(st.sampled_from([*COMMAND, "-c", "--trust", "--workdir=x", "--config", "x.py"])))
def test_only_elements_are_run(words):
    try:
        element = run.read((*COMMAND[:2], *words))
    except UserError:
        return
    assert run.argv(element) == (*COMMAND[:2], *words)
    assert all(flag.startswith("--config.") for flag in element.flags)


@given(st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True), st.text()))
def test_variables(pairs):
    try:
        found, written = variables.parse([f"{name}={value}" for name, value in pairs.items()])
    except UserError as error:
        assert "control character" in str(error) and str(error).isprintable()
        return
    assert found == written == pairs


def test_a_word_that_is_no_variable_shows_no_value(monkeypatch):
    for word in ("A-B=hunter2", "=hunter2", "9=hunter2", "A B=hunter2"):
        with pytest.raises(UserError, match=r"--env '.*=\*\*\*': expected NAME") as caught:
            variables.parse([word])
        assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("THERE", "hunter2")
    assert variables.parse(["THERE", "A=1=2"]) == ({"THERE": "hunter2", "A": "1=2"}, {"A": "1=2"})
    with pytest.raises(UserError, match="--env NOT_THERE: not set here; export it first"):
        variables.parse(["NOT_THERE"])
