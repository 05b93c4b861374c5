"""Do 95% intervals cover, and does the paired test err as rarely as it says? Simulations where the truth is known.

    python benchmarks/coverage.py                    (half an hour of one core; finished cells are kept)
    python benchmarks/coverage.py --out FOLDER --quick

A cell of ``coverage`` is a metric, a number of test patients, a prevalence and a number of images per patient. In each
simulation two models predict on new patients; their metrics and the difference are estimated by the functions that
``imitate evaluate`` and ``imitate compare`` call, from fewer resamples. A cell of ``test`` is a number of seeds and a
difference between two methods, each seed of which has a skill of its own.

Cells that are in the results file already are skipped: delete the file where the statistics have changed.
"""

import argparse
import json
import logging
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.stats import norm

from imitate.statistics import metrics
from imitate.statistics.intervals import LEAST, Support
from imitate.statistics.resampling import Resample, bootstrap
from imitate.tasks.detection_matching import average_precision
from imitate.tasks.estimating import Resampled, tested
from imitate.tasks.retrieval import Retrieval
from imitate.tasks.retrieval_ranking import Side, query_metrics, rank
from measuring import RESULTS, Row, finish, machine, options

log = logging.getLogger("coverage")
PATIENTS, PREVALENCES, IMAGES = (30, 100, 300, 2000), (0.01, 0.05, 0.2, 0.5), (1, 3)
SIMULATIONS, OF_MAP, SLOW, RESAMPLES = 1000, 500, 200, 200
ENOUGH = 0.5  # fraction of the simulations with an interval, below which a cell is one without
SKILL = 1.2  # deviations between positive and negative images: an AUROC of .80
TESTED = (300, 0.2, 1)  # patients, prevalence, images
SEEDS = (2, 3, 5)
EFFECTS = (0.0, 0.02, 0.04, 0.08)  # of AUROC
OVERLAPS = np.arange(8, 16) / 20  # IoU of mAP
SIDES = 32  # dimensions of a report's vector


def percent(hits: np.ndarray) -> float:
    return round(100 * float(np.mean(hits)), 1)


class Cell(NamedTuple):
    metric: str
    patients: int
    prevalence: float
    images: int


class Drawing:
    """Patients of one label each, with as many images; random values that the images of a patient share in part."""

    def __init__(self, seed: int, patients: int, prevalence: float, images: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.patients = patients
        self.owner = np.repeat(np.arange(patients), images)
        self.positive = (self.generator.random(patients) < prevalence)[self.owner]

    def values(self, *shape: int) -> np.ndarray:
        """Standard normal, one for each image; half of the variance is the patient's."""
        of_patients = self.generator.normal(size=(self.patients, *shape))[self.owner]
        return np.sqrt(0.5) * (of_patients + self.generator.normal(size=(len(self.owner), *shape)))

    def of_models(self, *shape: int, models: int = 2) -> Iterator[np.ndarray]:
        """Of models that agree in half of the variance."""
        common = self.values(*shape)
        return (np.sqrt(0.5) * (common + self.values(*shape)) for _ in range(models))

    @property
    def support(self) -> Support:
        return metrics.image_support(self.positive, self.owner)


def scored(metric: Callable[..., np.ndarray], drawing: Drawing) -> tuple[list[Resample], Support]:
    """Classifiers with normal scores."""
    scores = [SKILL * drawing.positive + noise for noise in drawing.of_models()]
    return [partial(_metric, metric, drawing.positive, score) for score in scores], drawing.support


def _metric(
    metric: Callable[..., np.ndarray], positive: np.ndarray, score: np.ndarray, counts: np.ndarray
) -> dict[str, np.ndarray]:
    return {"": metric(positive, score, counts)}


def segmented(drawing: Drawing) -> tuple[list[Resample], Support]:
    """A fifth of the empty images gets a prediction; a fifth of the others none, the rest a Dice of 0 to 1."""

    def resample(dice: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
        return {"": metrics.mean(dice, counts)}

    runs: list[Resample] = []
    for noise in drawing.of_models():
        rank = norm.cdf(noise)
        runs.append(partial(resample, np.where(drawing.positive, (rank / 0.8 - 0.25).clip(0) ** 0.5, rank > 0.2)))
    return runs, (drawing.patients,)


def detected(drawing: Drawing) -> tuple[list[Resample], Support]:
    """A positive image has one object and a detection that overlaps it by .2 to 1; half of all have a false one."""
    objects = drawing.positive.astype(int)

    def resample(matched: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
        return {"": average_precision(matched, scores, objects, counts).mean(1)}

    runs: list[Resample] = []
    for where, sure, false in zip(*(drawing.of_models() for _ in range(3)), strict=True):
        hit = (0.2 + 0.8 * norm.cdf(where))[:, None] >= OVERLAPS
        scores = np.stack([norm.cdf(sure + 0.7) * objects, norm.cdf(false - 0.7) * (false > 0)], axis=1)
        matched = np.stack([hit & (objects > 0)[:, None], np.zeros_like(hit)], axis=1)
        runs.append(partial(resample, matched, scores))
    return runs, drawing.support[:1]


def retrieved(drawing: Drawing) -> tuple[list[Resample], Support]:
    """Vectors of images, each near that of its own report."""
    texts = drawing.values(SIDES)
    names, unlabelled = torch.arange(len(texts)), torch.zeros(len(texts), 0)

    def side(vectors: np.ndarray) -> Side:
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return Side(torch.from_numpy(unit.astype(np.float32)), names, unlabelled)

    def resample(columns: dict[str, np.ndarray], counts: np.ndarray) -> dict[str, np.ndarray]:
        return {"": Retrieval().resample(columns, counts)["mean-recall"]}

    runs: list[Resample] = []
    for noise in drawing.of_models(SIDES):
        images, reports = side(texts + 1.5 * noise), side(texts)
        ways = {"image-to-text": rank(images, reports), "text-to-image": rank(reports, images)}
        columns = {
            f"figure:{name}/both/{way}": each
            for way, ranks in ways.items()
            for name, each in query_metrics(ranks).items()
        }
        runs.append(partial(resample, columns))
    return runs, (drawing.patients,)


KINDS: dict[str, Callable[[Drawing], tuple[list[Resample], Support]]] = {  # two models' metric, what it rests on
    "AUROC": partial(scored, metrics.auroc),
    "average precision": partial(scored, metrics.average_precision),
    "mean recall": retrieved,
    "Dice": segmented,
    "mAP": detected,
}


def cells() -> list[Cell]:
    """Retrieval knows no labels."""
    return [
        Cell(metric, patients, prevalence, images)
        for patients in PATIENTS
        for metric in KINDS
        for prevalence in PREVALENCES
        for images in IMAGES
        if metric != "mean recall" or prevalence == PREVALENCES[-1]
    ]


def simulations_of(cell: Cell) -> int:
    large = cell.patients * cell.images > 2000 or (cell.metric == "mAP" and cell.patients > 1000)
    if cell.metric in ("mAP", "mean recall") and large:
        return SLOW
    return OF_MAP if cell.metric == "mAP" else SIMULATIONS


@cache
def truth(metric: str, prevalence: float) -> float | None:
    """In the population; None where it depends on the number of images: the mean of the simulations is the truth."""
    if metric == "AUROC":
        return auroc_of(SKILL)
    if metric == "average precision":
        score = norm.ppf((np.arange(20_000) + 0.5) / 20_000) + SKILL
        true, false = prevalence * norm.sf(score - SKILL), (1 - prevalence) * norm.sf(score)
        return float(np.mean(true / (true + false)))
    return None


def measured(runs: list[Resample], drawing: Drawing, support: Support) -> Resampled:
    once = np.ones((1, len(drawing.owner)))
    per_seed = [{"": float(run(once)[""][0])} for run in runs]
    return Resampled(per_seed, bootstrap(runs, drawing.owner, resamples=RESAMPLES), {"": support}, drawing.patients, ())


def known(cell: Cell) -> Row:
    keys = ("metric", "patients", "prevalence, %", "images each")
    return dict(zip(keys, (*cell[:2], 100 * cell.prevalence, cell.images), strict=True))


def covered(cell: Cell, simulations: int, *, most: int) -> Row:
    """Where fewer than ``most`` simulations are outside 92 to 98%, as many decide: these may be bad luck."""
    values, ends, between = [], [], []
    for number in range(simulations):
        drawing = Drawing(zlib.crc32(f"{cell} {number}".encode()), *cell[1:])
        runs, support = KINDS[cell.metric](drawing)
        if min(support) < LEAST:
            continue
        first, second = (measured([run], drawing, support) for run in runs)
        found = first.interval("")
        test = tested(first, second, "")
        if found is not None and test.low is not None:
            values.append(first.value(""))
            ends.append(found)
            between.append((test.low, test.high))
    row: Row = {**known(cell), "simulations": simulations, "with interval": len(values)}
    if len(values) < ENOUGH * simulations:
        return row | dict.fromkeys(("covers, %", "too low, %", "too high, %", "of a difference, %"), "none")
    goal = truth(cell.metric, cell.prevalence)
    goal = float(np.mean(values)) if goal is None else goal
    (low, high), (less, more) = np.array(ends).T, np.array(between).T
    row |= {
        "covers, %": percent((low <= goal) & (goal <= high)),
        "too low, %": percent(high < goal),
        "too high, %": percent(low > goal),
        "of a difference, %": percent((less <= 0) & (more >= 0)),
    }
    right = all(92 <= row[key] <= 98 for key in ("covers, %", "of a difference, %"))
    return row if right or simulations >= most else covered(cell, most, most=most)


def of_size(patients: int, simulations: int) -> Row:
    """What mAP is on average with so many patients, half of whom have an object."""
    found = []
    for number in range(simulations):
        runs, _ = detected(Drawing(number, patients, 0.5, 1))
        found.append(np.mean([run(np.ones((1, patients)))[""] for run in runs]))
    return {"patients": patients, "simulations": simulations, "mean mAP, %": round(100 * float(np.mean(found)), 1)}


def rejected(seeds: int, spread: float, effect: float, simulations: int) -> Row:
    """Of two methods with so many seeds, whose AUROC varies between seeds by ``spread``."""
    slope = (auroc_of(SKILL + 0.01) - auroc_of(SKILL - 0.01)) / 0.02
    better = float(brentq(lambda skill: auroc_of(skill) - auroc_of(SKILL) - effect, SKILL, SKILL + 3))
    found = []
    for number in range(simulations):
        drawing = Drawing(zlib.crc32(f"test {seeds} {spread} {number}".encode()), *TESTED)
        noise = list(drawing.of_models(models=2 * seeds))
        skills = np.repeat([SKILL, better], seeds) + drawing.generator.normal(0, spread / slope, 2 * seeds)
        runs: list[Resample] = [
            partial(_metric, metrics.auroc, drawing.positive, skill * drawing.positive + each)
            for skill, each in zip(skills, noise, strict=True)
        ]
        first, second = (measured(some, drawing, drawing.support) for some in (runs[:seeds], runs[seeds:]))
        found.append(tested(first, second, ""))
    row: Row = {"seeds": seeds, "between seeds": spread, "difference": effect, "simulations": simulations}
    return row | {
        "rejected, %": percent(np.array([test.p < 0.05 for test in found])),
        "covers, %": percent(np.array([(test.low or 0) <= effect <= (test.high or 0) for test in found])),
    }


def auroc_of(skill: float) -> float:
    return NormalDist().cdf(skill / np.sqrt(2))


def run(arguments: argparse.Namespace) -> dict[str, list[Row]]:
    path, few = arguments.out / "coverage.json", 5 if arguments.quick else 0
    keeps = not arguments.quick or arguments.out != RESULTS
    tables: dict[str, list[Row]] = {"coverage": [], "test": [], "size": []}
    if path.is_file() and keeps:
        tables |= json.loads(path.read_text(encoding="utf-8"))["tables"]

    def add(table: str, key: Row, make: Callable[[], Row]) -> None:
        if any(key.items() <= row.items() for row in tables[table]):
            return
        tables[table].append(make())
        log.info("%s", tables[table][-1])
        if keeps:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"machine": machine(), "tables": tables}, indent=1) + "\n", encoding="utf-8")

    chosen: list[Any] = [(seeds, 0.02, effect) for seeds in SEEDS for effect in EFFECTS]
    chosen += [(3, spread, 0.0) for spread in (0.0, 0.005, 0.06)]
    for seeds, spread, effect in chosen[:: 6 if arguments.quick else 1]:
        key = {"seeds": seeds, "between seeds": spread, "difference": effect}
        add("test", key, partial(rejected, seeds, spread, effect, few or SIMULATIONS))
    for cell in cells()[:: 9 if arguments.quick else 1]:
        add("coverage", known(cell), partial(covered, cell, few or simulations_of(cell), most=few or SIMULATIONS))
    for patients in (*PATIENTS, 100_000):
        add("size", {"patients": patients}, partial(of_size, patients, few or min(SIMULATIONS, 400_000 // patients)))
    tables["coverage"].sort(key=lambda row: list(KINDS).index(row["metric"]))
    return tables


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    given = options(__doc__).parse_args()
    finish(given, "coverage", run(given))
