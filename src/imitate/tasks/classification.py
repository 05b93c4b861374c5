"""Supervised classification: what all of it shares, and a linear probe of the frozen encoder."""

import logging
import math
from abc import abstractmethod
from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.encoder import Encoder
from imitate.statistics import metrics
from imitate.tasks.augmentation import cropped_view, distorted_view
from imitate.tasks.base import HELD, Budget, Predictions
from imitate.tasks.classes import AT_THRESHOLD, RANKING, OfClasses, of_exclusive
from imitate.tasks.features import pooled_features
from imitate.tasks.fitting import Parts, batches, fit, frozen, parts, pixels, seeded
from imitate.tasks.logistic import logistic_path, standardise
from imitate.tasks.options import LinearOptions, ProbeOptions
from imitate.tasks.studies import mean_of_logits, mean_of_logs

log = logging.getLogger(__name__)


class Problem(NamedTuple):
    """The labelled images of a prepared folder."""

    data: Corpus
    rows: Parts
    target: Float[Tensor, "images classes"]  # of the whole folder; NaN where unknown
    classes: list[str]  # the columns of target
    exclusive: bool  # every labelled image has exactly one class


class Logits(NamedTuple):
    """Of the images of both parts."""

    validation: Float[Tensor, "rows classes"]
    test: Float[Tensor, "rows classes"]


class Classification(OfClasses):
    """What probes and fine-tuning share: where the labels are, and how scores are measured.

    A class that the test images hold with one label only is NaN and leaves the macro averages. Classes that exclude
    each other are fitted by softmax cross-entropy, and the metrics of the highest score come with the rest; of other
    classes, yes is a probability above .5, of which ``f1`` is the F1.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    headline: ClassVar[str] = "auroc"
    beside: ClassVar[tuple[str, ...]] = ("accuracy",)

    @abstractmethod
    def logits(self, encoder: Encoder, problem: Problem, budget: Budget) -> Logits:
        """After fitting on the training images."""

    def predict(self, encoder: Encoder, data: Corpus, budget: Budget) -> Predictions:
        """``score`` holds logits, or log-probabilities of exclusive classes: neither saturates into ties.

        Beside those of the test images, the same of the validation ones, whose names begin with HELD: ``imitate
        calibrate`` is fitted on them.
        """
        problem = labelled(self.selected(data), budget, split=self.split)
        logits = self.logits(encoder, problem, budget)
        test = self._scored(problem, problem.rows.test, logits.test)
        held = self._scored(problem, problem.rows.validation, logits.validation)
        beside = {f"{HELD}{name}": held[name] for name in ("image_id", "patient", "target", "score")}
        return {**test, "classes": np.array(problem.classes), **beside}

    def _scored(self, problem: Problem, rows: np.ndarray, logits: Tensor) -> Predictions:
        found = logits.float().cpu()
        each = {
            "target": problem.target[rows].numpy(),
            "score": (found.log_softmax(1) if problem.exclusive else found).numpy(),
        }
        average = mean_of_logs if problem.exclusive else mean_of_logits
        return self.by_unit(each, problem.data.table.iloc[rows], average)

    def resample(self, predictions: Predictions, counts: np.ndarray) -> dict[str, np.ndarray]:
        target, score, classes = (predictions[key] for key in ("target", "score", "classes"))
        found: dict[str, np.ndarray] = {}
        fold = predictions.get("fold")
        for name, metric in RANKING.items():
            measure = metric if fold is None else partial(metrics.within, metric, fold)
            found |= metrics.per_class(name, measure, target, score, classes.tolist(), counts, least=self.macro_least)
        if exclusive := of_exclusive(target, score, counts):
            return found | exclusive
        for name, at_threshold in (AT_THRESHOLD | {"f1": metrics.f1}).items():
            found |= metrics.per_class(
                name, at_threshold, target, score > 0, classes.tolist(), counts, least=self.macro_least
            )
        return found

    def chance(self, predictions: Predictions) -> dict[str, float]:
        """Of a constant score; that of F1 depends on which."""
        found = self.measure({**predictions, "score": np.zeros_like(predictions["score"])})
        return {name: level for name, level in found.items() if name.partition("/")[0] != "f1"}


class Probe(ProbeOptions, Classification):
    """Of the pooled features of the frozen encoder.

    ``folds`` cross-validates by patient over the images of all splits, for a folder too small to be tested otherwise:
    each image is tested once, and only compared with those that the same probe scored.
    """

    baselines: ClassVar[tuple[str, ...]] = ("random", "pixels")

    def predict(self, encoder: Encoder, data: Corpus, budget: Budget) -> Predictions:
        if not self.folds:
            return super().predict(encoder, data, budget)
        parts = [
            super(Probe, self).predict(encoder, fold, budget)
            for fold in self.selected(data).folds(self.folds, test=self.split)
        ]
        found: Predictions = {name: np.concatenate([part[name] for part in parts]) for name in ("image_id", "patient")}
        shared = [name for name in parts[0]["classes"] if all(name in part["classes"] for part in parts)]
        for name in ("target", "score"):  # of the classes that every probe was taught
            found[name] = np.concatenate([part[name][:, np.isin(part["classes"], shared)] for part in parts])
        sizes = [len(part["target"]) for part in parts]
        return {**found, "classes": np.array(shared), "fold": np.repeat(np.arange(len(parts)), sizes)}


class LinearClassification(LinearOptions, Probe):
    """One linear layer on the features.

    ``cached`` takes each image's features once and solves the regression to its minimum, for each of ``decays``; for
    each class that with the least validation loss counts. ``augmented`` is the peers' recipe, AdamW on random views
    that are encoded anew in each epoch; mode ``paper`` always takes it, with the tail of the validation images left
    out.
    """

    name: ClassVar[str] = "linear-classification"
    title: ClassVar[str] = "Linear classification"

    def logits(self, encoder: Encoder, problem: Problem, budget: Budget) -> Logits:
        if self.path == "augmented" or budget.mode == "paper":
            return self._augmented(encoder, problem, budget)
        target = problem.target.to(budget.device)
        train, validation, test = (
            pooled_features(encoder, problem.data, rows, budget).to(budget.device) for rows in problem.rows
        )
        standardise(train, validation, test)
        known, classes = target[problem.rows.validation], 1 if problem.exclusive else target.shape[1]
        best, chosen, logits = torch.full((classes,), torch.inf), [math.nan] * classes, list[Tensor]()
        for decay, linear in logistic_path(
            train, target[problem.rows.train], decays=self.decays, exclusive=problem.exclusive
        ):
            losses = class_losses(linear(validation), known, problem.exclusive).cpu()
            log.info("weight decay %g: validation loss %.4f", decay, float(losses.mean()))
            better = losses < best
            if not better.any():
                break
            best, found = torch.where(better, losses, best), [linear(validation), linear(test)]
            kept = zip(found, logits or found, strict=True)
            logits = [torch.where(better.to(new.device), new, before) for new, before in kept]
            chosen = [decay if improved else before for improved, before in zip(better, chosen, strict=True)]
        self._at_the_edge(chosen, problem)
        if budget.validated is not None:
            budget.validated.append(float(best.mean()))
        return Logits(*logits)

    def _at_the_edge(self, chosen: list[float], problem: Problem) -> None:
        """Says of which classes another decay might be better."""
        ends = {min(self.decays), max(self.decays)}
        names = ["all classes"] if problem.exclusive else problem.classes
        found = [f"{name} {decay:g}" for name, decay in zip(names, chosen, strict=True) if decay in ends]
        if found and len(self.decays) > 1:
            log.warning("the best weight decay is the smallest or largest of decays: %s", ", ".join(found))

    def _augmented(self, encoder: Encoder, problem: Problem, budget: Budget) -> Logits:
        data, rows, exclusive = problem.data, problem.rows, problem.exclusive
        target = problem.target.to(budget.device)
        image = encoder.image.to(budget.device)
        view = distorted_view if self.augmentation == "distort" else cropped_view
        checked = rows.validation
        if budget.mode == "paper" and len(checked) >= self.batch_size:
            checked = np.concatenate(batches(checked, self.batch_size, drop_last=True))
        held, test = (
            pooled_features(encoder, data, part, budget).to(budget.device) for part in (rows.validation, rows.test)
        )
        validation = held[: len(checked)]
        with seeded(budget.seed):
            head = nn.Linear(test.shape[1], target.shape[1]).to(budget.device)

        def step(chosen: np.ndarray, generator: torch.Generator) -> Tensor:
            with torch.no_grad():
                images = view(pixels(data, chosen, budget.device), encoder.preprocessing, generator)
                features = image(images).pooled
            return loss(head(features), target[chosen], exclusive)

        def validate() -> float:
            return float(loss(head(validation), target[checked], exclusive))

        with frozen(image):
            fit(head, settings=self, budget=budget, rows=rows.train, step=step, validate=validate)
        with torch.no_grad():
            return Logits(head(held), head(test))


def labelled(data: Corpus, budget: Budget, *, split: str) -> Problem:
    """The parts of the folder without the images that have no label at all, and the classes that training knows.

    UserError where none validates or tests, or the training images hold every class with one label only.
    """
    target = data.labels
    taught = ~np.isnan(target[data.rows("train")]).all(0)
    target = target[:, taught]
    has_any = ~np.isnan(target).all(1)
    rows = Parts(*(part[has_any[part]] for part in parts(data, budget, test=split)))
    for name, part in (("validation", rows.validation), ("test", rows.test)):
        if not len(part):
            raise UserError(f"{data.root} has no labelled {name} image: prepare it with labels or choose another split")
    train = target[rows.train]
    if not ((train == 1).any(0) & (train == 0).any(0)).any():
        raise UserError(f"no class has both labels among the {len(train)} training images: raise --fraction")
    if caution := data.meta.get("traits", {}).get("caution"):
        log.warning("%s", caution)
    classes = [name for name, known in zip(data.classes, taught, strict=True) if known]
    return Problem(data, rows, torch.from_numpy(target), classes, metrics.exclusive(target[has_any]))


def loss(
    logits: Float[Tensor, "rows classes"], target: Float[Tensor, "rows classes"], exclusive: bool
) -> Float[Tensor, ""]:
    """Cross-entropy over the known labels; softmax over exclusive classes, else binary. NaN where none is known."""
    if exclusive:
        return cross_entropy(logits.float(), target)
    known = ~target.isnan()
    return binary_cross_entropy_with_logits(logits.float()[known], target[known])


def class_losses(
    logits: Float[Tensor, "rows classes"], target: Float[Tensor, "rows classes"], exclusive: bool
) -> Float[Tensor, " losses"]:
    """``loss`` of each class by itself, of all where a class has no known label; of exclusive classes the one loss."""
    whole = loss(logits, target, exclusive)
    if exclusive:
        return whole[None]
    each = torch.stack([loss(logits[:, i : i + 1], target[:, i : i + 1], False) for i in range(target.shape[1])])
    return torch.where(each.isnan(), whole, each)
