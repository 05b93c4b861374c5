"""A run folder: settings, data, progress, checkpoint, weights."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from imitate.config import Recipe, data_of, read_yaml, validate
from imitate.data.corpus import Corpus
from imitate.doctor.checks import Check
from imitate.errors import UserError


def examine_run(path: Path) -> Iterator[Check]:
    yield from _settings(path / "config.yaml")
    yield _progress(path / "metrics.jsonl")
    if (path / "last.ckpt").is_file():
        yield Check("ok", "last.ckpt", "is there")
    else:
        yield Check("warn", "last.ckpt", "absent: this run cannot be continued")
    model = path / "model"
    if (model / "config.json").is_file() and any(model.glob("*.safetensors")):
        yield Check("ok", "model", "is there")
    else:
        yield Check("warn", "model", "incomplete: the end of each epoch writes it")


def _settings(path: Path) -> Iterator[Check]:
    """The recipe, and the prepared folder that it was trained on."""
    if not path.is_file():
        yield Check("warn", "config.yaml", "absent: this run cannot be continued")
        return
    try:
        values = read_yaml(path, holds="keys and values")
        data = values.pop("data", {})
        recipe = validate(Recipe, values, where=str(path))
    except UserError as error:
        yield Check("broken", "config.yaml", str(error))
        return
    yield Check("ok", "config.yaml", f"{recipe.model.backbone}, {recipe.training.epochs} epochs")
    recorded = data_of(data)
    for path, fingerprint in zip(recorded.get("paths", [""]), recorded.get("fingerprints", [None]), strict=True):
        yield _data(Path(path), fingerprint, recipe.model.projections)


def _data(path: Path, fingerprint: str | None, projections: Sequence[str] | None) -> Check:
    try:
        found = Corpus.open(path, projections=projections).fingerprint
    except UserError as error:
        return Check("warn", "data", str(error))
    if found != fingerprint:
        return Check("warn", "data", f"{path} is no longer what this run was trained on")
    return Check("ok", "data", str(path))


def _progress(path: Path) -> Check:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    try:
        entries = [json.loads(line) for line in lines]
    except ValueError:
        return Check("warn", "metrics.jsonl", "a line is torn: the run was stopped while it wrote")
    if not entries:
        return Check("warn", "metrics.jsonl", "no step is logged yet")
    if not all(math.isfinite(entry.get("loss", 0.0)) for entry in entries):
        return Check("broken", "metrics.jsonl", "a loss is not finite: lower the learning rate")
    return Check("ok", "metrics.jsonl", f"{len(entries):,} entries, up to step {entries[-1]['step']:,}")
