"""What an installation takes on the disk and at each start: the bare package with ONNX, and [train] with PyTorch.

    python benchmarks/install.py

The wheel of this checkout is installed into two new environments, with the versions of constraints.txt. Times are the
smallest of four starts of a process of its own; the first of them may compile the modules. A ResNet-50 at 224 px with
random weights classifies one image by one phrase.
"""

import os
import re
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from measuring import Row, environment, finish, options

ROOT = Path(__file__).parents[1]
EXTRAS = {"bare": "", "[train]": "[train]"}
RUNS = 4
MAKE = """
import sys
from pathlib import Path
from bulk import write_model
from data import write_files
from imitate.cli import main
folder, backbone, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
run = write_model(folder / "run", backbone, size)
(folder / "images").mkdir()
write_files(folder / "images", ".jpg", n=1, shape=(1024, 1024))
sys.exit(main(["export", "--model", run, "--format", "onnx", "--to", str(folder / "onnx")]))
"""  # in a process of its own, since the memory of a child is at least that of its parent


def main() -> None:
    arguments = options(__doc__).parse_args()
    with TemporaryDirectory() as folder:
        scratch = Path(folder)
        backbone, size = ("resnet18", 56) if arguments.quick else ("resnet50", 224)
        subprocess.run([sys.executable, "-c", MAKE, folder, backbone, str(size)], cwd=Path(__file__).parent, check=True)
        run, onnx, image = str(scratch / "run"), str(scratch / "onnx"), scratch / "images" / "0.jpg"
        wheel = build(scratch)
        sizes, starts = [], []
        for name in ("bare",) if arguments.quick else EXTRAS:
            python = install(scratch / name.strip("[]"), f"{wheel}{EXTRAS[name]}")
            sizes.append({"installation": name, **size_of(python)})
            models = {"ONNX": onnx} if name == "bare" else {"PyTorch": run, "ONNX": onnx}
            starts += [row for kind, model in models.items() for row in started(python, name, kind, model, image)]
        finish(arguments, "install", {"sizes": sizes, "starts": starts})


def build(out: Path) -> Path:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out], cwd=ROOT, check=True)
    (wheel,) = out.glob("*.whl")
    return wheel


def install(folder: Path, what: str) -> Path:
    """The Python of a new environment that has it."""
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    python = folder / "bin" / "python"
    limits = str(ROOT / "constraints.txt")
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "--constraint", limits, what], check=True)
    return python


def size_of(python: Path) -> Row:
    """Of what lies in site-packages, without compiled modules."""
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    files = [path for path in packages.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {
        "packages": len(list(packages.glob("*.dist-info"))),
        "MB": round(sum(path.stat().st_size for path in files) / 1e6),
    }


def started(python: Path, installation: str, kind: str, model: str, image: Path) -> list[Row]:
    """Seconds and memory of each way to start."""
    command = [str(python), "-m", "imitate"]
    asked = ["--model", model, "--images", str(image), "--prompts", "Effusion=pleural effusion", "--device", "cpu"]
    ways: dict[str, Callable[[], Row]] = {
        "import imitate": lambda: ended([str(python), "-c", "import imitate"]),
        "imitate.load": lambda: ended([str(python), "-c", f"import imitate; imitate.load({model!r}, device='cpu')"]),
        "predict, one image": lambda: ended([*command, "predict", "classify", *asked]),
        "serve, until it answers": lambda: serving([*command, "serve", "--model", model, "--port", "0"]),
    }
    rows = []
    for name, way in ways.items():
        best = min((way() for _ in range(RUNS)), key=lambda each: each["s"])
        rows.append({"start": name, "installation": installation, "model": kind, **best})
    return rows


def ended(command: list[str]) -> Row:
    """A process until its end."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment("PYTHONPATH")
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return row(start, time.perf_counter(), used)


def serving(command: list[str]) -> Row:
    """A server until its page responds; its memory is that of then."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment("PYTHONPATH"))
    assert process.stderr
    found = next(filter(None, (re.search(r"http://[\w.:]+/", line) for line in process.stderr)))
    while True:
        try:
            with urllib.request.urlopen(found[0]) as response:
                assert response.status == 200
            break
        except OSError:  # it listens, and does not respond yet
            time.sleep(0.01)
    end = time.perf_counter()
    process.terminate()
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0
    process.stderr.close()
    return row(start, end, used)


def row(start: float, end: float, used: resource.struct_rusage) -> Row:
    return {"s": end - start, "CPU s": used.ru_utime + used.ru_stime, "MB at most": used.ru_maxrss / 1024}


if __name__ == "__main__":
    main()
