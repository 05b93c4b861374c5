"""An audit of real images: the parts of ChestX-ray14 that are at hand, by sex, age and projection.

    python benchmarks/audit_chestxray14.py --raw ARCHIVE --model RUN

``ARCHIVE`` has the official layout, whole or in part. Patients are divided anew, 40% to fit a probe, 20% for the
thresholds and 40% to test, since the official test part of a sample is small. Only counts and metrics are written.
"""

import hashlib
import logging
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import imitate
from imitate.data.records import Record
from imitate.data.shards import Settings
from imitate.data.writer import Archive, Engine, write_folder
from imitate.report.audit import gap_plot
from imitate.report.build import write_report
from imitate.sources.chestxray14 import SOURCE
from imitate.tasks.audit_model import Audit, Gap, title
from imitate.tasks.base import Estimate
from measuring import RESULTS, Row, finish, options

BY = ("sex", "age", "projection", "sex+age")
DOCS = RESULTS.parent
LEAST, BANDS = 10, (40, 60)
TASK = "linear-classification"


def division(patient: str) -> str:
    place = hashlib.sha256(f"audit {patient}".encode()).digest()[0] / 256
    return "train" if place < 0.4 else "val" if place < 0.6 else "test"


def prepare(raw: Path, out: Path, side: int) -> Path:
    given = SOURCE.Options(raw=raw, split_by="patient")

    def records() -> Iterator[Record]:
        for each in SOURCE.records(given):
            if isinstance(each, Record):
                yield replace(each, annotations=(), split=division(each.patient))

    settings = Settings(source="chestxray14", size=side, classes=SOURCE.classes_of(given))
    write_folder(records(), out, settings, archive=Archive(raw), engine=Engine(workers=1))
    return out


def percent(found: Estimate | None) -> str:
    if found is None or found.value is None:
        return "undefined"
    ends = "" if found.low is None or found.high is None else f" ({100 * found.low:.0f} to {100 * found.high:.0f})"
    return f"{100 * found.value:.0f}{ends}"


def groups(audit: Audit, labels: list[str]) -> list[Row]:
    return [
        {"class": each.label, "by": each.by, "group": each.group, "images": each.images, "patients": each.patients,
         "positive": each.positives, "AUROC, %": percent(each.metrics.get("auroc")),
         "missed, %": percent(each.metrics.get("fnr")), "false alarms, %": percent(each.metrics.get("fpr"))}
        for each in audit.groups
        if each.label in labels and each.by != "sex+age"
    ]  # fmt: skip


def chance(p: float | None) -> str:
    return "" if p is None else "< .001" if p < 0.001 else f"{p:.3f}"


def gap_row(gap: Gap) -> Row:
    ends = Estimate(value=gap.gap, low=gap.low, high=gap.high)
    return {
        "class": gap.label, "metric": title(gap.metric, gap.label), "by": gap.by,
        "worst": f"{gap.worst} {100 * gap.values[0]:.0f}", "best": f"{gap.best} {100 * gap.values[1]:.0f}",
        "gap": percent(ends), "shuffled": f"{100 * gap.shuffled:.0f}",
        "p": chance(gap.p), "p (Holm)": chance(gap.p_holm),
        "balanced gap": percent(gap.balanced),
    }  # fmt: skip


def draw(gaps: list[Gap], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b64decode(gap_plot(gaps).partition(",")[2]))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--raw", type=Path, required=True, help="the archive")
    parser.add_argument("--model", required=True, help="a run, or another encoder, for the probe")
    parser.add_argument("--side", type=int, default=72, help="size of the prepared images, as the encoder needs them")
    parser.add_argument("--page", type=Path, help="where to write the HTML page, which is not to be committed")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    resamples = 100 if arguments.quick else 1000
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = prepare(arguments.raw, folder / "chestxray14", arguments.side)
        fit = {"model": arguments.model, "data": data, "resamples": 100, "cache": folder / "cache"}
        for split in ("val", "test"):
            imitate.evaluate(TASK, out=folder / f"{split}.json", split=split, **fit)
        out = folder / "audit.json"
        audit = imitate.audit(
            folder / "test.json", data=data, threshold_from=folder / "val.json", out=out, by=BY, bands=BANDS,
            least=LEAST, resamples=resamples,
        )  # fmt: skip
        if arguments.page:
            write_report([out], out=arguments.page)
    order = sorted(audit.gaps, key=lambda gap: gap.p or 1.0)
    if not arguments.quick or arguments.out != RESULTS:
        figures = (DOCS if arguments.out == RESULTS else arguments.out) / "figures"
        draw([gap for gap in order if gap.metric != "auroc"][:15], figures / "audit_chestxray14.svg")
    common = sorted(
        {each.label for each in audit.groups},
        key=lambda label: -sum(e.positives for e in audit.groups if (e.label, e.by) == (label, "sex")),
    )
    finish(arguments, "audit_chestxray14", {
        "gaps": [gap_row(gap) for gap in order[:12]],
        "groups": groups(audit, common[:3]),
        "settings": [{"model": audit.model, "test images": audit.data["images"], "patients": audit.data["patients"],
                      "gaps tested": len(audit.gaps), "more than chance": sum(gap.flagged for gap in audit.gaps),
                      "patients a group needs": LEAST}],
    })  # fmt: skip


if __name__ == "__main__":
    main()
