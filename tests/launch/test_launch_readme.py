"""Every command of launch/README.md that can run here does: sweeps are rendered, gcloud parses."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from launch import follow, tpu_vm
from research.__main__ import main
from tests import tiny

TEXT = (tiny.ROOT / "launch/README.md").read_text()
NAMES = {"PROJECT": "my-project", "BUCKET": "my-bucket", "NUMBER": "123", "IMAGE": "lab/isoflop:1"}
LINES = [line.strip() for line in re.findall(r"^    ([a-z].*)$", TEXT, re.M)]
NAMED = [re.sub("|".join(NAMES), lambda found: NAMES[found[0]], line) for line in LINES]
COMMANDS = [shlex.split(line, comments=True) for line in NAMED]
SWEEPS = [words[3:] for words in COMMANDS if words[:4] == ["python", "-m", "research", "sweep"]]
GCLOUD = [
    list(words)
    for words in dict.fromkeys(map(tuple, COMMANDS))
    if words[0] == "gcloud" and words[1] != "auth"
]


@pytest.fixture
def clean(monkeypatch):
    """A repository without changes, whatever this one has."""
    answers = {"rev-parse": "0" * 40, "status": "", "cat-file": "blob"}
    monkeypatch.setattr(tpu_vm, "_git", lambda verb, *words: answers[verb])
    monkeypatch.chdir(tiny.ROOT)


@pytest.mark.parametrize("words", [w for w in SWEEPS if "--backend" in w], ids=" ".join)
def test_sweeps_render(clean, capsys, words):
    assert main([*words, "--render"] if "--render" not in words else words) == 0
    out = capsys.readouterr().out
    assert "launch.run" in out or "submitit" in out


def test_what_is_sent_was_shown():
    """Each backend's sweep is rendered first, by the same command."""
    shown = [words[:-1] for words in SWEEPS if words[-1] == "--render"]
    assert len(shown) == 3 and all(words in SWEEPS for words in shown)


def test_every_subcommand_is_there():
    assert {words[1] for words in SWEEPS if not words[1].startswith("-")} == set(follow.COMMANDS)


def test_every_file_is_there():
    named = re.findall(r"(?:launch|research|experiments)/[\w/]+\.\w+|[\w-]+\.(?:py|txt)\b", TEXT)
    roots = (tiny.ROOT, tiny.ROOT / "launch")
    lost = [name for name in named if not any((root / name).exists() for root in roots)]
    assert not lost
    described = set(re.findall(r"\b\w+\.py", TEXT.partition("What the pieces are")[2]))
    assert described == {p.name for p in (tiny.ROOT / "launch").glob("[a-z]*.py")}


@pytest.mark.skipif(not shutil.which("gcloud"), reason="no gcloud here to parse its options")
def test_gcloud_takes_every_command(tmp_path):
    """Without an account it ends with 1 once it has parsed, with 2 at a bad option."""
    environment = os.environ | {"CLOUDSDK_CONFIG": str(tmp_path), "HOME": str(tmp_path)}
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    started = [
        subprocess.Popen([*words, "--quiet"], env=environment, **options) for words in GCLOUD
    ]
    said = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [1] * len(GCLOUD), said
    assert all("active account" in text for text in said)


def test_the_image_copies_what_it_installs():
    text = Path(tiny.ROOT / "launch/Dockerfile").read_text()
    copied = re.search(r"^COPY (.*) \./$", text, re.M)[1].split()
    assert sorted(copied) == sorted(re.findall(r"--requirement (\S+)", text))
    assert all((tiny.ROOT / name).exists() for name in copied)


# What goes into an image.


def in_image(path: str) -> bool:
    """Whether .dockerignore lets `path` pass: the last line that fits it or a folder of it says."""
    passes, parts = True, path.split("/")
    above = {"/".join(parts[: index + 1]) for index in range(len(parts))}
    for line in (tiny.ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            words = re.split(r"(\*\*/|\*)", line.removeprefix("!"))
            known = {"**/": "(.*/)?", "*": "[^/]*"}
            pattern = "".join(known.get(word, re.escape(word)) for word in words)
            if any(re.fullmatch(pattern, each) for each in above):
                passes = line.startswith("!")
    return passes


def test_no_secret_gets_into_an_image():
    places = ("", "research/", "research/run/", "launch/", "experiments/")
    files = (".env", "key.pem", "id_rsa", "credentials.json", ".secret.py", "token.txt", "a.env")
    assert not [place + file for place in places for file in files if in_image(place + file)]
    rest = (".git/config", ".venv/bin/x.py", "runs/a/config.json", "notes.py", "data/x/data.py")
    assert not [path for path in rest if in_image(path)]


def test_all_that_runs_gets_into_an_image():
    command = ["git", "ls-files", "research", "launch", "experiments", "requirements.txt"]
    listed = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True, check=True)
    left = {"launch/Dockerfile", "launch/README.md", "launch/queue.yaml"}
    left |= {"experiments/diffusion_isoflop.md"}  # a data card
    paths = [path for path in listed.stdout.split() if not path.endswith(".csv")]  # no run's
    assert {path for path in paths if not in_image(path)} == left
