"""The snippet that opens the README runs as it stands."""

import re
from pathlib import Path

import numpy as np
from folders import write_folder
from PIL import Image
from runs import write_run

from imitate.data.prepared import Prepared

README = Path(__file__).parents[1] / "README.md"


def test_the_opening_snippet_runs(tmp_path, monkeypatch):
    data = write_folder(tmp_path / "data" / "open-i")
    write_run(tmp_path / "runs", data=data).rename(tmp_path / "runs" / "open-i")
    pixels = np.array(Prepared.open(data).images[:2])
    Image.fromarray(pixels[0]).resize((50, 60)).save(tmp_path / "first.dcm", "PNG")  # the content decides
    Image.fromarray(pixels[1]).save(tmp_path / "second.png")
    monkeypatch.chdir(tmp_path)
    snippet = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert len(snippet.strip().splitlines()) <= 10
    found = {}
    exec(snippet, found)
    assert found["table"].shape == (2, 2) and ((found["table"] > 0) & (found["table"] < 1)).all(axis=None)
    assert len(found["reports"]) == 5 and len(found["images"]) == 5
    assert found["heat"].shape == (60, 50) and found["vectors"].shape == (2, 32)
