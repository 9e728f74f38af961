"""The notebooks run to their last cell on a run folder, and are stored without output."""

import os
from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.report.synthetic import PARTS, write_study

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def executed(name: str, tmp_path, monkeypatch) -> list[str]:
    """The outputs of every cell of a notebook, run on a planted study of one part."""
    write_study(tmp_path / "run", parts=PARTS[:1])
    monkeypatch.setenv("ISOFLOP_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("ISOFLOP_EPOCH", raising=False)
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(NOTEBOOKS)}}
    ).execute()
    return [str(cell.get("outputs", "")) for cell in notebook.cells]


def test_quickstart_runs(tmp_path, monkeypatch):
    outputs = executed("quickstart", tmp_path, monkeypatch)
    assert "here 'text'" in outputs[1]
    assert "alpha" in outputs[3] and "inside" in outputs[3]
    assert "by isoFLOP: C^" in outputs[5]
    assert "<svg" in outputs[7]
    assert "def" in outputs[9]


def test_laws_runs(tmp_path, monkeypatch):
    outputs = executed("laws", tmp_path, monkeypatch)
    assert "36 runs" in outputs[1]
    assert "repeated data" in outputs[3]
    assert "predicts held-out runs best" in outputs[5] and "flops:0.25decade" in outputs[5]
    assert "without text-" in outputs[7] and "alpha" in outputs[7]
    assert "<svg" in outputs[8] and "Held-out runs inside" in outputs[8]
    assert "FLOPs by chinchilla" in outputs[10] and "<svg" in outputs[10]
    assert "of their cost" in outputs[12] and "predicted" in outputs[12]
    assert "9 of 9 lines pass" in outputs[14]


@pytest.mark.slow
def test_diffusion_runs(tmp_path, monkeypatch, data_folder):
    monkeypatch.setenv("ISOFLOP_FLOPS", "3e10")
    monkeypatch.setenv(
        "XLA_FLAGS", f"{os.environ['XLA_FLAGS']} --xla_cpu_use_fusion_emitters=false"
    )
    monkeypatch.setenv("ISOFLOP_DATA", str(data_folder))
    outputs = executed("diffusion", tmp_path, monkeypatch)
    assert "3 models of 468 classes" in outputs[1]
    assert all("image/png" in outputs[cell] for cell in (3, 5, 7, 9, 11))
    assert "frechet" in outputs[13] and "<svg" in outputs[13]


@pytest.mark.parametrize(("name", "cells"), [("quickstart", 10), ("laws", 15), ("diffusion", 14)])
def test_notebooks_are_stored_without_output(name, cells):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(notebook.cells) == cells
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
