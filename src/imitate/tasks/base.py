"""What every task has in common: its contract and its results."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from imitate.config import Config
from imitate.data.corpus import Corpus
from imitate.names import Mode
from imitate.statistics.intervals import Support
from imitate.statistics.metrics import class_support
from imitate.tasks.options import TaskOptions

if TYPE_CHECKING:
    from imitate.inference.encoder import Encoder

METHOD_VERSION = 2
"""Of what all tasks share: fitting, features, statistics. Raise it where the same model and data would have other
metrics or intervals; what one task changes raises its own ``version``."""
Predictions = dict[str, np.ndarray]
"""Everything a metric needs, one row a test image (first axis): always ``image_id`` and ``patient``, e.g. ``target``
and ``score`` (images, classes). The exceptions are ``classes``, the names of the columns, and what begins with HELD."""
HELD = "validation/"
"""Begins the names of arrays with a row a validation image."""


class Budget(NamedTuple):
    """What a task may use: the fraction of training patients, the seed, the device, the mode."""

    fraction: float = 1.0
    seed: int = 0
    mode: Mode = "clean"
    device: str = "cpu"
    cache: Path | None = None  # folder for cached features and subset lists; None: keep nothing
    validated: list[float] | None = None  # the best validation metric of each fit is added to it


class Estimate(Config):
    """A metric with its interval and the levels to read it against; ``value`` None means undefined, ``note`` why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    chance: float | None = None  # exact, of a random order
    shuffled: float | None = None  # of the same model with its images shuffled
    note: str = ""


class Task(TaskOptions, ABC):
    """Fit on the training part, predict the test part, measure any subset of the predictions.

    The class variables are all that tables, reports and comparisons know of a task.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1  # of how it measures; raised where the same model and data would have other metrics
    modes: ClassVar[tuple[Mode, ...]] = ("clean", "paper")  # those that differ
    title: ClassVar[str]
    needs: ClassVar[frozenset[str]]  # among tasks.NEEDS
    headline: ClassVar[str]  # the main metric
    paper_headline: ClassVar[str] = ""  # the main metric in mode paper, where it is another
    beside: ClassVar[tuple[str, ...]] = ()  # metrics that the main one must be read beside
    also: ClassVar[tuple[str, ...]] = ()  # further metrics of both sections for a Markdown table
    larger_is_better: ClassVar[Mapping[str, bool | None]] = {}  # {"error": False}; None: neither is better
    inflated: ClassVar[frozenset[str]] = frozenset()  # metrics that noise makes larger: intervals are shifted down
    printed: ClassVar[tuple[str, ...]] = ()  # the metrics that a terminal shows; (): all
    units: ClassVar[Mapping[str, str]] = {}  # of metrics not between 0 and 1: "px"; "%" of those shown times 100
    trains: ClassVar[bool] = True  # False: a fraction of the training patients has no meaning
    curves: ClassVar[bool] = False  # predictions hold target, score and classes, of which ROC curves are drawn
    baselines: ClassVar[tuple[str, ...]] = ()  # models without which its tables are not to be read
    names: ClassVar[Mapping[str, str]] = {}  # what tables call its metrics, where that is not the metric's own name
    about_chance: ClassVar[str] = ""  # what the level of chance is, for the reader of a table

    @classmethod
    def main_metric(cls, mode: Mode) -> str:
        return cls.paper_headline if mode == "paper" and cls.paper_headline else cls.headline

    @classmethod
    def method(cls) -> str:
        """The version of the code that measures, for results files."""
        return f"{METHOD_VERSION}.{cls.version}"

    def selected(self, data: Corpus) -> Corpus:
        """The images that take part."""
        return data if self.projections is None else data.select(self.projections)

    @abstractmethod
    def predict(self, encoder: "Encoder", data: Corpus, budget: Budget) -> Predictions:
        """Train what the task trains, with this seed and fraction of patients; predictions of the test images."""

    @abstractmethod
    def measure(self, predictions: Predictions, rows: np.ndarray | None = None) -> dict[str, float]:
        """Named metrics over ``rows`` (indices, repeats allowed: a bootstrap sample); NaN where undefined.

        A per-class metric is named ``auroc/Edema``; the main one comes first.
        """

    def chance(self, predictions: Predictions) -> dict[str, float]:
        """The exact chance level of those metrics that have one."""
        return {}

    def shuffled(self, predictions: Predictions) -> dict[str, float]:
        """The level of this model with its images shuffled, for those metrics that have one."""
        return {}

    def support(self, predictions: Predictions) -> dict[str, Support]:
        """How many patients of each kind a metric compares, such as (positive, negative); (all,) where none is named.

        Too few of them leave it without an interval. Metrics of classes and their macro averages are seen to here.
        """
        if not {"target", "classes"} <= predictions.keys():
            return {}
        names = dict.fromkeys(name.partition("/")[0] for name in self.measure(predictions) if "/" in name)
        target, patients, classes = (predictions[key] for key in ("target", "patient", "classes"))
        return class_support(list(names), target, patients, classes.tolist(), least=getattr(self, "macro_least", 1))

    def intervals(self, runs: Sequence[Predictions], resamples: int) -> dict[str, tuple[float, float]]:
        """Those of metrics for which the common ones do not hold what they say."""
        return {}

    def resample(self, predictions: Predictions, counts: np.ndarray) -> dict[str, np.ndarray]:
        """``measure`` for many bootstrap samples, ``counts[s, i]`` times row i in sample s; override it to be fast."""
        rows = np.arange(counts.shape[1])
        measured = [self.measure(predictions, np.repeat(rows, drawn)) for drawn in counts]
        return {name: np.array([each.get(name, np.nan) for each in measured]) for name in measured[0]}


def extent(data: Mapping[str, Any]) -> str:
    """How many images or studies were measured, and of how many patients: what a bootstrap draws (``Results.data``)."""
    unit, measured = data.get("unit", "patients"), f"{data['images']:,} {data.get('measured', 'images')}"
    if unit == "images":
        return f"{measured}, whose patients are not known"
    return f"{measured} of {data['patients']:,} {unit}"


class Published(Config):
    """Metrics that others printed, in percent: never measured here, and shown as such."""

    source: str  # who, where
    note: str = ""  # what a reader must know to compare
    shares: tuple[float, ...] = (1.0,)
    rows: dict[str, dict[str, tuple[float | None, ...]]]  # method, metric: a value for each of ``shares``, if printed

    @model_validator(mode="after")
    def _one_value_per_fraction(self) -> "Published":
        for method, metrics in self.rows.items():
            for metric, values in metrics.items():
                if len(values) != len(self.shares):
                    raise ValueError(f"{method} has {len(values)} values of {metric} for {len(self.shares)} shares")
        return self


class Fit(Config):
    """Which pre-trained encoder, in the order in which they were given, and which of the fits on it; from 0."""

    run: int
    head: int


class Tried(Config):
    """Of a sweep: one fit's settings and its validation metric, the smaller the better; None: it failed."""

    settings: dict[str, Any]
    validation: float | None


class Results(Config):
    """What ``imitate evaluate`` writes: of a model, on a task, a data set and a fraction of the training patients."""

    format_version: int = 1
    task: str
    model: str
    data: dict[str, Any]  # name, fingerprint, split, images, patients; unit, where ids are of studies or images;
    # measured, where the images that are counted stand for studies
    mode: Mode
    fraction: float
    seeds: list[int]
    settings: dict[str, Any]  # as they were asked for: what the task is made from again
    used: dict[str, Any] = Field({})  # as they took effect
    train: dict[str, Any] = Field({})  # what was fitted: name and fingerprint of the folder, images, patients
    metrics: dict[str, Estimate]  # intervals over seeds and patients together; per-class ones are named metric/class
    headline: str = ""  # the main metric, where a recipe names another than the task
    per_seed: list[dict[str, float]]
    fits: list[Fit] = Field([])  # of each seed
    sweeps: list[list[Tried]] = Field([])  # of each seed, where settings were tried: the one that counts first
    encoders: list[str] = Field([])  # the encoders' own names: random and pixels are the baselines of a probe's table
    weights: list[str] = Field([])  # the digest of each seed's encoder
    published: Published | None = None  # what the recipe quotes to stand beside
    predictions: str | None = None  # .npz beside the JSON: arrays named <seed>/<field>
    method: str = "1"  # Task.method() of the code that measured
    digests: dict[str, str] = Field({})  # of method, settings, data, weights and device: equal ones need no new work
    resamples: int | None = None  # bootstrap samples, drawn with seed 0
    device: str = ""
    precision: str = ""
    versions: dict[str, str]
    commit: str | None = None  # of the checkout that the code ran from
    seconds: float

    @property
    def pretrained(self) -> list[int]:
        """The run of each seed; where that is not recorded, each seed is a run."""
        return [fit.run for fit in self.fits] or list(range(len(self.seeds)))
