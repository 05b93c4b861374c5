"""The notebook runs from top to bottom, with fewer images, and is kept without outputs."""

import json
from pathlib import Path

from needs import need_module
from processes import HANG

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "first_look.ipynb"


def test_the_notebook_is_kept_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and not any(cell["outputs"] or cell["execution_count"] for cell in code)


def test_the_notebook_runs(tmp_path, monkeypatch):
    nbformat = need_module("nbformat", "docs")
    nbclient = need_module("nbclient", "docs")
    need_module("ipykernel", "docs")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    for name, value in {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src"), "IPYTHONDIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    small = next(cell for cell in notebook.cells if cell.source.startswith("SIZE, EPOCHS"))
    _, _, rest = small.source.partition("\n")
    small.source = f"SIZE, EPOCHS = 150, 1\n{rest}"
    nbclient.NotebookClient(notebook, timeout=HANG, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    pictures = [each for cell in outputs for each in cell if "image/png" in each.get("data", {})]
    assert len(pictures) == 3 and (tmp_path / "first-look" / "run" / "model").is_dir()
