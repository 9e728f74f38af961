"""requirements.txt says what the code imports: nothing missing or idle, each with a reason."""

import ast
import importlib.metadata
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OURS = {"research", "experiments", "launch", "tests"}

# Needed by something we import, and imported by none of our lines.
INDIRECT = {
    "importlib-resources": "tensorflow-datasets imports it and does not declare it",
    "array-record": "tensorflow-datasets writes its files through it and does not declare it",
    "pyarrow": "pandas reads Parquet through it",
}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(name: str) -> dict[str, str]:
    """{distribution: comment} of a requirements file."""
    lines = (ROOT / name).read_text().splitlines()
    rows = [line for line in lines if line and not line.startswith(("#", "-r "))]
    pairs = [line.partition("#") for line in rows]
    return {canonical(re.split(r"[\s\[<>=~!]", spec)[0]): why.strip() for spec, _, why in pairs}


def imported(*folders: str) -> set[str]:
    """Top-level names imported anywhere under the folders that are neither ours nor Python's."""
    names = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    names.add(node.module or "")
    return {name.split(".")[0] for name in names} - OURS - set(sys.stdlib_module_names)


def distributions(modules: set[str]) -> set[str]:
    """Distributions that install the modules, of those that are installed at all."""
    known = importlib.metadata.packages_distributions()
    return {canonical(known[module][0]) for module in modules if module in known}


def test_every_import_is_declared():
    user = set(declared("requirements.txt")) | set(declared("requirements-text.txt"))
    pods = user | set(declared("requirements-pods.txt"))
    assert distributions(imported("research", "experiments")) <= user
    assert distributions(imported("launch")) <= pods
    assert distributions(imported("tests")) <= pods | set(declared("requirements-dev.txt"))


def test_every_requirement_earns_its_place():
    user = declared("requirements.txt")
    assert set(user) - distributions(imported("research", "experiments", "launch")) <= set(INDIRECT)
    assert set(INDIRECT) <= set(user)


def test_every_line_has_its_reason():
    for name in (
        "requirements.txt",
        "requirements-pods.txt",
        "requirements-gpus.txt",
        "requirements-text.txt",
        "requirements-interop.txt",
        "requirements-fidelity.txt",
        "requirements-dev.txt",
    ):
        assert all(declared(name).values()), declared(name)
