"""What the benchmarks share: fair timing, peak memory, the machine, the results file that ``pages.py`` reads.

A results file holds named tables, each a list of rows with the same columns. Every benchmark takes ``--out FOLDER`` for
it and ``--quick``, which shrinks everything to seconds: to see that it runs, not to be quoted.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Tables = dict[str, list[Row]]
RESULTS = Path(__file__).parents[1] / "docs" / "results"


def options(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results file")
    parser.add_argument("--quick", action="store_true", help="small enough for seconds; writes nothing unless --out")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # a part that needs a process of its own
    return parser


def alternate(steps: Mapping[str, Callable[[], Any]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each step, every one in turn in every round, after one round that does not count.

    Every other round runs backwards: a step finds the caches and the heap as the one before it has left them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in list(steps.items())[:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            step()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def timed(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """The median over rounds of each round's own ratio: a slow spell of the machine is in both."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def alone(file: str, part: str, *more: str) -> Row:
    """What ``python file --only part`` prints last, as JSON, in a process of its own."""
    run = subprocess.run([sys.executable, file, "--only", part, *more], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{part}: {run.stderr.strip().splitlines()[-1:]}")
    row: Row = json.loads(run.stdout.strip().splitlines()[-1])
    return row


def environment(*without: str) -> dict[str, str]:
    """For processes whose start counts: with PYTHONDONTWRITEBYTECODE, each of them would compile torch anew."""
    dropped = {"PYTHONDONTWRITEBYTECODE", *without}
    return {key: value for key, value in os.environ.items() if key not in dropped}


def resident(peak: bool = True) -> float:
    """GB of this process, at its peak or now. Linux's own mark, since ru_maxrss of a child starts from its parent's."""
    status = Path("/proc/self/status")
    if status.is_file():
        mark = "VmHWM" if peak else "VmRSS"
        (line,) = (line for line in status.read_text().splitlines() if line.startswith(mark))
        return int(line.split()[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def from_now() -> float:
    """GB of this process now, which also becomes the peak so far, where the system allows it (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return resident(peak=False)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bfloat16_unit() -> str:
    """The CPU's instructions for bf16 products: amx, avx512 or none."""
    cpu = Path("/proc/cpuinfo")
    flags = cpu.read_text() if cpu.is_file() else ""
    return "amx" if "amx_bf16" in flags else "avx512" if "avx512_bf16" in flags else "none"


def machine() -> Row:
    import torch  # here, so that what is measured of a child does not start from the memory of a large parent

    cpu = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
    row: Row = {"cpu": names[0] if names else platform.machine(), "cores": cores(), "bf16 unit": bfloat16_unit()}
    row |= {"threads": torch.get_num_threads(), "torch": torch.__version__, "python": platform.python_version()}
    row |= {"load before": round(LOAD, 1), "date": time.strftime("%Y-%m-%d")}
    if torch.cuda.is_available():
        row["gpu"] = torch.cuda.get_device_name()
    return row


def finish(arguments: argparse.Namespace, name: str, tables: Tables) -> None:
    """Print the tables and write them; a quick run is not kept among the results."""
    for title, rows in tables.items():
        print(f"\n{title}")
        print(aligned(rows))
    if arguments.quick and arguments.out == RESULTS:
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine(), "tables": tables}, indent=1)
    (arguments.out / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def aligned(rows: Sequence[Row]) -> str:
    cells = [list(rows[0])] + [[shown(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def shown(value: Any) -> str:
    """Three significant digits; whole numbers whole."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    if value == 0 or abs(value) < 1e-3:
        return f"{value:.1e}" if value else "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


LOAD = os.getloadavg()[0]
