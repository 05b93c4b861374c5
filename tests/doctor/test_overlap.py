from pathlib import Path

import pytest

from imitate.commands.doctor import doctor
from imitate.commands.prepare import prepare
from imitate.commands.synthesize import synthesize
from imitate.data.corpus import Corpus
from imitate.doctor.overlap import examine_overlap


def test_folders_that_are_examined_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the relabelled images, which nobody trains on, those of val are in the training part of ChestX-ray14."""
    for source in ("chestxray14", "nih-google", "brax"):
        seed = 9 if source == "brax" else 2
        synthesize(source, out=tmp_path / f"raw-{source}", n=30, seed=seed, size=64)
        prepare(source, raw=tmp_path / f"raw-{source}", out=tmp_path / source, size=32, workers=1)
    nih, labels, other = (tmp_path / name for name in ("chestxray14", "nih-google", "brax"))
    found = {check.what: check for check in examine_overlap([nih, labels, other, tmp_path / "absent"])}
    assert [check.state for check in found.values()] == ["warn", "ok", "ok"]
    assert found[f"{nih} and {other}"].found == "0 patients and 0 images in common"
    table, held = (Corpus.open(folder).table for folder in (nih, labels))
    patients, images = table["patient"].nunique(), len(table)
    both = held[held["image_id"].isin(table["image_id"][table["split"] == "train"])]
    assert found[f"{nih} and {labels}"].found == (
        f"{patients} patients and {images} images in common; {nih} trains on {both['patient'].nunique()} patients and "
        f"{len(both)} images that {labels} holds out"
    )
    capsys.readouterr()
    doctor((nih, other))
    assert "overlap" in capsys.readouterr().out
