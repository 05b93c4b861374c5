import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from folders import edit_index, write_folder
from safetensors.numpy import save_file

from imitate.config import Recipe
from imitate.doctor.checks import Check
from imitate.doctor.examine import examine
from imitate.doctor.run import examine_model, examine_run
from imitate.errors import UserError


def run(root: Path, *entries: dict[str, float]) -> Path:
    """A run and, beside its files, the data it was trained on."""
    (root / "model").mkdir()
    write_folder(root / "data", n=4, fingerprint="ab")
    settings = Recipe().model_dump(mode="json") | {"data": {"path": str(root / "data"), "fingerprint": "ab"}}
    (root / "config.yaml").write_text(yaml.safe_dump(settings))
    (root / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    with zipfile.ZipFile(root / "last.ckpt", "w") as archive:  # as PyTorch writes
        archive.writestr("last/data/0", bytes(1000))
    (root / "model" / "config.json").write_text("{}")
    save_file({"weight": np.zeros(100, np.float32)}, root / "model" / "model.safetensors")
    shutil.copytree(root / "model", root / "best")
    return root


def examined(path: Path) -> dict[str, Check]:
    return {finding.what: finding for finding in examine_run(path)}


def test_a_sound_run(tmp_path: Path) -> None:
    found = examined(run(tmp_path, {"step": 1, "loss": 9.0}, {"step": 2000, "val/auroc": float("nan")}))
    assert {finding.state for finding in found.values()} == {"ok"}
    assert found["config.yaml"].found == "resnet50, 20 epochs"
    assert found["metrics.jsonl"].found == "2 entries, up to step 2,000"
    assert found["data"].found == str(tmp_path / "data")


def test_what_is_not_there_yet_is_a_warning(tmp_path: Path) -> None:
    found = examined(tmp_path)
    assert {what: finding.state for what, finding in found.items()} == dict.fromkeys(
        ("config.yaml", "metrics.jsonl", "last.ckpt", "model"), "warn"
    )


def test_data_that_moved_or_changed_is_a_warning(tmp_path: Path) -> None:
    edit_index(run(tmp_path) / "data", fingerprint="cd")
    assert examined(tmp_path)["data"].state == "warn"
    assert "has changed since this run was trained on it" in examined(tmp_path)["data"].found
    (tmp_path / "data" / "index.json").unlink()
    assert examined(tmp_path)["data"].state == "warn"


def test_a_loss_that_is_not_finite_is_broken_and_a_torn_line_is_not(tmp_path: Path) -> None:
    run(tmp_path, {"step": 1, "loss": 9.0}, {"step": 2, "loss": float("nan")})
    assert examined(tmp_path)["metrics.jsonl"].state == "broken"
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 9.0}\n{"step": 2, "lo')
    assert examined(tmp_path)["metrics.jsonl"].state == "warn"


def test_settings_of_another_version_are_broken(tmp_path: Path) -> None:
    run(tmp_path)
    for text, reported in (
        ("flux: 3\n", "unknown key 'flux'"),
        ("a: [", "while parsing"),
        ("just words\n", "must hold keys"),
    ):
        (tmp_path / "config.yaml").write_text(text)
        assert examined(tmp_path)["config.yaml"].state == "broken"
        assert reported in examined(tmp_path)["config.yaml"].found


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage"),
    [("last.ckpt", cut), ("last.ckpt", flip), ("model/model.safetensors", cut), ("best/model.safetensors", cut)],
)
def test_files_that_are_not_whole_are_broken(name: str, damage: object, tmp_path: Path) -> None:
    run(tmp_path, {"step": 1, "loss": 9.0})
    damage(tmp_path / name)
    (broken,) = [check for check in examine_run(tmp_path) if check.state != "ok"]
    assert broken.state == "broken" and broken.what == name.split("/")[0] and "is damaged (" in broken.found


def test_a_model_by_itself_is_opened(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model = run(tmp_path) / "model"
    examine([model])
    assert "1 intact file of weights" in capsys.readouterr().out
    (model / "text").mkdir()
    (model / "text" / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"text.model\.safetensors is damaged"):
        examine([model])


@pytest.mark.parametrize("name", ["heads.safetensors", "text/text.json"])
def test_an_exported_folder_that_was_copied_in_part_is_broken(name: str, tmp_path: Path) -> None:
    folder = run(tmp_path) / "model"
    (folder / "config.json").write_text('{"imitate": {}}')
    (folder / "text").mkdir()
    for each in ("heads.safetensors", "text/lsa.safetensors"):
        shutil.copy(folder / "model.safetensors", folder / each)
    (folder / "text" / "text.json").write_text("{}")
    assert examine_model(folder) == Check("ok", "model", "3 intact files of weights")
    (folder / name).unlink()
    found = examine_model(folder)
    assert found and found.state == "broken" and f"has no {name}, which belongs to it" in found.found
