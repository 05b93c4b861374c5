import base64
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from imitate.report import canvas, figures
from imitate.report.figures import Point, Scored

NAMES = ["IMITATE", "$x_^ & <b>", "_hidden"]
LOOK = figures.styles(NAMES)
IMAGE = np.full((36, 36), 90, dtype=np.uint8)


def decoded(uri: str, media: str) -> bytes:
    head, _, data = uri.partition(",")
    assert head == f"data:{media};base64"
    return base64.b64decode(data)


def texts(uri: str) -> list[str]:
    root = ElementTree.fromstring(decoded(uri, "image/svg+xml"))
    return ["".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")]


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(decoded(uri, "image/png"))).convert("RGB")).astype(int)


def runs(seeds: int = 2) -> dict[str, list[Scored]]:
    generator = np.random.default_rng(0)
    target = generator.integers(0, 2, 60).astype(float)
    return {name: [Scored(target, 0.4 * target + generator.random(60) / 2) for _ in range(seeds)] for name in NAMES}


POINTS = {name: Point(50.0 + i, 40.0, 60.0) for i, name in enumerate(NAMES)}
DRAWINGS = {
    "roc": lambda: figures.roc(runs(), LOOK),
    "precision-recall": lambda: figures.precision_recall(runs(), LOOK),
    "reliability": lambda: figures.reliability(runs(), LOOK),
    "efficiency": lambda: figures.efficiency({name: {0.01: Point(40.0, 35.0, 44.0), 1.0: Point(60.0, 50.0, 70.0)} for name in NAMES}, LOOK, metric="AUROC, %", chance=50.0),
    "forest": lambda: figures.forest({"AUROC": POINTS, "$AUROC_$": POINTS}, LOOK, chance={"AUROC": 50.0}),
    "bars": lambda: figures.bars({"R@1": POINTS}, LOOK, axis="image → text", chance={"R@1": 2.0}, shuffled={"R@1": {"IMITATE": 3.0}}),
}  # fmt: skip


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_every_method_is_named_as_it_is_written(drawing: str) -> None:
    assert set(NAMES) <= set(texts(DRAWINGS[drawing]()))


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_the_same_numbers_give_the_same_bytes(drawing: str) -> None:
    assert DRAWINGS[drawing]() == DRAWINGS[drawing]()


def test_the_bytes_depend_on_neither_process_nor_settings() -> None:
    code = (
        "import matplotlib; matplotlib.rcParams['lines.linewidth'] = 9; from imitate.report import figures;"
        "print(figures.forest({'A': {'m': figures.Point(5.0, 4.0, 6.0)}}, figures.styles(['m']), chance={'A': 1.0}))"
    )
    drawn = {
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    here = figures.forest({"A": {"m": Point(5.0, 4.0, 6.0)}}, figures.styles(["m"]), chance={"A": 1.0})
    assert drawn == {here + "\n"}


def test_no_drawing_points_outside() -> None:
    for draw in DRAWINGS.values():
        links = re.findall(r'"https?://[^"]*"', decoded(draw(), "image/svg+xml").decode())
        assert {link for link in links if "www.w3.org" not in link} <= {
            '"http://purl.org/dc/elements/1.1/"',
            '"http://creativecommons.org/ns#"',
            '"http://purl.org/dc/dcmitype/StillImage"',
        }


@pytest.mark.filterwarnings("error")
def test_east_asian_names_are_drawn_without_a_warning_and_change_nothing_else() -> None:
    name = "胸部X線モデル"
    look = figures.styles([name, "IMITATE"])
    points = {name: Point(50.0, 40.0, 60.0), "IMITATE": Point(55.0, 45.0, 65.0)}
    uri = figures.forest({"AUROC": points}, look, chance={})
    svg = decoded(uri, "image/svg+xml").decode()
    assert name in texts(uri)
    fonts = {text: family for family, text in re.findall(r"<text [^>]*font-family: ([^;]*)[^>]*>([^<]*)<", svg)}
    assert all(font in fonts[name] for font in canvas._installed()) and "CJK" not in fonts["IMITATE"]


def test_methods_stay_apart_beyond_the_palette() -> None:
    look = figures.styles([f"m{i}" for i in range(20)])
    assert len(set(look.values())) == 20


def test_a_long_name_keeps_both_its_ends() -> None:
    names = [f"{'run ' * 20}seed {i}" for i in range(2)]
    drawn = texts(
        figures.forest({"AUROC": {name: Point(50.0, 50.0, 50.0) for name in names}}, figures.styles(names), chance={})
    )
    assert len([text for text in drawn if text.startswith("run run") and text.endswith(("seed 0", "seed 1"))]) == 2


def test_contours_lie_on_the_edges_of_the_masks() -> None:
    """A prediction of half the image's resolution, and the truth, each with a left edge to be found."""
    truth, predicted = np.zeros((36, 36), dtype=bool), np.zeros((18, 18), dtype=bool)
    truth[:, 24:], predicted[:, 6:] = True, True
    drawn = pixels(figures.contours(IMAGE, truth, predicted))
    scale = drawn.shape[1] / 36
    middle = drawn[100:200]
    green = np.flatnonzero((middle[..., 1] - middle[..., 0] > 60).mean(0) > 0.9)
    orange = np.flatnonzero((middle[..., 0] - middle[..., 2] > 60).mean(0) > 0.4)
    assert green.min() == pytest.approx(24 * scale, abs=2)
    assert orange.min() == pytest.approx(12 * scale, abs=2)


def test_empty_and_full_masks_draw_without_a_word(recwarn: pytest.WarningsRecorder) -> None:
    figures.contours(IMAGE, np.zeros((36, 36), dtype=bool), np.ones((36, 36), dtype=bool))
    assert not recwarn.list


def test_boxes_are_where_they_are_said_to_be() -> None:
    uri = figures.boxes(IMAGE, np.array([[9.0, 9, 27, 27]]), np.zeros((0, 4)), np.zeros(0))
    changed = np.abs(pixels(uri) - pixels(figures.radiograph(IMAGE))).sum(2) > 60
    rows, columns = np.nonzero(changed)
    scale = changed.shape[0] / 36
    for found in (rows, columns):
        assert found.min() == pytest.approx(9.5 * scale, abs=2)
        assert found.max() == pytest.approx(27.5 * scale, abs=2)


def test_thinning_cannot_be_seen() -> None:
    x = np.linspace(0, 100, 50_000)
    kept_x, kept_y = figures._thinned(x, np.sqrt(x) * 10)
    assert len(kept_x) < 500 and kept_x[0] == 0 and kept_x[-1] == 100
    assert np.abs(np.interp(x, kept_x, kept_y) - np.sqrt(x) * 10).max() < 0.5
