"""How a step grows with batch, image and chunk, each in a process of its own.

python benchmarks/growth.py
"""

import json

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
    finish(arguments, "growth", tables)


if __name__ == "__main__":
    main()
