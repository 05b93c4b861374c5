"""The benchmark's own arithmetic, on maps whose figures are known, and the tables of docs/heatmaps.md."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from folders import edit_rows, write_folder
from runs import write_run

from imitate.data.corpus import Corpus
from imitate.statistics.metrics import auroc

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "docs/results/pointing").glob("*.json"))
spec = importlib.util.spec_from_file_location("pointing", ROOT / "benchmarks" / "pointing.py")
pointing = sys.modules["pointing"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pointing)


def test_scores_are_hits_and_aurocs_and_ties_are_shared():
    inside = np.zeros((3, 4, 4), bool)
    inside[:, 1:3, :2] = True
    maps = np.random.default_rng(0).normal(size=(3, 4, 4))
    maps[0, 1, 1], maps[1, 0, 3], maps[2] = 9, 9, 0
    scores = pointing.score(maps, inside)
    assert scores["pointing"].tolist() == [1, 0, 0.25] and scores["auroc"][2] == 0.5
    expected = [auroc(each.ravel(), seen.ravel())[0] for each, seen in zip(inside, maps, strict=True)]
    assert np.allclose(scores["auroc"], expected)


def test_pairs_are_of_the_frontal_images_and_the_part_of_a_box_in_view(tmp_path):
    boxes = [[] for _ in range(6)]
    boxes[0] = [("Edema", 2, 4, 3, 2), ("Edema", 30, 30, 9, 9), ("Mass", 0, 0, 1.5, 20)]  # the mass is out of view
    boxes[1] = [("Edema", 10, 10, 5, 5)]
    boxes[2] = [("Hernia", 10, 10, 5, 5)]
    data = folder(tmp_path, boxes, views=["PA", "LATERAL", *["AP"] * 4])
    pairs = pointing.find_pairs(data, np.arange(6), ["Edema", "Mass"], 32)
    assert pairs.rows.tolist() == [0] and pairs.labels.tolist() == ["Edema"]
    expected = np.zeros((32, 32), bool)
    expected[2:4, 0:3] = expected[28:, 28:] = True
    assert np.array_equal(pairs.inside[0], expected)


def folder(tmp_path: Path, boxes: list, views: list[str]) -> Corpus:
    root = write_folder(tmp_path / "data", n=len(boxes), classes=["Edema", "Mass"])
    keys = ("label", "x", "y", "width", "height")
    described = [[dict(zip(keys, box, strict=True)) for box in each] for each in boxes]
    edit_rows(root, boxes=described, projection=views)
    return Corpus.open(root)


def test_the_boxes_of_other_patients_are_those_of_the_class_where_there_are_any():
    inside = np.zeros((4, 8, 8), bool)
    inside[0, 0], inside[1, 1], inside[2, 2], inside[3, 0] = True, True, True, True
    pairs = pointing.Pairs(np.arange(4), np.array(["A", "A", "B", "A"]), np.array(["p", "q", "r", "p"]), inside)
    assert pointing.others(pairs).astype(int).tolist() == [[0, 1, 0, 0], [1, 0, 0, 1], [1, 1, 0, 1], [0, 1, 0, 0]]
    levels = pointing.baselines(pairs)
    assert levels["chance"]["pointing"].tolist() == [1 / 8] * 4
    assert levels["boxes of other images"]["pointing"].tolist() == [0, 0, 0, 0]


def test_a_run_is_measured_with_every_map_and_control(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    boxes = [[("Left" if i % 2 else "Right", *generator.integers(4, 20, 2), 8, 8)] for i in range(20)]
    data = folder(tmp_path, boxes, views=["PA"] * 20)
    prompts = {
        "Left": {"positive": ["left"], "negative": ["right"]},
        "Right": {"positive": ["right"], "negative": ["left"]},
    }
    monkeypatch.setattr(pointing, "class_prompts", lambda data, path: prompts)
    results = pointing.measure([write_run(tmp_path, data=data.root)], data, None)
    assert results["pairs"] == 20 and results["patients"] == 10 and results["classes"]["Left"]["pairs"] == 10
    figures = results["figures"]
    assert figures["chance//pointing"]["value"] == pytest.approx(64 / 1024)
    for name in (
        "HiResCAM C3+C4/findings",
        "HiResCAM C3+C4/impression",
        "similarity map C4/impression",
        "occlusion/findings",
    ):
        for figure in ("pointing", "auroc", "auroc over another image", "pointing over another text"):
            assert figures[f"{name}/{figure}"]["low"] <= figures[f"{name}/{figure}"]["high"]
    assert re.search(r"\| untrained HiResCAM C3\+C4 +\| findings +\|", pointing.table(results))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_docs_quote_the_results_files(path):
    results, text = json.loads(path.read_text()), (ROOT / "docs/heatmaps.md").read_text()
    assert pointing.table(results) in text
    assert f"{results['pairs']} pairs in {results['images']} images of {results['patients']} patients" in text
