"""Everything that needs a GPU, on one card in under nine minutes; the tables come last, and each as soon as it is there
goes to the results file.

    python benchmarks/gpu.py --out FOLDER

On a machine without the package: PYTHONPATH=src. ``--quick --device cpu`` shows that it runs.
"""

import json
import time
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from imitate.config import AugmentConfig, ImitateConfig
from imitate.data.augment import draw_views, warp
from imitate.data.corpus import Corpus
from measuring import RESULTS, Row, Tables, aligned, machine, options, timed
from step import NAMES, Bench, compare
from whole_loop import Sizes, job, looped, synchronise, waiting, write_folder

PUBLISHED_PAIRS, PUBLISHED_EPOCHS = 213_384, 20
FULL = Sizes(128, 16_384, 90, 8, 4096, 256, ImitateConfig())
QUICK = Sizes(4, 48, 6, 1, 8, 4, ImitateConfig(backbone="resnet18", prepared_size=72, image_size=64))


def ceilings(device: str, sizes: Sizes) -> list[Row]:
    """What the card itself does: copying within its memory, and products of matrices."""
    side = 8192 if device == "cuda" else 512
    rows = []
    source = torch.empty(2**30 if device == "cuda" else 2**22, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    rows.append(
        {
            "ceiling": "copy, GB/s read and written",
            "value": 2 * len(source) / best(lambda: target.copy_(source), device) / 1e9,
        }
    )
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        rows.append(
            {
                "ceiling": f"product in {name}, TFLOP/s",
                "value": 2 * side**3 / best(partial(torch.matmul, a, b), device) / 1e12,
            }
        )
    return rows


def best(action: Callable[[], Any], device: str) -> float:
    def run() -> None:
        action()
        synchronise(device)

    run()
    return min(timed(run) for _ in range(10))


def steps(device: str, sizes: Sizes) -> list[Row]:
    """``benchmarks/step.py`` on this device, with the allocator's peak of each step run alone."""

    def bench() -> Bench:
        made = Bench(device=device, batch=sizes.batch, config=sizes.config)
        made.bert_layers = 1 if sizes is QUICK else made.bert_layers
        return made

    rows = compare(bench(), NAMES, rounds=sizes.rounds)
    return [row | {"peak GB": allocated(bench().step(str(row["step"])), device)} for row in rows]


def allocated(run: Callable[[], Any], device: str) -> float:
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0


def loops(device: str, sizes: Sizes, data: Corpus, folder: Path) -> Iterator[Row]:
    """The whole loop, beside the bare backbone's forward and backward on two views that are there already."""
    floor = best(Bench(device=device, batch=sizes.batch, config=sizes.config).step("floor bf16"), device)
    settings: dict[str, dict[str, Any]] = {"eager": {}, "chunks of half": {"chunk": sizes.batch // 2}}
    if device == "cuda":
        settings |= {f"compiled, {mode}": {"compile": mode} for mode in ("default", "reduce-overhead")}
    for number, (name, training) in enumerate(settings.items()):
        try:
            made = job(data, folder / f"loop{number}", sizes, device, **training)
            seconds = looped(made, sizes.steps, device)
        except Exception as error:
            print(f"{name} failed: {type(error).__name__}: {str(error)[:300]}", flush=True)
            continue
        pairs = sizes.batch / seconds
        row = {"setting": name, "s a step": seconds, "pairs/s": pairs, "target": ">= 2,000 on an H200"}
        row |= {"time over floor": seconds / floor, "target ": "<= 1.05"}
        yield row | {"published run, minutes": PUBLISHED_PAIRS * PUBLISHED_EPOCHS / pairs / 60}


def large(device: str, sizes: Sizes, data: Corpus, folder: Path) -> list[Row]:
    """A contrastive batch of thousands, in chunks."""
    made = job(data, folder / "large", sizes, device, batch_size=sizes.large, chunk=sizes.chunk, epochs=4)
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds = looped(made, 4, device)
    peak = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0
    row = {"batch": sizes.large, "chunk": sizes.chunk, "s a step": seconds, "pairs/s": sizes.large / seconds}
    return [row | {"peak GB": peak}]


def views(device: str, sizes: Sizes) -> list[Row]:
    images = torch.randint(0, 256, (sizes.batch, *[sizes.config.prepared_size] * 2), dtype=torch.uint8).to(device)
    draw = draw_views(sizes.batch, AugmentConfig(), sizes.config, torch.Generator().manual_seed(0))
    draw = draw._replace(homography=draw.homography.to(device), autocontrast=draw.autocontrast.to(device))
    seconds = best(lambda: warp(images, draw, sizes.config), device)
    return [{"views": "one warp a batch", "views/s": sizes.batch / seconds, "ms a step": 2e3 * seconds}]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    device, sizes = arguments.device, QUICK if arguments.quick else FULL
    started, tables = time.perf_counter(), Tables()
    with TemporaryDirectory() as name:
        folder = Path(name)
        data = write_folder(folder / "data", sizes)
        parts: dict[str, Callable[[], Any]] = {
            "ceilings": lambda: ceilings(device, sizes),
            "loop": lambda: list(loops(device, sizes, data, folder)),
            "waits": lambda: waiting(device, sizes, data, folder),
            "large": lambda: large(device, sizes, data, folder),
            "views": lambda: views(device, sizes),
            "steps": lambda: steps(device, sizes),
        }
        for part, measure in parts.items():
            try:
                found = measure()
            except Exception:
                traceback.print_exc()
                continue
            named = {"waits": found[0], "kernels": found[1]} if part == "waits" else {part: found}
            tables |= {title: rows for title, rows in named.items() if rows}
            keep(arguments, tables)
            print(f"{part}: done after {time.perf_counter() - started:.0f} s", flush=True)
    for title, rows in tables.items():
        print(f"\n{title}\n{aligned(rows)}", flush=True)


def keep(arguments: Namespace, tables: Tables) -> None:
    if not arguments.quick or arguments.out != RESULTS:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "gpu.json").write_text(json.dumps({"machine": machine(), "tables": tables}, indent=1) + "\n")


if __name__ == "__main__":
    main()
