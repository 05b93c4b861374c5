"""``imitate demo``: every step on synthetic data, from a publisher's layout to the HTML report."""

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

ORIGINAL, SIZE = 128, 72  # px
STUDIES, LABELLED = 4000, 2000
BASELINES = {"untrained": "random", "24x24 pixels": "pixels"}
MARK = ".imitate-demo"


def demo(*, out: AnyPath = Path("demo"), seed: int = 0, threads: int | None = None) -> None:
    """Run every step on synthetic data: archive, prepared folder, pre-training, five tasks, report.html.

    About five minutes on two cores, without a network. Metrics on synthetic images say little about the method.

    Args:
        out: Output folder. An interrupted demo continues there, and nothing is deleted.
        seed: Seed of the patients and of the training.
        threads: Number of compute threads; default: chosen by PyTorch.
    """
    started, out = time.monotonic(), Path(out)
    _claim(out)
    log.info("1/5  an archive in MIMIC-CXR's own layout, and radiographs with masks and boxes")
    if not (out / "raw").is_dir():
        with TemporaryDirectory(dir=out) as part:
            synthesize("mimic-cxr", out=Path(part) / "raw", n=STUDIES, seed=2 * seed, size=ORIGINAL)
            (Path(part) / "raw").rename(out / "raw")
    prepare("mimic-cxr", raw=out / "raw", out=out / "mimic-cxr", size=SIZE)
    prepare("synthetic", n=LABELLED, seed=2 * seed + 1, original_size=ORIGINAL, out=out / "labelled", size=SIZE)
    log.info("2/5  pre-training")
    settings = (f"training.seed={seed}",)
    pretrain("recipes/demo.yaml", data=out / "mimic-cxr", out=out / "run", threads=threads, settings=settings)
    untrained, pixels = BASELINES.items()
    models = [("IMITATE", str(out / "run")), untrained]
    log.info("3/5  retrieval and zero-shot classification, beside the untrained model")
    for method in models:
        _measure(out, "retrieval", method, data="mimic-cxr")
        _measure(out, "zero-shot", method)
    log.info("4/5  linear probes at 5% and 20% of the labelled patients, detection, fine-tuning")
    for method in [*models, pixels]:
        for fraction in (0.05, 0.2):
            _measure(out, "linear-classification", method, fraction=fraction)
    for method in models:
        _measure(out, "finetune-classification", method, fraction=0.35, epochs=6, batch_size=16, learning_rate=1e-3)
        _measure(out, "detection", method, fraction=0.35, epochs=6, width=128, learning_rate=1e-3)
    log.info("5/5  the report")
    page = out / "report.html"
    report(tuple(sorted((out / "results").glob("*.json"))), out=page, data=(out / "labelled", out / "mimic-cxr"))
    log.info("done in %.0f s: open %s", time.monotonic() - started, page)


def _measure(
    out: Path, task: str, method: tuple[str, str], *, data: str = "labelled", fraction: float = 1.0, **settings: Any
) -> None:
    """One results file; ``method`` is the name in tables and the model."""
    name, model = method
    evaluate(
        task,
        model=model,
        data=out / data,
        out=out / "results" / f"{task}-{name}-{fraction:g}.json".replace(" ", "-"),
        like=str(out / "run"),
        fraction=fraction,
        name=name,
        resamples=500,
        cache=out / "cache",
        **settings,
    )


def _claim(out: Path) -> None:
    """Mark the folder as that of a demo; UserError where it holds other things."""
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise UserError(f"{out} contains files that imitate demo did not write: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()
