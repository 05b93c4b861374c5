"""What an audit is made from: predictions of the test images, their groups, thresholds, probabilities."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from imitate.data.corpus import Corpus
from imitate.data.groups import JOIN, group_columns, group_values
from imitate.errors import UserError
from imitate.inference.label_texts import own_prompts
from imitate.inference.prompts import built_in_languages, built_in_prompts, matching, read_prompts
from imitate.statistics.operating import threshold
from imitate.statistics.subgroups import Scored
from imitate.tasks import find_task
from imitate.tasks.audit_model import AuditOptions, is_no_finding
from imitate.tasks.base import Predictions, Results
from imitate.tasks.calibration import head_scores
from imitate.tasks.classes import check_undecided, probabilities
from imitate.tasks.comparable import made_otherwise, task_of
from imitate.tasks.results import digest_of, read_predictions, read_results

if TYPE_CHECKING:
    from imitate.inference.calibration import Calibration

log = logging.getLogger(__name__)
DERIVED = "No Finding (derived)"
UNCALIBRATED = "the model's own, uncalibrated"
NO_THRESHOLD = "none: rates of missed and false calls need one (--threshold-from or --calibration)"


class Inputs(NamedTuple):
    results: Results
    fits: dict[str, list[Scored]]  # of each class, one a fit
    patients: np.ndarray
    by: tuple[str, ...]
    groups: dict[str, np.ndarray]  # of the columns of by and balance
    balance: tuple[str, ...]
    threshold: str
    thresholds: dict[str, list[float]]
    probabilities: str
    notes: list[str]


def read_inputs(path: Path, folder: Path, options: AuditOptions) -> Inputs:
    """UserError: other predictions, another folder, no such column, a threshold from the test images."""
    results = read_results(path)
    if not find_task(results.task).curves:
        raise UserError(f"{path} has results of {results.task}: an audit needs a task that scores classes")
    runs = read_predictions(results, path)
    if any("fold" in run for run in runs):
        raise UserError(f"{path} is cross-validated, its folds have no common threshold: evaluate without folds")
    if options.calibration and results.task != "zero-shot":  # of heads a calibration is of logits
        runs = [{**run, "score": head_scores(run["score"])} for run in runs]
    data = Corpus.open(folder)
    if data.fingerprint != results.data.get("fingerprint"):
        raise UserError(
            f"{path} holds predictions of another folder, {results.data.get('name')} with fingerprint "
            f"{str(results.data.get('fingerprint'))[:8]}, {folder} has {data.fingerprint[:8]}: give that folder"
        )
    rows = _rows(data, runs[0]["image_id"], path)
    classes = _classes(runs[0], options.classes, path)
    marks, where = _thresholds(results, runs, classes, path, data, options)
    fits, probabilities = _fits(results, runs, classes, marks, options)
    by, balance = _columns(data, options)
    groups = {name: group_values(data, name, rows, bands=options.bands) for name in dict.fromkeys([*by, *balance])}
    bare = [name for name in classes if marks and name not in marks]
    derived = marks and not bare and not any(map(is_no_finding, classes)) and not options.classes
    if derived:
        fits[DERIVED] = [
            _nothing(run, classes, {name: marks[name][i] for name in classes}) for i, run in enumerate(runs)
        ]
    unit = results.data.get("unit", "patients")
    notes = [f"Patients are not known: the bootstrap draws {unit}."] if unit != "patients" else []
    if bare:
        notes.append(f"No threshold, as validation images of both kinds are lacking: {', '.join(bare)}.")
    return Inputs(
        results, fits, np.asarray(runs[0]["patient"]), by, groups, balance, where, marks, probabilities, notes,
    )  # fmt: skip


def _rows(data: Corpus, image_ids: np.ndarray, path: Path) -> np.ndarray:
    place = {name: row for row, name in enumerate(data.table["image_id"])}
    if missing := [str(name) for name in image_ids if name not in place]:
        raise UserError(
            f"{path}: {len(missing)} of {len(image_ids)} images are not in {data.root}, {missing[0]} first: give the "
            "folder that was evaluated"
        )
    return np.array([place[name] for name in image_ids])


def _classes(run: Predictions, wanted: Sequence[str], path: Path) -> list[str]:
    names = run["classes"].tolist()
    if strange := [name for name in wanted if name not in names]:
        raise UserError(f"{path} has no class {strange[0]!r}; it has {', '.join(names)}")
    return list(wanted) or names


def _columns(data: Corpus, options: AuditOptions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    held = group_columns(data)
    by = options.by or tuple(name for name in ("sex", "age", "sex+age") if set(name.split(JOIN)) <= set(held))
    if not by:
        raise UserError(
            f"{data.root} has neither sex nor age; its group columns are {', '.join(held) or 'none'}: "
            "give --by, or prepare the archive again with its demographics"
        )
    return by, tuple(name for name in options.balance if name in held)


def _thresholds(
    results: Results, runs: Sequence[Predictions], classes: list[str], path: Path, data: Corpus, options: AuditOptions
) -> tuple[dict[str, list[float]], str]:
    """Of each class one a fit, and where they come from."""
    if options.threshold_from:
        return _validated(results, runs, classes, path, options.threshold_from, options)
    if options.calibration:
        from imitate.inference import calibration

        found = calibration.read(options.calibration)
        _require_own(_is_of(found, results), options.calibration, path)
        if found.branch is not None and not _scored_alike(found, results, path, data):
            raise UserError(
                f"{options.calibration} is of other scores than {path}: it is of images one by one, the margin of the "
                f"mean prompts, branch {found.branch}, and prompts of its own: evaluate zero-shot in the same way"
            )
        if all(found.data.get(name) == results.data.get(name) for name in ("fingerprint", "split")):
            raise UserError(f"{options.calibration} was fitted on the test images: fit it on validation images")
        marks = {name: at for name in classes if (at := found.threshold(name)) is not None}
        aims = {f"{p.aim} {p.at:g}" if p.at else p.aim for name in classes if (p := found.operating(name))}
        return {name: [at] * len(runs) for name, at in marks.items()}, f"{', '.join(sorted(aims))}: {found.provenance}"
    log.warning("no threshold is given, so FNR and FPR are not measured (--threshold-from or --calibration)")
    return {}, NO_THRESHOLD


def _validated(
    results: Results, runs: Sequence[Predictions], classes: list[str], own: Path, path: Path, options: AuditOptions
) -> tuple[dict[str, list[float]], str]:
    other = read_results(path)
    same = other.task == results.task and other.weights == results.weights and other.seeds == results.seeds
    _require_own(same and other.mode == results.mode, path, own)
    if differ := made_otherwise((results, own), (other, path), but=("split",)):
        raise UserError(f"{own} and {path} differ in {differ}: choose the threshold with the settings that are audited")
    validation = read_predictions(other, path)
    if shared := {*validation[0]["patient"].tolist()} & {*runs[0]["patient"].tolist()}:
        alike = other.data.get("fingerprint") == results.data.get("fingerprint")
        if alike or other.data.get("name") == results.data.get("name"):
            raise UserError(
                f"{path} shares {len(shared)} patients with the test images: a threshold must be chosen on others "
                "(imitate evaluate TASK --split val)"
            )
    marks: dict[str, list[float]] = {}
    for name in classes:
        each = []
        for run in validation:
            if name not in run["classes"]:
                raise UserError(f"{path} has no class {name!r}: evaluate the same classes on validation images")
            column = run["classes"].tolist().index(name)
            target, score = run["target"][:, column], run["score"][:, column]
            each.append(float(threshold(target, score, aim=options.aim, at=options.at)[0]))
        if not np.isnan(each).any():
            marks[name] = each
    at = f" {options.at:g}" if options.aim != "youden" else ""
    images = other.data.get("images")
    return marks, f"{options.aim}{at} on {images} images of {other.data.get('name')}, split {other.data.get('split')}"


def _is_of(found: Calibration, results: Results) -> bool:
    """Whether it is a calibration of the one fit of these results."""
    if found.branch is not None:
        return found.task == results.task and [found.encoder] == results.weights
    own = [digest_of(results.settings, results.fraction, seed) for seed in results.seeds]
    return found.task == results.task and [found.weights] == results.weights and [found.settings] == own


def _scored_alike(found: Calibration, results: Results, path: Path, data: Corpus) -> bool:
    """Whether zero-shot results have the scores that a calibration is of. Prompts may lack what an encoder cannot read.

    UserError: the file of their prompts is gone.
    """
    task = task_of(results, path)
    alike = {"branch": found.branch, "ensemble": "embedding", "scoring": "margin", "authors": False, "unit": "image"}
    if any(getattr(task, name) != value for name, value in alike.items()):
        return False
    languages = [given] if (given := getattr(task, "language", None)) else built_in_languages()
    file: Path | None = getattr(task, "prompts", None)
    possible = [read_prompts(file)] if file else [built_in_prompts(each, own_prompts(data)) for each in languages]
    asked = [matching(found.prompts, each) for each in possible]
    return all(
        any(
            name in each and {*own.positive} <= {*each[name].positive} and {*own.negative} <= {*each[name].negative}
            for each in asked
        )
        for name, own in found.prompts.items()
    )


def _require_own(same: bool, path: Path, of: Path) -> None:
    if not same:
        raise UserError(f"{path} is of a different model, task or seed than {of}: make it from the same model")


def _fits(
    results: Results,
    runs: Sequence[Predictions],
    classes: list[str],
    marks: dict[str, list[float]],
    options: AuditOptions,
) -> tuple[dict[str, list[Scored]], str]:
    """By class; and what the probabilities are, in words."""
    found: dict[str, list[Scored]] = {}
    calibrated, words = None, "none: the scores are no probabilities"
    if options.calibration:
        from imitate.inference import calibration

        calibrated = calibration.read(options.calibration)
        words = calibrated.provenance
    elif find_task(results.task).trains:
        words = UNCALIBRATED
        for run in runs:
            check_undecided(run["score"])
    for name in classes:
        found[name] = []
        for number, run in enumerate(runs):
            column = run["classes"].tolist().index(name)
            target, score = (run[key][:, column].astype(np.float64) for key in ("target", "score"))
            probability = None
            if calibrated is not None and calibrated.calibrated(name):
                probability = calibrated.probabilities(name, score)
            elif calibrated is None and words == UNCALIBRATED:
                probability = probabilities(run["score"].astype(np.float64))[:, column]
            called = score >= marks[name][number] if name in marks else None
            found[name].append(Scored(target, score, called, probability))
    return found, words


def _nothing(run: Predictions, classes: list[str], marks: dict[str, float]) -> Scored:
    """The class "no finding" where there is none: no class is positive; called where no score reaches its threshold."""
    columns = [run["classes"].tolist().index(name) for name in classes]
    target, score = run["target"][:, columns], run["score"][:, columns].astype(np.float64)
    ill, unsure = (target > 0).any(1), np.isnan(target).any(1)
    margin = score - np.array([marks[name] for name in classes])
    none = np.where(ill, 0.0, np.where(unsure, np.nan, 1.0))
    return Scored(none, None, (margin < 0).all(1))
