import logging

import pytest
import torch

from imitate.errors import UserError
from imitate.training.checkpoint import LAST, PREVIOUS, is_begun, keep_model, load_checkpoint, save_checkpoint


def state(step: int) -> dict:
    return {"step": step, "w": torch.full((1000,), float(step))}


def test_the_newest_is_loaded_and_the_one_before_kept(tmp_path):
    assert load_checkpoint(tmp_path) is None
    for step in (1, 2):
        save_checkpoint(state(step), tmp_path)
    assert load_checkpoint(tmp_path)["step"] == 2
    assert {p.name for p in tmp_path.iterdir()} == {LAST, PREVIOUS}


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_one_is_passed_over_with_a_warning(tmp_path, caplog, damage):
    for step in (1, 2):
        save_checkpoint(state(step), tmp_path)
    content = bytearray((tmp_path / LAST).read_bytes())
    if damage == "flipped":
        at = content.find(torch.tensor([2.0]).numpy().tobytes() * 8)
        content[at + 2] ^= 0x40
    (tmp_path / LAST).write_bytes({"truncated": content[:900], "flipped": content, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        assert load_checkpoint(tmp_path)["step"] == 1
    assert caplog.messages == ["last.ckpt is damaged; continuing from previous.ckpt"]
    (tmp_path / PREVIOUS).write_bytes(b"x")
    with pytest.raises(UserError, match="last.ckpt and previous.ckpt damaged, no intact checkpoint"):
        load_checkpoint(tmp_path)


def test_a_file_that_would_run_code_is_not_loaded(tmp_path):
    """torch.load unpickles: of anything but tensors and plain values nothing is made."""
    torch.save({"step": 1, "path": tmp_path}, tmp_path / LAST)
    with pytest.raises(UserError, match="last.ckpt damaged, no intact checkpoint left"):
        load_checkpoint(tmp_path)


def test_no_space_leaves_the_last_one_untouched(tmp_path, monkeypatch):
    save_checkpoint(state(1), tmp_path)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="No space left"):
        save_checkpoint(state(2), tmp_path)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path)["step"] == 1
    assert {p.name for p in tmp_path.iterdir()} == {LAST}


def test_the_cause_that_torch_hides_is_reported(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        try:
            raise OSError(28, "No space left on device")
        finally:
            raise RuntimeError("unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="No space left"):
        save_checkpoint(state(1), tmp_path)


def saved(text: str):
    """Writes a text in the place of weights."""

    def save(folder) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model").write_text(text)

    return save


def test_the_best_models_are_kept_and_of_equal_ones_the_first(tmp_path):
    validated: dict[int, float] = {}
    for step, value in ((2, 0.5), (4, 0.7), (6, 0.7), (8, 0.6), (10, 0.1)):
        keep_model(saved(str(step)), tmp_path, validated, step, value, 2)
        validated[step] = value
    assert (tmp_path / "best/model").read_text() == "4"
    top = {path.name: (path / "model").read_text() for path in (tmp_path / "top").iterdir()}
    assert top == {"step-0000004": "4", "step-0000006": "6"}
    keep_model(saved("a"), tmp_path / "one", {}, 1, 0.5, 1)
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["best"]


def test_a_run_is_begun_with_either_checkpoint_and_a_cut_one_leaves_no_part(tmp_path, monkeypatch):
    assert not is_begun(tmp_path)
    for name in (LAST, PREVIOUS):
        (tmp_path / name).write_bytes(b"x")
        assert is_begun(tmp_path)
        (tmp_path / name).unlink()
    seen = []
    monkeypatch.setattr(torch, "save", lambda state, file: seen.append(file.name))
    save_checkpoint({}, tmp_path)
    assert seen == [str(tmp_path / "last.ckpt.part")] and (tmp_path / LAST).read_bytes() == b""
