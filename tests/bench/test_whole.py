"""Six families of published encoders with random weights and two runs, over four tasks, killed on the way (SIGKILL)."""

import csv
from pathlib import Path

import pytest
import yaml
from processes import Command, until
from runs import write_run
from tiny_peers import write_chexzero, write_clip, write_dinov2, write_mgca, write_mrm, write_xrv

from imitate.commands.bench import bench
from imitate.commands.prepare import prepare
from imitate.models.imitate import Imitate

TASKS = ("retrieval", "zero-shot", "linear-classification", "segmentation")
SETTINGS = ("segmentation.epochs=1", "segmentation.width=16", "segmentation.batch_size=4", "split=val")
TEXT = {"ours", "CheXzero", "MGCA", "clip"}
IMAGES = {"DINOv2", "MRM", "XRV"}


@pytest.mark.slow
def test_a_killed_bench_continues_to_a_whole_table(tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare("synthetic", n=40, seed=1, original_size=64, out=data, size=36)
    for seed in (0, 1):
        run = write_run(tmp_path / str(seed), data=data)
        (tmp_path / "runs" / "ours").mkdir(parents=True, exist_ok=True)
        recipe = yaml.safe_load((run / "config.yaml").read_text())
        recipe["training"]["seed"] = seed
        (run / "config.yaml").write_text(yaml.safe_dump(recipe))
        model = Imitate.from_pretrained(run / "model")
        for weights in model.parameters():
            weights.data += 0.1 * seed * weights.data.roll(1)
        model.save(run / "model")
        run.rename(tmp_path / "runs" / "ours" / str(seed))
    peers = {"CheXzero": write_chexzero, "MGCA": write_mgca, "DINOv2": write_dinov2, "MRM": write_mrm, "XRV": write_xrv}
    models = [str(tmp_path / "runs"), *(f"{name}={write(tmp_path / name)}" for name, write in peers.items())]
    models.append(str(write_clip(tmp_path / "clip")))
    out, results = tmp_path / "out", tmp_path / "out" / "results"
    options = ("--tasks", *TASKS, "--settings", *SETTINGS, "--resamples", "20", "--device", "cpu")
    stopped = Command("bench", *models, "--data", data, "--out", out, *options, fork=True)
    until(lambda: len(list(results.glob("*.state"))) > 5, alive=lambda: stopped.code is None, what="five cells")
    stopped.kill()
    assert stopped.end()[0] != 0 and not (out / "bench.html").exists()
    before = {path: path.stat().st_mtime_ns for path in results.glob("*.state")}
    assert 5 < len(before) < 28

    page = bench(models, data=data, tasks=TASKS, settings=SETTINGS, resamples=20, device="cpu", out=out)
    assert all(path.stat().st_mtime_ns == date for path, date in before.items()), "what was done is not done again"
    with (out / "results.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    measured = {task: {line["model"] for line in lines if line["task"] == task} for task in TASKS}
    assert measured["retrieval"] == measured["zero-shot"] == TEXT
    assert measured["linear-classification"] == measured["segmentation"] == TEXT | IMAGES
    ours = next(line for line in lines if line["model"] == "ours" and line["metric"] == "auroc")
    value = (float(ours["seed 0"]) + float(ours["seed 1"])) / 2
    assert float(ours["value"]) == pytest.approx(value) and ours["seed 0"] != ours["seed 1"]
    text = page.read_text(encoding="utf-8")
    assert f"<td>{100 * value:.1f}" in text and "reference, 2 seeds" in text and "Failed" not in text
    assert "retrieval compares images with text, but DINOv2" in text and "has no text encoder" in text
