"""Everything that needs a GPU, on one card; the tables come last, and each goes to the results file as soon as it is
there, beside those of other parts measured before.

    python benchmarks/gpu.py               # the whole loop, and every combination of settings: under four minutes
    python benchmarks/gpu.py --parts more  # ceilings, where a step's time goes, large batches, the published schedule

On a machine without the package: PYTHONPATH=src. ``--quick --device cpu`` shows that it runs.
"""

import json
import time
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from combinations import CLIP, PRECISIONS, cross, ranks
from imitate.config import AugmentConfig, ImitateConfig
from imitate.data.augment import draw_views, warp
from imitate.data.corpus import Corpus
from measuring import RESULTS, Row, Tables, aligned, machine, options, shown, timed
from step import NAMES, Bench, compare
from whole_loop import Sizes, job, looped, synchronise, waiting, write_folder

FIRST = ("loop", "ranks", "combinations", "compiled")
MORE = ("ceilings", "waits", "large", "views", "steps")
PUBLISHED_PAIRS, PUBLISHED_EPOCHS = 213_384, 20
FULL = Sizes(128, 16_384, 48, 8, 4096, 256, ImitateConfig())
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


def best(action: Callable[[], Any], device: str, times: int = 10) -> float:
    def run() -> None:
        action()
        synchronise(device)

    run()
    return min(timed(run) for _ in range(times))


def steps(device: str, sizes: Sizes) -> list[Row]:
    """``benchmarks/step.py`` on this device, with the allocator's peak of each step run alone."""

    def bench() -> Bench:
        made = Bench(device=device, batch=sizes.batch, config=sizes.config)
        made.bert_layers = 1 if sizes is QUICK else made.bert_layers
        return made

    rows = compare(bench(), NAMES, rounds=sizes.rounds)
    for row in rows:
        run = bench().step(str(row["step"]))
        peak(device)
        run()
        row["peak GB"] = peak(device)
    return rows


def loops(device: str, sizes: Sizes, data: Corpus, folder: Path) -> Iterator[Row]:
    """The whole loop, beside the bare backbone's forward and backward on two views that are there already."""
    floors = {
        name: best(Bench(device=device, batch=sizes.batch, config=sizes.config).step(f"floor {name}"), device, 5)
        for name in ("fp32", "bf16")
    }
    settings: dict[str, dict[str, Any]] = {name: {"precision": precision} for name, precision in PRECISIONS.items()}
    settings |= {"bf16, clipped": {"clip_gradient": CLIP}, "bf16, chunks of half": {"chunk": sizes.batch // 2}}
    if device == "cuda":
        settings["bf16, compiled"] = {"compile": "default"}
    for number, (name, training) in enumerate(settings.items()):
        try:
            made = job(data, folder / f"loop{number}", sizes, device, **training)
            peak(device)
            seconds = looped(made, sizes.steps, device)
        except Exception as error:
            print(f"{name} failed: {type(error).__name__}: {str(error)[:300]}", flush=True)
            continue
        pairs = sizes.batch / seconds
        row = {"setting": name, "s a step": seconds, "pairs/s": pairs, "peak GB": peak(device)}
        row["time over floor"] = seconds / floors["fp32" if name == "fp32" else "bf16"]
        yield row | {"published run, minutes": PUBLISHED_PAIRS * PUBLISHED_EPOCHS / pairs / 60}


def peak(device: str) -> float:
    """GB of the allocator at its most since the last call."""
    if device != "cuda":
        return 0.0
    found = torch.cuda.max_memory_allocated() / 1e9
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return found


def large(device: str, sizes: Sizes, data: Corpus, folder: Path) -> list[Row]:
    """A contrastive batch of thousands, in chunks."""
    made = job(data, folder / "large", sizes, device, batch_size=sizes.large, chunk=sizes.chunk, epochs=4)
    peak(device)
    seconds = looped(made, 4, device)
    row = {"batch": sizes.large, "chunk": sizes.chunk, "s a step": seconds, "pairs/s": sizes.large / seconds}
    return [row | {"peak GB": peak(device)}]


def views(device: str, sizes: Sizes) -> list[Row]:
    images = torch.randint(0, 256, (sizes.batch, *[sizes.config.prepared_size] * 2), dtype=torch.uint8).to(device)
    draw = draw_views(sizes.batch, AugmentConfig(), sizes.config, torch.Generator().manual_seed(0))
    draw = draw._replace(homography=draw.homography.to(device), autocontrast=draw.autocontrast.to(device))
    seconds = best(lambda: warp(images, draw, sizes.config), device)
    return [{"views": "one warp a batch", "views/s": sizes.batch / seconds, "ms a step": 2e3 * seconds}]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="+", default=FIRST, help=f"{', '.join((*FIRST, *MORE))}, or more")
    parser.add_argument("--seconds", type=float, default=230, help="after which nothing new is measured")
    arguments = parser.parse_args()
    device, sizes = arguments.device, QUICK if arguments.quick else FULL
    started, tables = time.perf_counter(), Tables()
    with TemporaryDirectory() as name:
        folder = Path(name)
        data = write_folder(folder / "data", sizes)
        small = {"batch": sizes.batch, "count": max(3, sizes.steps // 3)}
        parts: dict[str, Callable[[], Iterable[Row]]] = {
            "loop": lambda: loops(device, sizes, data, folder),
            "ranks": lambda: ranks(device, batch=sizes.batch),
            "combinations": lambda: cross(device, folder, **small, compiled=False),
            "compiled": lambda: cross(device, folder, **small, compiled=True),
            "ceilings": lambda: ceilings(device, sizes),
            "waits": lambda: waiting(device, sizes, data, folder, tables),
            "large": lambda: large(device, sizes, data, folder),
            "views": lambda: views(device, sizes),
            "steps": lambda: steps(device, sizes),
        }
        for part in MORE if arguments.parts == ["more"] else arguments.parts:
            try:
                for row in parts[part]():
                    tables.setdefault(part, []).append(row)
                    keep(arguments, tables)
                    passed = time.perf_counter() - started
                    print(f"{passed:4.0f} s  {part}: {', '.join(map(shown, row.values()))}", flush=True)
                    if passed > arguments.seconds:
                        break
            except Exception:
                traceback.print_exc()
    for title, rows in tables.items():
        print(f"\n{title}\n{aligned(rows)}", flush=True)


def keep(arguments: Namespace, tables: Tables) -> None:
    if arguments.quick and arguments.out == RESULTS:
        return
    path = arguments.out / "gpu.json"
    arguments.out.mkdir(parents=True, exist_ok=True)
    before = json.loads(path.read_text(encoding="utf-8"))["tables"] if path.is_file() else {}
    path.write_text(json.dumps({"machine": machine(), "tables": before | tables}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
