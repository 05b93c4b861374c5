"""Do the intervals of calibration and of operating points cover? Simulated scores whose miscalibration is known.

    python benchmarks/calibration.py                    (an hour of one core; finished cells are kept)
    python benchmarks/calibration.py --out FOLDER --quick

The log-odds x of a finding are normal, images of a patient share half of their variance, and the model says
1 / (1 + exp(-(shift + slope x))). Validation and test have as many patients; the threshold is that of a sensitivity of
90% on validation. Every estimate comes from the functions that ``imitate calibrate`` calls, from fewer resamples.
"""

import json
import logging
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from imitate.statistics import operating
from imitate.statistics.calibration import ece, intercept, murphy, smooth_ece
from imitate.statistics.calibration_intervals import ERRORS, error_interval, fields, inverted
from imitate.statistics.intervals import Support
from imitate.statistics.metrics import image_support
from imitate.statistics.resampling import bootstrap
from imitate.tasks.calibration_metrics import MEASURES, UNITS
from imitate.tasks.estimating import Resampled
from measuring import RESULTS, Row, finish, machine, options

log = logging.getLogger("calibration")
SIMULATIONS, MOST, RESAMPLES, OF_ERRORS = 500, 2000, 200, 100
POPULATION = 1_000_000
AIM, ACT, PREVALENCE = 0.9, 0.2, 0.05  # sensitivity on validation, probability from which to act, that of further PPV
SMOOTH = [name for name in MEASURES if name not in ERRORS]
RATES = ("sensitivity", "specificity", "ppv", "npv")
NAN = float("nan")


class Cell(NamedTuple):
    scores: str
    patients: int
    images: int


class Kind(NamedTuple):
    """Of the log-odds, and what the model makes of them."""

    mean: float
    deviation: float
    shift: float
    slope: float


KINDS = {
    "too extreme": Kind(-1.5, 1.5, 0.3, 2.0),
    "slightly too extreme": Kind(-1.5, 1.5, 0.2, 1.2),
    "too high, rare finding": Kind(-3.2, 1.3, 0.7, 1.0),
    "right": Kind(-1.5, 1.5, 0.0, 1.0),
}
CELLS = [
    Cell("too extreme", 500, 1),
    Cell("too high, rare finding", 1500, 1),
    Cell("slightly too extreme", 500, 1),
    Cell("too extreme", 300, 2),
    Cell("right", 500, 1),
]
Found = dict[str, tuple[float, float, float]]  # value, low, high


class Part(NamedTuple):
    target: np.ndarray
    said: np.ndarray
    owner: np.ndarray


def drawn(kind: Kind, cell: Cell, generator: np.random.Generator, *, first: int = 0) -> Part:
    owner = np.repeat(np.arange(cell.patients), cell.images)
    shared, own = generator.normal(size=cell.patients)[owner], generator.normal(size=len(owner))
    x = kind.mean + kind.deviation * np.sqrt(0.5) * (shared + own)
    target = (generator.random(len(owner)) < expit(x)).astype(float)
    return Part(target, expit(kind.shift + kind.slope * x), owner + first)


class Population(NamedTuple):
    said: np.ndarray  # descending
    probability: np.ndarray

    def rates(self, threshold: float) -> dict[str, float]:
        """Of calling positive from this probability on."""
        called = int(np.searchsorted(-self.said, -threshold, "right"))
        true, positive = float(self.probability[:called].sum()), float(self.probability.sum())
        negative, total = len(self.said) - positive, len(self.said)
        false = called - true
        found = {"sensitivity": true / positive, "specificity": 1 - false / negative}
        found |= {"ppv": true / called, "npv": (negative - false) / (total - called)}
        both = (np.array([found["sensitivity"]]), np.array([found["specificity"]]))
        return found | {"ppv-at-prevalence": float(operating.ppv_at(*both, PREVALENCE)[0]),
                        "net-benefit": (true - false * ACT / (1 - ACT)) / total}  # fmt: skip


@cache
def population(scores: str) -> Population:
    kind = KINDS[scores]
    x = kind.mean + kind.deviation * np.random.default_rng(99).normal(size=POPULATION)
    x = -np.sort(-x)
    return Population(expit(kind.shift + kind.slope * x), expit(x))


@cache
def truth(scores: str) -> dict[str, float]:
    """Of the population: a label counts by its probability."""
    said, q = population(scores)
    kind, prevalence = KINDS[scores], float(q.mean())
    brier = float((q * (1 - said) ** 2 + (1 - q) * said**2).mean())
    parts = murphy(q, said)
    at = said[np.searchsorted(np.cumsum(q) / q.sum(), AIM)]
    return {
        "brier": brier,
        "brier-skill": 1 - brier / (prevalence * (1 - prevalence)),
        "log-loss": float((-q * np.log(said) - (1 - q) * np.log1p(-said)).mean()),
        "smooth-ece": float(smooth_ece(q, said)[0]),
        "ece": float(ece(q, said)[0]),
        "slope": 1 / kind.slope,
        "intercept": float(intercept(q[::20], said[::20])[0]),
        "observed-to-expected": float(q.sum() / said.sum()),
        "reliability": float(parts.reliability[0]),
        "resolution": float(parts.resolution[0]),
        **{name: value for name, value in population(scores).rates(float(at)).items() if name != "net-benefit"},
        "net-benefit": population(scores).rates(ACT)["net-benefit"],
    }


def simulated(cell: Cell, number: int, *, whole: bool = True) -> tuple[Found, dict[str, float]]:
    """Estimates with their intervals, or those of the threshold alone; and the truth of what is of this threshold."""
    generator = np.random.default_rng(zlib.crc32(f"{cell} {number}".encode()))
    kind = KINDS[cell.scores]
    held, test = drawn(kind, cell, generator), drawn(kind, cell, generator, first=cell.patients)
    found = measured(test)
    found |= errors(test)
    rates, at = operated(held, test)
    return found | rates, {
        f"{name}, this threshold": value for name, value in population(cell.scores).rates(at).items()
    }


def intervals(run: Callable[..., dict[str, np.ndarray]], part: Part, support: dict[str, Support], **more: Any) -> Found:
    once = {name: float(value[0]) for name, value in run(np.ones((1, len(part.target)))).items()}
    samples = bootstrap([run], part.owner, resamples=RESAMPLES, **more)
    patients = len(np.unique(part.owner))
    resampled = Resampled([once], samples, support, patients, (), frozenset(UNITS), frozenset(["resolution"]))
    return {name: (value, *(resampled.interval(name) or (NAN, NAN))) for name, value in once.items()}


def measured(test: Part) -> Found:
    support = image_support(test.target > 0, test.owner)

    def run(counts: np.ndarray) -> dict[str, np.ndarray]:
        return {name: MEASURES[name](test.target, test.said, counts) for name in SMOOTH}

    found = intervals(run, test, dict.fromkeys(SMOOTH, support))

    def benefit(counts: np.ndarray) -> dict[str, np.ndarray]:
        return {"": operating.net_benefit(test.target, test.said, np.array([ACT]), counts)[:, 0]}

    samples = bootstrap([benefit], test.owner, resamples=RESAMPLES)[""][0]
    value = float(benefit(np.ones((1, len(test.target))))[""][0])
    return {**found, "net-benefit": (value, *np.quantile(samples, [0.025, 0.975]).tolist())}


def errors(test: Part) -> Found:
    """By the inverted test, and, to see what it is for, by percentiles."""
    samples = bootstrap([fields(test.target, test.said)], test.owner, resamples=OF_ERRORS)
    each = inverted(test.target, test.said, {name: field[0] for name, field in samples.items()})
    found: Found = {name: (one.value, *error_interval(one)) for name, one in each.items()}
    plain = bootstrap([lambda counts: {"": ece(test.target, test.said, counts)}], test.owner, resamples=RESAMPLES)[""][
        0
    ]
    return {**found, "ece, by percentiles": (each["ece"].value, *np.quantile(plain, [0.025, 0.975]).tolist())}


def operated(held: Part, test: Part) -> tuple[Found, float]:
    both = Part(*(np.concatenate(pair) for pair in zip(held, test, strict=True)))
    part = np.repeat([0, 1], [len(held.target), len(test.target)])

    def run(counts: np.ndarray) -> dict[str, np.ndarray]:
        at = operating.threshold(held.target, held.said, counts[:, part == 0], aim="sensitivity", at=AIM)
        calls = operating.calls(test.target, test.said, at, counts[:, part == 1])
        rates = {rate: getattr(calls, rate) for rate in RATES}
        return {**rates, "ppv-at-prevalence": operating.ppv_at(calls.sensitivity, calls.specificity, PREVALENCE)}

    (yes, _), (test_yes, no) = (image_support(each.target > 0, each.owner) for each in (held, test))
    support: dict[str, Support] = dict.fromkeys((*RATES, "ppv-at-prevalence"), (min(yes, test_yes), no))
    support |= {"sensitivity": (min(yes, test_yes),), "specificity": (min(no, yes),)}
    found = intervals(run, both, support, strata=part)
    at = float(operating.threshold(held.target, held.said, aim="sensitivity", at=AIM)[0])
    calls = operating.calls(test.target, test.said, at)
    called, positive = test.said >= at, test.target > 0
    for rate, among in zip(RATES, (positive, ~positive, called, ~called), strict=True):
        cases, value = len(np.unique(test.owner[among])), float(getattr(calls, rate)[0])
        found[f"{rate}, this threshold"] = (value, *(operating.wilson(value * cases, cases) or (NAN, NAN)))
    return found, at


def covered(cell: Cell, simulations: int, *, whole: bool = True) -> list[Row]:
    every = [simulated(cell, number, whole=whole) for number in range(simulations)]
    rows = []
    for name in every[0][0]:
        value, low, high = np.array([found[name] for found, _ in every]).T
        own = np.array([at.get(name, truth(cell.scores).get(name.partition(", by")[0], NAN)) for _, at in every])
        rows.append({
            "scores": cell.scores, "patients": cell.patients, "images each": cell.images, "estimate": name,
            "truth": float(own.mean()), "mean estimate": float(value.mean()), "simulations": simulations,
            "covers, %": percent((low <= own + 1e-9) & (own <= high)), "too low, %": percent(high < own),
            "too high, %": percent(low > own + 1e-9),
        })  # fmt: skip
    return rows


def settled(rows: list[Row], cell: Cell) -> list[Row]:
    """With more simulations of the rates at the threshold of a cell, where one is outside 92 to 98%: it may be luck."""
    outside = [row for row in rows if row["estimate"].startswith(RATES) and not 92 <= row["covers, %"] <= 98]
    if not any(_is_of(row, cell) and row["simulations"] == SIMULATIONS for row in outside):
        return rows
    more = {row["estimate"]: row for row in covered(cell, MOST, whole=False)}
    return [more.get(row["estimate"], row) if _is_of(row, cell) else row for row in rows]


def _is_of(row: Row, cell: Cell) -> bool:
    return tuple(row[key] for key in ("scores", "patients", "images each")) == cell


def percent(hits: np.ndarray) -> float:
    return round(100 * float(np.mean(hits)), 1)


def run(arguments: Any) -> dict[str, list[Row]]:
    path = arguments.out / "calibration.json"
    keeps = not arguments.quick or arguments.out != RESULTS
    rows: list[Row] = (
        json.loads(path.read_text(encoding="utf-8"))["tables"]["every"] if path.is_file() and keeps else []
    )
    for cell in CELLS[:1] if arguments.quick else CELLS:
        if not any(_is_of(row, cell) for row in rows):
            rows += covered(cell, 3 if arguments.quick else SIMULATIONS)
        rows = settled(rows, cell)
        log.info("%s", cell)
        if keeps:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = {"machine": machine(), "tables": tables(rows)}
            path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return tables(rows)


def tables(rows: list[Row]) -> dict[str, list[Row]]:
    """``coverage``: an estimate a line, a cell a column."""
    names: dict[str, Row] = {}
    for row in rows:
        line = names.setdefault(row["estimate"], {"estimate": row["estimate"]})
        line[f"{row['scores']}, {row['patients']} x {row['images each']}"] = row["covers, %"]
    return {"coverage": list(names.values()), "every": rows}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    given = options(__doc__).parse_args()
    finish(given, "calibration", run(given))
