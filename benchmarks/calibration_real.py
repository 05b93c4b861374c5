"""Calibration before and after on real radiographs: metrics alone, no image, text or patient.

    python benchmarks/calibration_real.py --model RUN --data PREPARED [PREPARED ...]

Of each prepared folder the zero-shot scores of the run, and a linear probe of its frozen encoder. docs/your-data.md
says how to prepare Open-i and ChestX-ray14; the folders need the splits train, val and test.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import imitate
from imitate.errors import UserError
from imitate.inference.calibration import Calibration, read
from imitate.tasks.base import Estimate, Results
from measuring import Row, finish, options

RESAMPLES = 500


def shown(each: Estimate | None) -> str:
    """With its interval."""
    if each is None or each.value is None:
        return "–"
    between = "" if each.low is None or each.high is None else f" ({each.low:.3f} to {each.high:.3f})"
    return f"{each.value:.3f}{between}"


def calibrations(model: Path, data: Path, work: Path, cache: Path) -> Iterator[tuple[str, Results, Calibration]]:
    zero, probe = work / "zero-shot.json", work / "probe.json"
    try:
        place = work / "zero-shot-cal.json"
        found = imitate.calibrate(model=str(model), data=data, out=zero, to=place, resamples=RESAMPLES, device="cpu")
        yield "zero-shot", found, read(place)
    except UserError as error:
        print(f"{data.name}, zero-shot: {error}")
    imitate.evaluate(
        "linear-classification", model=str(model), data=data, out=probe, cache=cache, resamples=20, device="cpu"
    )
    place = work / "probe-file.json"
    found = imitate.calibrate(results=probe, out=work / "probe-cal.json", to=place, resamples=RESAMPLES, device="cpu")
    yield "linear probe", found, read(place)


def rows(data: str, kind: str, results: Results, found: Calibration) -> Iterator[Row]:
    for name, each in found.classes.items():
        metrics, counts = results.metrics, each.operating.counts if each.operating else {}
        row: Row = {"data": data, "scores": kind, "class": name, "positive, val": each.positives}
        if each.method is None:
            yield {**row, "uncalibrated": each.note}
            continue
        row["positive, test"] = counts.get("tp", 0) + counts.get("fn", 0) if counts else "–"
        for metric in ("brier", "smooth-ece", "slope"):
            for when, words in (("-before", "before"), ("", "after")):
                row[f"{metric} {words}"] = shown(metrics.get(f"{metric}{when}/{name}"))
        row |= {rate: shown(metrics.get(f"{rate}/{name}")) for rate in ("sensitivity", "specificity", "ppv")}
        yield row


def grouped(uncalibrated: list[Row]) -> list[Row]:
    """A line a folder and kind of scores."""
    lines: dict[tuple[str, str], Row] = {}
    for row in uncalibrated:
        key = (row["data"], row["scores"])
        line = lines.setdefault(
            key, {"data": key[0], "scores": key[1], "too few patients": "", "scores do not rise": ""}
        )
        why = "scores do not rise" if "rise" in row["uncalibrated"] else "too few patients"
        line[why] += f"{', ' if line[why] else ''}{row['class']} ({row['positive, val']})"
    return list(lines.values())


def macro(data: str, kind: str, results: Results, found: Calibration) -> Row:
    calibrated = sum(each.method is not None for each in found.classes.values())
    row: Row = {"data": data, "scores": kind, "test images": results.data["images"], "val images": found.data["images"],
                "classes calibrated": f"{calibrated} of {len(found.classes)}"}  # fmt: skip
    for metric in ("brier", "log-loss", "smooth-ece"):
        row |= {f"{metric} {words}": shown(results.metrics.get(f"{metric}{when}"))
                for when, words in (("-before", "before"), ("", "after"))}  # fmt: skip
        if metric == "smooth-ece":
            chance = results.metrics[metric].chance
            row["smooth-ece by chance"] = "–" if chance is None else f"{chance:.3f}"
    return row


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    given = parser.parse_args()
    tables: dict[str, list[Row]] = {"means": [], "classes": [], "uncalibrated": []}
    with tempfile.TemporaryDirectory() as place:
        for folder in given.data:
            work = Path(place) / folder.name
            work.mkdir()
            for kind, results, found in calibrations(given.model, folder, work, Path(place) / "cache"):
                tables["means"].append(macro(folder.name, kind, results, found))
                for row in rows(folder.name, kind, results, found):
                    tables["uncalibrated" if "uncalibrated" in row else "classes"].append(row)
    tables["uncalibrated"] = grouped(tables["uncalibrated"])
    finish(given, "calibration_real", {name: each for name, each in tables.items() if each})
