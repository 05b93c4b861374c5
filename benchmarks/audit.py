"""Does an audit flag a planted gap with its size, and nothing where none is planted?

    python benchmarks/audit.py --model RUN           (half an hour of one core; RUN is any pre-trained encoder)
    python benchmarks/audit.py --out FOLDER --quick

Two synthetic archives: in one the findings of women have less contrast, in the other they have not. In each a probe is
fitted on the training images, its thresholds are chosen on the validation images, and it scores a large pool of further
patients. A repetition draws patients from the pool and audits them as ``imitate audit`` does. The gap in the whole pool
is what each interval should hold.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

import imitate
from imitate.data.records import Record
from imitate.data.shards import Settings
from imitate.data.writer import Archive, Engine, write_folder
from imitate.sources.synthetic import SOURCE
from imitate.statistics.operating import wilson
from imitate.tasks.audit_model import Audit, Gap, read_audit
from imitate.tasks.results import read_predictions, read_results, write_results
from measuring import Row, finish, options

log = logging.getLogger("audit")
CONTRAST = 0.4  # of the findings of women, as a fraction of the usual
TASK = "linear-classification"
SHUFFLES = 399


class Size(NamedTuple):
    train: int  # images, a seventh of them for the thresholds
    pool: int  # images
    planted_pool: int
    patients: int  # of a repetition
    null: int  # repetitions without a gap
    planted: int  # and with one
    resamples: int


WHOLE, QUICK = Size(3000, 8000, 5000, 400, 200, 25, 100), Size(400, 600, 600, 150, 3, 2, 100)


class Archived(NamedTuple):
    pool: Path  # prepared folder, all of it test
    validation: Path  # results of the validation images
    scored: Path  # results of the pool


def prepare(out: Path, *, n: int, seed: int, size: int, contrast: float | None, test: bool) -> Path:
    given = SOURCE.Options(n=n, seed=seed, original_size=128, female_contrast=contrast, raw=out.with_name("png"))

    def records() -> Iterator[Record]:
        for each in SOURCE.records(given):
            assert isinstance(each, Record)
            yield replace(each, annotations=(), split="test") if test else replace(each, annotations=())

    settings = Settings(source="synthetic", size=size, classes=SOURCE.classes)
    write_folder(records(), out, settings, archive=Archive(given.raw), engine=Engine(workers=1))
    for path in given.raw.iterdir():
        path.unlink()
    return out


def archived(folder: Path, size: Size, model: str, side: int, contrast: float | None) -> Archived:
    train = prepare(folder / "train", n=size.train, seed=1, size=side, contrast=contrast, test=False)
    images = size.pool if contrast is None else size.planted_pool
    pool = prepare(folder / "pool", n=images, seed=2, size=side, contrast=contrast, test=True)
    found = Archived(pool, folder / "val.json", folder / "pool.json")
    like = f"{Path(__file__).parents[1]}/recipes/tiny.yaml" if model == "random" else None
    evaluate = partial(
        imitate.evaluate, TASK, model=model, data=train, resamples=100, cache=folder / "cache", like=like
    )
    evaluate(out=found.validation, split="val")
    evaluate(out=found.scored, test_data=pool)
    for path in (found.validation, found.scored):
        without_probabilities(path)
    return found


def without_probabilities(path: Path) -> None:
    """As of a task whose scores are no probabilities: no gap of calibration is tested, so none is computed."""
    results = read_results(path)
    write_results(results.model_copy(update={"task": "zero-shot"}), read_predictions(results, path), path)


def repeated(it: Archived, number: int, size: Size, folder: Path) -> Audit:
    """The audit of some patients of the pool; one that is there already is read."""
    out = folder / f"audit-{number}.json"
    if out.is_file():
        return read_audit(out)
    results = read_results(it.scored)
    (run,) = read_predictions(results, it.scored)
    names = np.unique(run["patient"])
    chosen = np.random.default_rng([number, 7]).choice(names, size.patients, replace=False)
    rows = np.flatnonzero(np.isin(run["patient"], chosen))
    part = {name: array if name == "classes" else array[rows] for name, array in run.items()}
    path = folder / f"drawn-{number}.json"
    data = results.data | {"images": len(rows), "patients": size.patients}
    write_results(results.model_copy(update={"data": data}), [part], path)
    audit = imitate.audit(
        path, data=it.pool, threshold_from=it.validation, out=out, resamples=size.resamples, by="sex", shuffles=SHUFFLES
    )
    for file in (path, path.with_suffix(".npz")):
        file.unlink()
    return audit


def whole(it: Archived, folder: Path) -> Audit:
    return imitate.audit(
        it.scored,
        data=it.pool,
        threshold_from=it.validation,
        out=folder / "whole.json",
        resamples=100,
        by="sex",
        shuffles=SHUFFLES,
    )


def signed(gap: Gap) -> float:
    """Of women minus men."""
    return rates(gap)["F"] - rates(gap)["M"]


def rates(gap: Gap) -> dict[str, float]:
    return dict(zip((gap.worst, gap.best), gap.values, strict=True))


def holds(gap: Gap, truth: float) -> bool | None:
    """Whether the interval, of the worst minus the best, holds the difference; None where there is none."""
    if gap.low is None or gap.high is None:
        return None
    worse = gap.values[0] > gap.values[1]
    oriented = truth if (gap.worst == "F") == worse else -truth
    return gap.low <= oriented <= gap.high


def percent(value: float) -> float:
    return round(100 * value, 1)


def flags(audits: list[Audit], what: str) -> Row:
    hit = sum(any(gap.flagged for gap in each.gaps) for each in audits)
    low, high = wilson(hit, len(audits)) or (0.0, 1.0)
    tested = np.mean([len(each.gaps) for each in audits])
    return {
        "archive": what, "repetitions": len(audits), "patients": audits[0].data["patients"],
        "gaps tested in each": round(float(tested), 1), "with a flag": hit,
        "share, %": percent(hit / len(audits)), "95% interval": f"{percent(low)} to {percent(high)}",
    }  # fmt: skip


def table(truth: Audit, audits: list[Audit]) -> list[Row]:
    """Each class: its gap in the pool, and how often it was flagged and its interval held that gap."""
    rows = []
    for gap in truth.gaps:
        same = [g for each in audits for g in each.gaps if (g.label, g.metric) == (gap.label, gap.metric)]
        held = [found for g in same if (found := holds(g, signed(gap))) is not None]
        if gap.metric != "fnr" or not held:
            continue
        shown = next(g for g in same if g.low is not None)
        low, high = (shown.low, shown.high) if shown.worst == "F" else (-(shown.high or 0), -(shown.low or 0))
        rows.append({
            "class": gap.label, "missed in women, pool, %": percent(rates(gap)["F"]),
            "in men, %": percent(rates(gap)["M"]), "gap": percent(signed(gap)),
            "one repetition": f"{percent(signed(shown))} ({percent(low or 0)} to {percent(high or 0)})",
            "flagged, %": percent(float(np.mean([g.flagged for g in same]))),
            "interval holds the gap, %": percent(float(np.mean(held))),
        })  # fmt: skip
    return rows


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--model", default="random", help="a run, or another encoder, for the probe")
    parser.add_argument("--side", type=int, default=72, help="size of the prepared images, as the encoder needs them")
    parser.add_argument("--keep", type=Path, help="folder where archives, scores and audits are kept and used again")
    parser.add_argument("--archive", choices=("plain", "planted"), help="only this one, into --keep; writes no results")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    size = QUICK if arguments.quick else WHOLE
    with TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        found: dict[str, tuple[Audit, list[Audit]]] = {}
        for name, contrast, times in (("plain", None, size.null), ("planted", CONTRAST, size.planted)):
            if arguments.archive not in (None, name):
                continue
            place = folder / name
            it = Archived(place / "pool", place / "val.json", place / "pool.json")
            if not it.scored.is_file():
                place.mkdir(parents=True, exist_ok=True)
                it = archived(place, size, arguments.model, arguments.side, contrast)
            found[name] = whole(it, place), [repeated(it, number, size, place) for number in range(times)]
        model = read_results(it.scored).model
    if arguments.archive:
        return
    tables = {
        "flags": [flags(audits, name) for name, (_, audits) in found.items()],
        "planted": table(*found["planted"]),
        "plain": table(*found["plain"]),
        "settings": [
            {"model": model, "task": TASK, "contrast of women": CONTRAST, "training images": size.train,
             "pool without a gap, images": size.pool, "resamples": size.resamples, "shuffles": SHUFFLES}
        ],
    }  # fmt: skip
    finish(arguments, "audit", tables)


if __name__ == "__main__":
    main()
