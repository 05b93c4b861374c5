"""The example package is installed as a user would install it, and its source, objective and task work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imitate.synthetic.cases import draw_case
from imitate.synthetic.phantom import render

EXAMPLE = Path(__file__).parents[1] / "examples" / "imitate-extras"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed package, entry points included."""
    folder = tmp_path_factory.mktemp("site")
    flags = ("--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    subprocess.run([sys.executable, "-m", "pip", "install", *flags, "--target", folder, EXAMPLE], check=True)
    return folder


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ninety 16-bit images in the layout of a clinic."""
    folder = tmp_path_factory.mktemp("clinic")
    lines = ["ImageID,ImageDir,StudyID,PatientID,Projection,MethodLabel,Report,Labels"]
    for index in range(90):
        case, name = draw_case(3, index), f"{index:05d}.png"
        (folder / str(index % 3)).mkdir(exist_ok=True)
        pixels = render(case, 96).image.astype(np.uint16) * 257
        Image.fromarray(pixels).save(folder / str(index % 3) / name)
        found = [finding.name.lower() for finding in case.findings] or ["normal"]
        projection = "L" if case.view == "LATERAL" else case.view
        words = " ".join(found)
        labels = "[" + ", ".join(f"'{each}'" for each in found) + "]"
        lines.append(
            f'{name},{index % 3},s{case.patient}-{case.study},p{case.patient},{projection},Physician,{words} torax,"{labels}"'
        )
    (folder / "exams_2026.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def imitate(installed: Path, *words: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "imitate", *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_source_an_objective_and_a_task_of_another_package(installed: Path, raw: Path, tmp_path: Path) -> None:
    data, run, results = tmp_path / "data", tmp_path / "run", tmp_path / "knn.json"
    assert "--physicians-only" in imitate(installed, "prepare", "clinic", "--help")
    assert "clinic" in imitate(installed, "doctor", raw)
    imitate(installed, "prepare", "clinic", "--raw", raw, "--out", data, "--size", 72)
    index = json.loads((data / "index.json").read_text())
    assert index["settings"]["source"] == "clinic" and index["images"] == 90
    short = (
        "--objective.name",
        "siglip",
        "--training.epochs",
        1,
        "--training.batch-size",
        8,
        "--training.log-every",
        1,
    )
    imitate(installed, "pretrain", "recipes/tiny.yaml", "--data", data, "--out", run, *short)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all("pairs" in line for line in lines if "loss" in line) and any("loss" in line for line in lines)
    imitate(
        installed,
        "evaluate",
        "knn",
        "--model",
        run,
        "--data",
        data,
        "--out",
        results,
        "--neighbours",
        5,
        "--resamples",
        20,
    )
    found = json.loads(results.read_text())
    assert found["task"] == "knn" and found["settings"]["neighbours"] == 5 and "auroc" in found["metrics"]
    assert "Nearest neighbours on data" in imitate_report(installed, results, tmp_path / "report.md")


def imitate_report(installed: Path, results: Path, out: Path) -> str:
    imitate(installed, "report", results, "--out", out)
    return out.read_text(encoding="utf-8")


def test_what_is_not_there_is_listed(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "imitate", "prepare", "clini", "--raw", "x", "--out", str(tmp_path / "o")],
        env={**os.environ, "PYTHONPATH": str(installed)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "clinic" in done.stderr and "\n" not in done.stderr.strip()
