"""A run folder: settings, data, progress, checkpoint, weights."""

import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from imitate.config import Recipe, data_of, read_yaml, validate
from imitate.data.corpus import Corpus
from imitate.doctor.checks import Check
from imitate.errors import UserError
from imitate.inference.onnx import read_record
from imitate.models.hub import check_whole


def examine_run(path: Path) -> Iterator[Check]:
    yield from _settings(path / "config.yaml")
    yield _progress(path / "metrics.jsonl")
    yield _checkpoint(path / "last.ckpt")
    yield examine_model(path / "model") or Check("warn", "model", "incomplete: it is written at the end of each epoch")
    if best := examine_model(path / "best"):
        yield best


def _checkpoint(path: Path) -> Check:
    """PyTorch's format is a zip archive, whose members have checksums."""
    if not path.is_file():
        return Check("warn", path.name, "missing: this run cannot be continued")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        damaged = str(error)
    if damaged:
        return Check(
            "broken", path.name, f"is damaged ({damaged}): the run continues from previous.ckpt, if it is there"
        )
    return Check("ok", path.name, "is intact")


def examine_model(path: Path) -> Check | None:
    """A model's folder; None where there is none."""
    if not (path / "config.json").is_file() or not any(path.glob("*.safetensors")):
        return None
    try:
        count = check_whole(path)
    except UserError as error:
        return Check("broken", path.name, str(error))
    return Check("ok", path.name, f"{count} intact file{'s' * (count > 1)} of weights")


def examine_onnx(path: Path) -> Check:
    """A folder in ONNX: each of its files has the digest that was written down."""
    try:
        record = read_record(path)
    except UserError as error:
        return Check("broken", path.name, str(error))
    files = len(record.get("files", {}))
    return Check("ok", path.name, f"{record.get('backbone')} in ONNX, {files} intact files")


def _settings(path: Path) -> Iterator[Check]:
    """The recipe, and the prepared folder that it was trained on."""
    if not path.is_file():
        yield Check("warn", "config.yaml", "missing: this run cannot be continued")
        return
    try:
        values = read_yaml(path, holds="keys and values")
        data = values.pop("data", {})
        recipe = validate(Recipe, values, where=str(path))
    except UserError as error:
        yield Check("broken", "config.yaml", str(error))
        return
    yield Check("ok", "config.yaml", f"{recipe.model.backbone}, {_length(recipe)}")
    recorded = data_of(data)
    for path, fingerprint in zip(recorded.get("paths", [""]), recorded.get("fingerprints", [None]), strict=True):
        yield _data(Path(path), fingerprint, recipe.model.projections)


def _data(path: Path, fingerprint: str | None, projections: Sequence[str] | None) -> Check:
    try:
        found = Corpus.open(path, projections=projections).fingerprint
    except UserError as error:
        return Check("warn", "data", str(error))
    if found != fingerprint:
        return Check("warn", "data", f"{path} has changed since this run was trained on it")
    return Check("ok", "data", str(path))


def _progress(path: Path) -> Check:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    try:
        entries = [json.loads(line) for line in lines]
    except ValueError:
        return Check("warn", "metrics.jsonl", "a line is incomplete: the run was stopped while writing it")
    if not entries:
        return Check("warn", "metrics.jsonl", "no step is logged yet")
    if not all(math.isfinite(entry.get("loss", 0.0)) for entry in entries):
        return Check("broken", "metrics.jsonl", "a loss is not finite: lower the learning rate")
    return Check("ok", "metrics.jsonl", f"{len(entries):,} entries, up to step {entries[-1]['step']:,}")


def _length(recipe: Recipe) -> str:
    training = recipe.training
    return f"{training.steps} steps" if training.steps else f"{training.epochs} epochs"
