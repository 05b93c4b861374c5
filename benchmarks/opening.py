"""What opening a corpus costs: seconds, CPU seconds and peak memory, for a synthetic folder of format 2.

    python benchmarks/opening.py

The images have 16 px and lie in sparse files. Each row is a process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from measuring import Row, finish, options

SHARD, SIZE, CLASSES = 1024, 16, 14
STRINGS = (
    "image_id",
    "patient",
    "study",
    "split",
    "projection",
    "findings",
    "impression",
    "language",
    "sex",
    "scanner",
)
BOX = pa.struct(
    [
        ("label", pa.string()),
        *((name, pa.float64()) for name in ("x", "y", "width", "height")),
        *((name, pa.string()) for name in ("phrase", "reader")),
    ]
)
SENTENCE = "The heart is normal in size. The lungs are clear without focal consolidation. "

MEASURE = """
import json, resource, sys, time
from measuring import resident
from pathlib import Path
import numpy as np
from imitate.data.corpus import Corpus
def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), usage.ru_utime + usage.ru_stime, 1e9 * resident()
before = used()
data = Corpus.open(Path(sys.argv[1]))
after = used()
images = data.images[:: max(1, len(data) // 2000)]
texts = data.text("findings", np.arange(128))
print(json.dumps({
    "rows": len(data), "s": after[0] - before[0], "CPU s": after[1] - before[1], "target": "< 2 CPU s, < 1,000 MB",
    "MB before": before[2] / 1e6, "MB at most": after[2] / 1e6, "MB after reading from every shard": used()[2] / 1e6,
}))
"""


def write(root: Path, rows: int) -> None:
    """Ids as long as UIDs' digests, reports of a few sentences."""
    (root / "shards").mkdir(parents=True)
    shards = []
    for start in range(0, rows, SHARD):
        count, name = min(SHARD, rows - start), f"{start // SHARD:05d}"
        np.lib.format.open_memmap(root / "shards" / f"{name}.npy", "w+", np.uint8, (count, SIZE, SIZE))
        pq.write_table(_table(start, count), root / "shards" / f"{name}.parquet")
        shards.append({"name": name, "rows": count, "sha256": {}, "bytes": 0})
    settings = {"source": "table", "size": SIZE, "resize": "stretch", "mode": "clean"}
    settings["classes"] = [f"class {i}" for i in range(CLASSES)]
    index = {"format": 2, "settings": settings, "traits": {}, "tone": "unknown", "shards": shards, "images": rows}
    (root / "index.json").write_text(json.dumps({**index, "fingerprint": "opening"}))


def _table(start: int, count: int) -> pa.Table:
    numbers = range(start, start + count)
    columns: dict[str, object] = {
        "image_id": [f"{number:08d}-{number * 2654435761 % 2**64:016x}" for number in numbers],
        "patient": [f"p{number // 4:08d}" for number in numbers],
        "study": [f"s{number // 2:08d}" for number in numbers],
        "split": [{48: "val", 49: "test"}.get(number % 50, "train") for number in numbers],
        "projection": [("PA", "AP", "LATERAL")[number % 3] for number in numbers],
        "findings": [f"{SENTENCE * 4}Study {number}." for number in numbers],
        "impression": [f"No acute disease in {number}." for number in numbers],
        "language": ["en"] * count,
        "sex": ["F", "M"] * (count // 2) + ["F"] * (count % 2),
        "scanner": [""] * count,
    }
    table = pa.table({name: pa.array(columns[name], pa.string()) for name in STRINGS})
    more = {
        "labels": pa.array([[0.0] * CLASSES] * count, pa.list_(pa.float32())),
        "boxes": pa.array([[]] * count, pa.list_(BOX)),
        "annotated": pa.nulls(count, pa.bool_()),
        "age": pa.array([float(number % 90) for number in numbers]),
        "extra": pa.array([[]] * count, pa.map_(pa.string(), pa.string())),
        "has_findings": pa.array([True] * count),
        "has_impression": pa.array([True] * count),
    }
    for name, values in more.items():
        table = table.append_column(name, values)
    return table


def run(command: list[str]) -> Row:
    path = os.pathsep.join(each for each in (str(Path(__file__).parent), os.environ.get("PYTHONPATH")) if each)
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    row: Row = json.loads(done.stdout)
    return row


def main() -> None:
    arguments = options(__doc__).parse_args()
    rows = 10_000 if arguments.quick else 1_000_000
    with TemporaryDirectory() as scratch:
        write(Path(scratch) / "data", rows)
        command = [sys.executable, "-c", MEASURE, str(Path(scratch) / "data")]
        ran = [run(command) for _ in range(3)]
    finish(arguments, "opening", {"opening": ran})


if __name__ == "__main__":
    main()
