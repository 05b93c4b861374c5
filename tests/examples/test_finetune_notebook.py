"""The notebook runs from top to bottom on 300 images and their table, and is kept without outputs."""

import json
from pathlib import Path

import pytest
import torch
from example import EXAMPLES, write_labelled
from needs import need_module
from processes import HANG
from runs import write_run

SOURCE = Path(__file__).parents[2] / "src"
NOTEBOOK = EXAMPLES / "finetune_300_images.ipynb"


def test_the_notebook_is_kept_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert any("not a medical device" in "".join(cell["source"]) for cell in cells)


@pytest.mark.slow
def test_the_notebook_runs_on_300_images(tmp_path, monkeypatch):
    nbformat = need_module("nbformat", "docs")
    nbclient = need_module("nbclient", "docs")
    need_module("ipykernel", "docs")
    write_run(tmp_path, tone="equalized")
    write_labelled(tmp_path / "my-images", 300, path_column="image_path")
    (tmp_path / "my-images" / "001.png").write_bytes(b"no image")
    for name, value in {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(SOURCE), "IPYTHONDIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    settings = next(cell for cell in notebook.cells if cell.source.startswith("MODEL = "))
    lines = {"MODEL = ": 'MODEL = "run"', "EPOCHS, ": "EPOCHS, SEEDS, RESAMPLES = 1, 1, 20"}
    settings.source = "\n".join(
        next((new for start, new in lines.items() if line.startswith(start)), line)
        for line in settings.source.splitlines()
    )
    nbclient.NotebookClient(notebook, timeout=HANG, resources={"metadata": {"path": tmp_path}}).execute()
    shown = "".join(
        str(each.get("data", each.get("text", ""))) for cell in notebook.cells for each in cell.get("outputs", [])
    )
    assert "my-images/001.png: not a DICOM, PNG or JPEG file" in shown, "it is named, and the others are used"
    assert json.loads((tmp_path / "finetuned" / "data" / "index.json").read_text())["settings"]["equalized"]
    assert "300 images of 150 patients" in shown and "image/png" in shown and "pre-trained" in shown
    results = sorted(path.name for path in (tmp_path / "finetuned").glob("*.json"))
    assert results == [
        f"{task}-classification-{name}.json" for task in ("finetune", "linear") for name in ("model", "random")
    ]
    kept = torch.load(tmp_path / "finetuned" / "network.pt", weights_only=True)
    assert kept["labels"] == ["Effusion", "Cardiomegaly"] and kept["head"]["weight"].shape[0] == 2
