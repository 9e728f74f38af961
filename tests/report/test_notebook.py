"""The notebook runs to its last cell on a run folder, and is stored without output."""

from pathlib import Path

import nbclient
import nbformat

from tests.report.synthetic import PARTS, write_study

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "quickstart.ipynb"


def _outputs(notebook) -> list[str]:
    return [str(cell.get("outputs", "")) for cell in notebook.cells]


def test_notebook_runs(tmp_path, monkeypatch):
    write_study(tmp_path / "run", parts=PARTS[:1])
    monkeypatch.setenv("ISOFLOP_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    ).execute()
    outputs = _outputs(notebook)
    assert "here 'text'" in outputs[1]
    assert "alpha" in outputs[3] and "inside" in outputs[3]
    assert "by isoFLOP: C^" in outputs[5]
    assert "<svg" in outputs[7]
    assert "def" in outputs[9]


def test_notebook_is_stored_without_output():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(notebook.cells) == 10
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
