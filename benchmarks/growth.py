"""How a step grows with batch, image and chunk, each in a process of its own; and how long commands take to start.

python benchmarks/growth.py
"""

import json
import os
import subprocess
import sys
from statistics import median
from tempfile import TemporaryDirectory

from imitate.config import ImitateConfig
from measuring import Row, alone, bfloat16_unit, finish, options, resident, timed
from step import Bench

PRECISION = "fp32" if bfloat16_unit() == "none" else "bf16"


def step(spec: str) -> Row:
    """``backbone,batch,image size,chunk``; chunk 0 is none."""
    backbone, batch, size, chunk = spec.split(",")
    config = ImitateConfig(backbone=backbone, image_size=int(size), prepared_size=int(size) * 8 // 7)
    before = resident(peak=False)
    run = Bench(device="cpu", batch=int(batch), config=config, chunk=int(chunk) or None).step(f"ours {PRECISION}")
    run()
    seconds = min(timed(run) for _ in range(2))
    row = {"batch": int(batch), "image px": int(size), "chunk": int(chunk) or "none", "s a step": seconds}
    return row | {"ms a sample": 1e3 * seconds / int(batch), "GB of the step": resident() - before}


def starting(commands: list[str], cache: str, *, rounds: int) -> list[Row]:
    """Seconds from the shell to the end of a help text, at any start but the first, which compiles the modules."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    rows = []
    for command in commands:
        arguments = [sys.executable, "-m", "imitate", *command.split()]

        def run(arguments: list[str] = arguments) -> None:
            subprocess.run(arguments, check=True, capture_output=True, env=environment | {"PYTHONPYCACHEPREFIX": cache})

        run()
        row = {"command": f"imitate {command}", "s": median(timed(run) for _ in range(rounds))}
        rows.append(row | {"target": "< 0.5 s" if command == "--help" else ""})
    return rows


def main() -> None:
    arguments = options(__doc__).parse_args()
    if arguments.only:
        print(json.dumps(step(arguments.only)))
        return
    backbone, batches, sizes, chunks = "resnet50", [4, 8, 16, 32], [112, 160, 224, 320], [0, 16, 8, 4]
    if arguments.quick:
        backbone, batches, sizes, chunks = "resnet18", [2, 4], [56, 112], [0, 1]
    specs = {
        "batch": [f"{backbone},{batch},{sizes[-2]},0" for batch in batches],
        "image": [f"{backbone},{batches[1]},{size},0" for size in sizes],
        "chunk": [f"{backbone},{batches[-1]},{sizes[-2]},{chunk}" for chunk in chunks],
    }
    tables = {name: [alone(__file__, spec) for spec in each] for name, each in specs.items()}
    commands = ["--help", "prepare --help", "pretrain --help", "evaluate --help", "predict --help", "report --help"]
    commands = commands[:1] if arguments.quick else commands
    with TemporaryDirectory() as cache:
        tables["start"] = starting(commands, cache, rounds=1 if arguments.quick else 5)
    finish(arguments, "growth", tables)


if __name__ == "__main__":
    main()
