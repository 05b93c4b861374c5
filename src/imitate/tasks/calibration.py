"""Calibration and operating points: found on the validation images, measured on the test images.

Predictions hold the rows of both parts, distinguished by ``part``, since the threshold is chosen again in each
bootstrap sample: the patients of either part are drawn among themselves. ``score`` is what the model gives, ``before``
the probability that it makes of it, ``probability`` the calibrated one, NaN for a class that stays uncalibrated.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from scipy.special import expit, logit

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.embeddings import embed_images
from imitate.inference.encoder import Encoder
from imitate.inference.gallery import image_vectors
from imitate.inference.predictor import Predictor
from imitate.names import Mode
from imitate.statistics import metrics, operating
from imitate.statistics.calibration import CERTAIN
from imitate.statistics.intervals import Support
from imitate.statistics.recalibration import FEW_ISOTONIC, Map, fitted, why_not
from imitate.tasks.base import HELD, Budget, Predictions, Task
from imitate.tasks.calibration_metrics import (
    AT_POINT,
    BETTER,
    MEASURES,
    NAMES,
    OF_POINTS,
    UNITS,
    WHEN,
    error_intervals,
    level_of_constant,
    level_of_errors,
    shown,
)
from imitate.tasks.classes import are_exclusive, check_undecided
from imitate.tasks.options import CalibrationOptions
from imitate.tasks.zero_shot import class_prompts

log = logging.getLogger(__name__)
VALIDATION, TEST = "validation", "test"


class Part(NamedTuple):
    """The rows of a class whose label is known, in one part."""

    target: np.ndarray
    score: np.ndarray
    patient: np.ndarray


def head_scores(score: np.ndarray) -> np.ndarray:
    """Logits of a head; those of exclusive classes are kept as logarithms of probabilities. UserError: neither."""
    check_undecided(score)
    score = score.astype(np.float64)
    return logit(np.exp(score).clip(CERTAIN, 1 - CERTAIN)) if are_exclusive(score) else score


class Recalibration(CalibrationOptions, Task):
    """A map from scores to probabilities, and a threshold for each class, from the validation images.

    - ``calibrator``: temperature divides the score, platt also shifts it, isotonic is any non-decreasing function.
    - ``aim``: the highest threshold with this sensitivity on the validation images, the lowest with this specificity,
      that of the largest sum of both (youden), or of the least cost, where a miss costs ``at`` false alarms.

    Metrics whose names end with ``-before`` are of the model's own probabilities. Macro averages are over the classes
    that could be calibrated. A class is calibrated by itself: probabilities of exclusive classes need not sum to 1.
    """

    name: ClassVar[str] = "calibration"
    modes: ClassVar[tuple[Mode, ...]] = ("clean",)
    title: ClassVar[str] = "Calibration"
    needs: ClassVar[frozenset[str]] = frozenset({"labels", "text"})
    trains: ClassVar[bool] = False
    headline: ClassVar[str] = "brier"
    beside: ClassVar[tuple[str, ...]] = (
        "brier-before",
        "smooth-ece",
        "smooth-ece-before",
        "sensitivity",
        "specificity",
    )
    printed: ClassVar[tuple[str, ...]] = (
        *(f"{metric}{when}" for metric in ("brier", "log-loss", "smooth-ece", "slope", "intercept") for when in WHEN),
        *AT_POINT,
    )
    larger_is_better: ClassVar[Mapping[str, bool | None]] = {
        f"{metric}{when}": better for when in WHEN for metric, better in BETTER.items()
    }
    units: ClassVar[Mapping[str, str]] = {f"{metric}{when}": unit for when in WHEN for metric, unit in UNITS.items()}
    inflated: ClassVar[frozenset[str]] = frozenset(f"resolution{when}" for when in WHEN)
    names: ClassVar[Mapping[str, str]] = {
        **{f"{metric}{when}": shown(name, when) for when in WHEN for metric, name in NAMES.items()},
        **OF_POINTS,
    }
    about_chance: ClassVar[str] = (
        "For Brier score and log loss, chance is a constant prediction, the fraction of positives; for calibration "
        "errors, it is the error of the same probabilities with labels sampled from them: a smaller error cannot be "
        "distinguished from zero."
    )

    def predict(self, encoder: Encoder, data: Corpus, budget: Budget) -> Predictions:
        """Zero-shot, exactly as ``Predictor.classify`` scores images."""
        data = self.selected(data)
        rows, labels = {VALIDATION: data.rows("val"), TEST: data.rows(self.split)}, data.labels
        columns = {name: labels[:, place] for place, name in enumerate(data.classes)}
        chosen = class_prompts(data, self.prompts, encoder.text)
        known = {name: each for name, each in chosen.items() if not np.isnan(columns[name][rows[TEST]]).all()}
        if not known:
            raise UserError(f"{data.root} has no label in split {self.split!r}: choose another split")
        scorer = Predictor(encoder, device=budget.device).scorer(known, branch=self.branch)
        target = np.stack([columns[name] for name in scorer.prompts], axis=1)
        found: list[Predictions] = []
        for part in rows.values():
            vectors = image_vectors(embed_images(encoder, data, part, budget.device), self.branch)
            scores = scorer.scores(vectors).astype(np.float64)
            names = {key: data.table[key].to_numpy()[part].astype(np.str_) for key in ("image_id", "patient")}
            found.append(
                {**names, "target": target[part], "score": scores, "before": expit(scores / scorer.temperature)}
            )
        return self.joined(*found, classes=np.array(list(scorer.prompts)))

    def of_head(self, run: Predictions) -> Predictions:
        """Of the scores of a probe or a fine-tuned head, as ``imitate evaluate`` keeps them. UserError: it has none."""
        if f"{HELD}score" not in run:
            raise UserError(
                "there are no scores of validation images: delete the results and evaluate again with this version "
                "(linear, k-nearest-neighbour or fine-tuned classification, without --folds)"
            )
        found = []
        for prefix in (HELD, ""):
            score = head_scores(run[f"{prefix}score"])
            kept = {name: run[f"{prefix}{name}"] for name in ("image_id", "patient", "target")}
            found.append({**kept, "score": score, "before": expit(score)})
        return self.joined(*found, classes=run["classes"])

    def joined(self, held: Predictions, test: Predictions, *, classes: np.ndarray) -> Predictions:
        """Both parts, with the calibrated probabilities. UserError: they share patients."""
        if len(shared := np.intersect1d(held["patient"], test["patient"])):
            more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
            raise UserError(
                f"patient {shared[0]}{more} is in both the validation and the test images, so the calibration would "
                "be measured on patients it was fitted on: split the folder by patient"
            )
        parts = np.repeat([VALIDATION, TEST], [len(held["score"]), len(test["score"])])
        found = {name: np.concatenate([held[name], test[name]]) for name in held}
        joined: Predictions = {**found, "part": parts, "classes": classes}
        probability = np.full(joined["score"].shape, np.nan)
        for column, (name, each, note) in enumerate(self.maps(joined)):
            if each is not None:
                probability[:, column] = each(joined["score"][:, column])
            if note:
                log.warning("%s %s: %s", name, "is calibrated, but" if each else "stays uncalibrated", note)
        if np.isnan(probability).all():
            raise UserError(f"no class of {', '.join(classes)} can be calibrated: the lines above say why")
        return {**joined, "probability": probability}

    def maps(self, predictions: Predictions) -> Iterator[tuple[str, Map | None, str]]:
        """Of each class the calibration, None where it has none, and what is to be said of it."""
        for column, name in enumerate(predictions["classes"].tolist()):
            target, score, patient = part_of(predictions, VALIDATION, column)
            note = why_not(target, score, patient, self.calibrator)
            found = None if note else fitted(target, score, self.calibrator)
            if not note and found is None:
                note = "its scores do not rise from negative to positive validation images"
            elif not note and self.calibrator == "isotonic" and len(target) < FEW_ISOTONIC:
                note = (
                    f"with fewer than {FEW_ISOTONIC:,} images, {len(target):,}, isotonic follows chance: prefer platt"
                )
            yield name, found, note

    def thresholds(self, predictions: Predictions, counts: metrics.Counts | None = None) -> list[metrics.Metric]:
        """Of each class and sample, chosen on the validation images; NaN where too few patients, or none, allow one."""
        held = predictions["part"] == VALIDATION
        found = []
        for column in range(len(predictions["classes"])):
            target, score = predictions["target"][held, column], predictions["score"][held, column]
            drawn = None if counts is None else counts[:, held]
            chosen = operating.threshold(target, score, drawn, aim=self.aim, at=self.at)
            lacking = why_not(*part_of(predictions, VALIDATION, column), "platt")
            found.append(np.full_like(chosen, np.nan) if lacking else chosen)
        return found

    def measure(self, predictions: Predictions, rows: np.ndarray | None = None) -> dict[str, float]:
        counts = metrics.one_sample(rows, len(predictions["target"]))
        return {name: float(values[0]) for name, values in self.resample(predictions, counts).items()}

    def resample(self, predictions: Predictions, counts: np.ndarray) -> dict[str, np.ndarray]:
        test, classes = predictions["part"] == TEST, predictions["classes"].tolist()
        drawn = counts[:, test]
        each: dict[str, dict[str, np.ndarray]] = {}
        for name, column, target in self._classes(predictions):
            for when, kind in WHEN.items():
                said = predictions[kind][test, column]
                if not np.isnan(said).any():
                    for metric, measure in MEASURES.items():
                        each.setdefault(f"{metric}{when}", {})[name] = measure(target, said, drawn)
        for (name, column, target), at in zip(
            self._classes(predictions), self.thresholds(predictions, counts), strict=True
        ):
            found = operating.calls(target, predictions["score"][test, column], at, drawn)
            for rate, achieved in self._rates(name, found).items():
                each.setdefault(rate, {})[name] = np.where(np.isnan(at), np.nan, achieved)
        shared = self._shared(predictions)
        values: dict[str, np.ndarray] = {}
        for metric, of_class in each.items():
            common = [of_class[name] for name in shared if name in of_class]
            values[metric] = np.mean(common, axis=0) if common else np.full(len(counts), np.nan)
            values |= {f"{metric}/{name}": of_class[name] for name in classes if name in of_class}
        return values

    def _rates(self, name: str, found: operating.Calls) -> dict[str, metrics.Metric]:
        """What the decisions of a class achieve."""
        rates = {rate: getattr(found, rate) for rate in ("sensitivity", "specificity", "ppv", "npv")}
        if (prevalence := self.prevalence_of(name)) is not None:
            both = found.sensitivity, found.specificity, prevalence
            rates |= {"ppv-at-prevalence": operating.ppv_at(*both), "npv-at-prevalence": operating.npv_at(*both)}
        return rates

    def _classes(self, predictions: Predictions) -> Iterator[tuple[str, int, np.ndarray]]:
        """With the labels of the test images."""
        test = predictions["part"] == TEST
        for column, name in enumerate(predictions["classes"].tolist()):
            yield name, column, predictions["target"][test, column]

    def _shared(self, predictions: Predictions) -> list[str]:
        """The classes that a macro average is over."""
        test = predictions["part"] == TEST
        common = metrics.common_classes(predictions["target"][test], self.macro_least)
        usable = common & ~np.isnan(predictions["probability"]).any(0)
        return [name for name, used in zip(predictions["classes"].tolist(), usable, strict=True) if used]

    def intervals(self, runs: Sequence[Predictions], resamples: int) -> dict[str, tuple[float, float]]:
        return error_intervals(runs, self._shared(runs[0]), resamples=resamples)

    def chance(self, predictions: Predictions) -> dict[str, float]:
        """Of always saying the fraction of positives; of a calibration error, its mean over labels that are drawn from
        the probabilities."""
        test, found = predictions["part"] == TEST, dict[str, float]()
        for name, column, target in self._classes(predictions):
            known = ~np.isnan(target)
            for when, kind in WHEN.items():
                said = predictions[kind][test, column][known]
                if known.any() and not np.isnan(said).any():
                    levels = level_of_constant(target[known]) | level_of_errors(said)
                    found |= {f"{metric}{when}/{name}": level for metric, level in levels.items()}
        shared = self._shared(predictions)
        for metric in dict.fromkeys(name.partition("/")[0] for name in found):
            if shared:
                found[metric] = float(np.mean([found[f"{metric}/{name}"] for name in shared]))
        return found

    def support(self, predictions: Predictions) -> dict[str, Support]:
        """Of an operating point also the validation patients that its threshold rests on, and of a predictive value
        the test patients that are called so. One at a stated prevalence is not known where there is no false call.
        """
        found: dict[str, Support] = {}
        thresholds = self.thresholds(predictions)
        on = {"sensitivity": (True, False), "specificity": (False, True)}.get(self.aim, (True, True))
        for column, name in enumerate(predictions["classes"].tolist()):
            numbers = []
            for part in (VALIDATION, TEST):
                target, _, patient = part_of(predictions, part, column)
                numbers.append(metrics.image_support(target > 0, patient))
            (held_yes, held_no), (yes, no) = numbers
            chosen = [count for count, used in zip((held_yes, held_no), on, strict=True) if used]
            found |= {f"{metric}{when}/{name}": (yes, no) for metric in MEASURES for when in WHEN}
            both = (min(yes, held_yes if on[0] else yes), min(no, held_no if on[1] else no))
            found |= {f"{metric}/{name}": both for metric in AT_POINT}
            found |= {f"sensitivity/{name}": (min(yes, *chosen),), f"specificity/{name}": (min(no, *chosen),)}
            test = part_of(predictions, TEST, column)
            called = test.score >= thresholds[column]
            for rate, those in (("ppv", called), ("npv", ~called)):
                found[f"{rate}/{name}"] = min(both, (len(np.unique(test.patient[those])),), key=min)
                if not (those & ((test.target > 0) != called)).any():
                    found[f"{rate}-at-prevalence/{name}"] = (0,)
        shared = self._shared(predictions)
        for metric in dict.fromkeys(name.partition("/")[0] for name in found):
            found[metric] = tuple(number for name in shared for number in found[f"{metric}/{name}"]) or (0, 0)
        return found


def part_of(predictions: Predictions, part: str, column: int) -> Part:
    rows = (predictions["part"] == part) & ~np.isnan(predictions["target"][:, column])
    return Part(predictions["target"][rows, column], predictions["score"][rows, column], predictions["patient"][rows])
