import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from folders import write_folder

from imitate.data.writing import fingerprint
from imitate.doctor.checks import Finding
from imitate.doctor.prepared import examine_prepared

IMAGES = 6


def prepared(root: Path, *, mode: str = "clean", patients: str = "aabbcd", text: bool = True) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    np.save(root / "images.npy", np.random.default_rng(0).integers(0, 255, (IMAGES, 8, 8), dtype=np.uint8))
    frame = pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(IMAGES)],
            "patient": list(patients),
            "study": list(patients),
            "split": ["train", "train", "train", "train", "val", "test"],
            "view": "PA",
            "findings": ["Clear." if text and i % 2 else None for i in range(IMAGES)],
            "impression": ["Normal." if text else None for _ in range(IMAGES)],
            "labels": [[float(i % 2)] for i in range(IMAGES)],
            "boxes": [[] for _ in range(IMAGES)],
        }
    )
    frame.to_parquet(root / "table.parquet")
    meta = {"format_version": 1, "size": 8, "mode": mode, "source": "table", "classes": ["Edema"]}
    (root / "meta.json").write_text(json.dumps(meta | {"fingerprint": fingerprint(root)}))
    return root


def embed(root: Path, *, name: str = "lsa-8", zero: bool = True, rows: int = IMAGES) -> None:
    (root / "text" / name).mkdir(parents=True)
    findings = np.ones((rows, 4), np.float16)
    if zero:
        findings[::2] = 0
    np.save(root / "text" / name / "findings.npy", findings)
    np.save(root / "text" / name / "impression.npy", np.ones((rows, 4), np.float16))
    (root / "text" / name / "meta.json").touch()


def examined(path: Path) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine_prepared(path)}


def test_a_sound_folder(tmp_path: Path) -> None:
    embed(prepared(tmp_path))
    found = examined(tmp_path)
    assert {finding.state for finding in found.values()} == {"ok"}
    assert found["folder"].told == "6 images of 8 px from table, mode clean"
    assert found["text"].told == "50% have findings, 100% have impression"
    assert found["embeddings lsa-8"].told == "fit the table"


def test_text_is_looked_at_where_there_is_any(tmp_path: Path) -> None:
    assert "text" not in examined(prepared(tmp_path / "a", text=False))
    assert examined(prepared(tmp_path / "b"))["embeddings"].state == "ok"


def test_unfinished_embeddings_are_no_fault(tmp_path: Path) -> None:
    embed(prepared(tmp_path), rows=5)
    (tmp_path / "text" / "lsa-8" / "meta.json").unlink()
    assert examined(tmp_path)["embeddings lsa-8"].state == "ok"


def test_an_unfinished_folder_is_broken(tmp_path: Path) -> None:
    (prepared(tmp_path) / "meta.json").unlink()
    found = examined(tmp_path)
    assert list(found) == ["folder"]
    assert found["folder"].state == "broken"
    assert "incomplete" in found["folder"].told


def test_a_changed_pixel_breaks_the_fingerprint(tmp_path: Path) -> None:
    prepared(tmp_path)
    images = np.load(tmp_path / "images.npy")
    images[3, 2, 1] ^= 1
    np.save(tmp_path / "images.npy", images)
    assert {what for what, finding in examined(tmp_path).items() if finding.state == "broken"} == {"fingerprint"}


def test_images_of_another_number_are_broken(tmp_path: Path) -> None:
    prepared(tmp_path)
    np.save(tmp_path / "images.npy", np.load(tmp_path / "images.npy")[:5])
    assert "images.npy has 448 bytes, not 512" in examined(tmp_path)["folder"].told


@pytest.mark.parametrize(("mode", "state"), [("clean", "broken"), ("paper", "warn")])
def test_shared_patients_are_the_published_way_alone(tmp_path: Path, mode: str, state: str) -> None:
    assert examined(prepared(tmp_path, mode=mode, patients="aabbbd"))["patients"].state == state


def test_embeddings_that_do_not_fit_are_broken(tmp_path: Path) -> None:
    prepared(tmp_path)
    embed(tmp_path, name="short", rows=5)
    embed(tmp_path, name="shifted", zero=False)
    embed(tmp_path, name="half")
    (tmp_path / "text" / "half" / "impression.npy").unlink()
    embed(tmp_path, name="wild")
    np.save(tmp_path / "text" / "wild" / "impression.npy", np.full((6, 4), np.inf, np.float16))
    found = examined(tmp_path)
    told = {
        name: found[f"embeddings {name}"].told.split(": delete")[0] for name in ("short", "shifted", "half", "wild")
    }
    assert told == {
        "short": "5 rows in findings.npy, not 6, 5 rows in impression.npy, not 6",
        "shifted": "findings.npy has vectors where the section is missing",
        "half": "no impression.npy",
        "wild": "impression.npy is not finite",
    }


def test_shards_are_what_the_index_says(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data")
    assert examined(root)["fingerprint"].state == "ok"
    path = root / "shards" / "00001.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert "changed since it was written (shards/00001.npy)" in examined(root)["fingerprint"].told
