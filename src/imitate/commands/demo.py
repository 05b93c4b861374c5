"""``imitate demo``: the whole chain on synthetic data, from a publisher's layout to the HTML report."""

import logging
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from imitate.commands.evaluate import evaluate
from imitate.commands.prepare import prepare
from imitate.commands.pretrain import pretrain
from imitate.commands.report import report
from imitate.commands.synthesize import synthesize
from imitate.errors import UserError
from imitate.names import AnyPath

log = logging.getLogger(__name__)

SIZE = 72
STUDIES, LABELLED = 1200, 700
MARK = ".imitate-demo"


def demo(*, out: AnyPath = Path("demo"), threads: int | None = None) -> None:
    """Run the whole chain on synthetic data: archive, prepared folder, pre-training, five tasks, report.html.

    A few minutes on two cores, no network. Synthetic radiographs are drawings: the metrics show that the chain works,
    not that the method does.

    Args:
        out: folder for everything; a demo that was interrupted there continues, and nothing is deleted.
        threads: compute threads.
    """
    started, out = time.monotonic(), Path(out)
    _claim(out)
    log.info("1/5  an archive in MIMIC-CXR's own layout, and radiographs with masks and boxes")
    if not (out / "raw").is_dir():
        with TemporaryDirectory(dir=out) as part:
            synthesize("mimic-cxr", out=Path(part) / "raw", n=STUDIES)
            (Path(part) / "raw").rename(out / "raw")
    prepare("mimic-cxr", raw=out / "raw", out=out / "mimic-cxr", size=SIZE)
    prepare("synthetic", n=LABELLED, seed=1, out=out / "labelled", size=SIZE)
    log.info("2/5  pre-training")
    pretrain("recipes/tiny.yaml", data=out / "mimic-cxr", out=out / "run", threads=threads)
    models = {"IMITATE": str(out / "run"), "untrained": "random"}
    log.info("3/5  retrieval and zero-shot classification, beside the untrained model")
    for row in models.items():
        _measure(out, "retrieval", row, data="mimic-cxr", split="test")
        _measure(out, "zero-shot", row, data="mimic-cxr", split="test")
    log.info("4/5  linear probes at 10% and 100%, segmentation, detection, fine-tuning")
    for row in [*models.items(), ("24x24 pixels", "pixels")]:
        for fraction in (0.1, 1.0):
            _measure(out, "linear-classification", row, fraction=fraction)
    for row in models.items():
        _measure(out, "segmentation", row, epochs=6)
        _measure(out, "detection", row, epochs=6)
        _measure(out, "finetune-classification", row, epochs=10, batch_size=16, learning_rate=3e-3)
    log.info("5/5  the report")
    page = out / "report.html"
    report(tuple(sorted((out / "results").glob("*.json"))), out=page, data=(out / "labelled", out / "mimic-cxr"))
    log.info("done in %.0f s: open %s", time.monotonic() - started, page)


def _measure(
    out: Path, task: str, row: tuple[str, str], *, data: str = "labelled", fraction: float = 1.0, **settings: Any
) -> None:
    """One results file; ``row`` is the name in tables and the model."""
    name, model = row
    evaluate(
        task,
        model=model,
        data=out / data,
        out=out / "results" / f"{task}-{name}-{fraction:g}.json".replace(" ", "-"),
        like=str(out / "run"),
        fraction=fraction,
        name=name,
        resamples=200,
        cache=out / "cache",
        **settings,
    )


def _claim(out: Path) -> None:
    """Mark the folder as that of a demo; UserError where it holds other things."""
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise UserError(f"{out} holds files that no demo made: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()
