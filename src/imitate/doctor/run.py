"""A run folder: settings, progress, checkpoint, weights."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

from imitate.config import Recipe, load_config
from imitate.doctor.findings import Finding
from imitate.types import UserError


def examine_run(path: Path) -> Iterator[Finding]:
    yield _settings(path / "config.yaml")
    yield _progress(path / "metrics.jsonl")
    if (path / "last.ckpt").is_file():
        yield Finding("ok", "last.ckpt", "is there")
    else:
        yield Finding("warn", "last.ckpt", "absent: this run cannot be continued")
    model = path / "model"
    if (model / "config.json").is_file() and any(model.glob("*.safetensors")):
        yield Finding("ok", "model", "is there")
    else:
        yield Finding("warn", "model", "incomplete: the end of pre-training writes it")


def _settings(path: Path) -> Finding:
    if not path.is_file():
        return Finding("warn", "config.yaml", "absent: this run cannot be continued")
    try:
        recipe = load_config(Recipe, path)
    except UserError as error:
        return Finding("broken", "config.yaml", str(error))
    return Finding("ok", "config.yaml", f"{recipe.model.backbone}, {recipe.training.epochs} epochs")


def _progress(path: Path) -> Finding:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    try:
        entries = [json.loads(line) for line in lines]
    except ValueError:
        return Finding("warn", "metrics.jsonl", "a line is torn: the run was stopped while it wrote")
    if not entries:
        return Finding("warn", "metrics.jsonl", "no step is logged yet")
    values = [value for entry in entries for value in entry.values() if isinstance(value, float)]
    if all(map(math.isfinite, values)):
        return Finding("ok", "metrics.jsonl", f"{len(entries):,} entries")
    return Finding("broken", "metrics.jsonl", "a loss is not finite: lower the learning rate")
