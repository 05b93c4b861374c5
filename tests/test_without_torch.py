"""The package without its extras: what it imports where PyTorch is installed, and what it does where it is not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from folders import write_folder
from needs import absent
from PIL import Image
from processes import SERVING
from runs import write_run
from uploads import picture

from imitate.cli import main
from imitate.inference.predictor import load

ROOT = Path(__file__).parents[1]
LACKING = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "lightning_fabric",
    "segmentation_models_pytorch",
    "matplotlib",
)
HOOK = f"""
import sys
class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {LACKING}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Lacking())
"""
RUNS = """
import json
from imitate.cli import main
import imitate
for words in json.loads(sys.argv[1]):
    print(json.dumps(words[:2]), main(words), file=sys.stderr)
imitate.load(sys.argv[2]).classify([sys.argv[3]])
assert not set(sys.modules) & set(json.loads(sys.argv[4]))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, its folder in ONNX and an image."""
    root = tmp_path_factory.mktemp("bare")
    run = write_run(root, data=write_folder(root / "data"))
    Image.fromarray(picture()).save(root / "film.png")
    assert main(["export", "--model", str(run), "--to", str(root / "onnx"), "--format", "onnx"]) == 0
    return root


def commands(root: Path) -> list[list[str]]:
    """All that needs no torch; each ends with 0."""
    model = ["--model", str(root / "onnx"), "--backend", "onnx"]
    film = ["--images", str(root / "film.png")]
    return [
        ["--help"],
        ["recipes"],
        ["doctor"],
        ["predict", "classify", *model, *film, "--out", "classes.json"],
        ["predict", "embed", *model, *film, "--out", "vectors.npy"],
        ["predict", "embed", *model, "--images", str(root), "--out", "parts", "--workers", "1"],
        ["predict", "retrieve", *model, "--text", "effusion", "--index", str(root / "data"), "--out", "nearest.json"],
        ["serve", *model, "--index", str(root / "data"), "--port", "0"],
        ["prepare", "synthetic", "--n", "8", "--out", "prepared", "--size", "36", "--workers", "1"],
        ["doctor", "prepared"],
    ]


def check_results(root: Path, folder: Path) -> None:
    expected = load(root / "run")
    classes, vectors = expected.classify([root / "film.png"]), expected.embed_images(root / "film.png")
    (found,) = json.loads((folder / "classes.json").read_text())
    assert {*classes} <= found.keys() and all(abs(found[name] - classes[name].iloc[0]) < 1e-4 for name in classes)
    assert np.abs(np.load(folder / "vectors.npy") - vectors).max() < 1e-4
    assert len(json.loads((folder / "nearest.json").read_text())) == 5
    assert (folder / "parts" / "part-00000.parquet").is_file() and (folder / "prepared" / "index.json").is_file()


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def test_nothing_of_these_imports_torch_where_it_is_installed(root, tmp_path):
    need_torch = [
        ["evaluate", "zero-shot", "--model", str(root / "run"), "--data", str(root / "data"), "--out", "r.json"],
        ["predict", "embed", "--model", str(root / "run"), "--images", str(root / "film.png"), "--out", "v.npy"],
        ["report", str(root / "run"), "--out", "report.html"],
    ]
    words = [*commands(root), *need_torch]
    given = [json.dumps(words), str(root / "onnx"), str(root / "film.png"), json.dumps(LACKING)]
    ran = subprocess.run(
        [sys.executable, "-c", HOOK + SERVING + RUNS, *given],
        cwd=tmp_path, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "listening" in ran.stdout
    codes = [line for line in ran.stderr.splitlines() if line.startswith('["')]
    expected = [f"{json.dumps(each[:2])} {0 if each in commands(root) else 2}" for each in words]
    assert codes == expected, ran.stderr
    lines = [line for line in ran.stderr.splitlines() if "imitate-cxr[train]" in line]
    assert lines[0] == 'imitate evaluate: this needs torch: pip install "imitate-cxr[train]"'
    assert lines[1].startswith(
        'imitate predict: this needs torch: pip install "imitate-cxr[train]", or give a folder of'
    )
    assert lines[2].startswith("imitate report: this needs matplotlib")
    check_results(root, tmp_path)


@pytest.mark.slow
def test_a_new_environment_without_torch_predicts_and_serves(root, tmp_path):
    """What ``pip install imitate-cxr`` gets, from an index or from uv's cache."""
    python = installed(tmp_path / "environment")
    listed = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True)
    assert "No module named 'torch'" in listed.stderr
    folder = tmp_path / "work"
    folder.mkdir()
    given = [json.dumps(commands(root)), str(root / "onnx"), str(root / "film.png"), json.dumps(LACKING)]
    ran = subprocess.run(
        [python, "-c", f"import sys{SERVING}{RUNS}", *given],
        cwd=folder, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "listening" in ran.stdout and "only ONNX folders can be used" in ran.stdout
    assert [line.rpartition(" ")[2] for line in ran.stderr.splitlines() if line.startswith('["')] == ["0"] * len(
        commands(root)
    )
    check_results(root, folder)


def installed(folder: Path) -> Path:
    """The Python of a new environment with the wheel of this checkout; in CI it must be possible to make one."""
    uv = Path(sys.executable).with_name("uv")
    if not uv.is_file():
        absent("uv is not installed beside Python")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder.parent], cwd=ROOT, check=True
    )
    (wheel,) = folder.parent.glob("*.whl")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    command = [uv, "pip", "install", "--quiet", "--python", python, "--constraint", ROOT / "constraints.txt", wheel]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        absent(f"the packages cannot be installed ({(ran.stderr.strip().splitlines() or ['?'])[-1]})")
    return python
