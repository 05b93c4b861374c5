import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from bfloat16 import autocast_on_cpu, is_rounded

from imitate.config import ImitateConfig
from imitate.data.annotations import Box
from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.encoder import Encoder
from imitate.models.image import ImageEncoder
from imitate.models.yolo import YOLO
from imitate.tasks import detection
from imitate.tasks.base import Budget, Predictions
from imitate.tasks.dense import pyramid, whole_images
from imitate.tasks.detection import Detection, Objects, objects_of, on_masks, tabulate
from imitate.tasks.fitting import parts

SIZE = 80
TASK = Detection(epochs=12, batch_size=8, learning_rate=5e-3, width=32)


def prepared(images: np.ndarray, boxes: list[list[Box]], split: np.ndarray) -> Corpus:
    names = [f"i{i}" for i in range(len(images))]
    table = pd.DataFrame({"image_id": names, "patient": [f"p{name}" for name in names], "split": split})
    table["boxes"] = [[box._asdict() for box in some] for some in boxes]
    return Corpus(Path("memory"), {"size": images.shape[-1]}, table, images, None)


@pytest.fixture(scope="module")
def data() -> Corpus:
    """A bright rectangle on noise; every fourth image has none. Corpus at 80, seen at 64."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 60, (96, SIZE, SIZE), dtype=np.uint8)
    boxes: list[list[Box]] = [[] for _ in images]
    for i in np.flatnonzero(np.arange(96) % 4):
        width, height = generator.integers(20, 36, 2)
        x, y = generator.integers(0, SIZE - 36, 2)
        images[i, y : y + height, x : x + width] += 150
        boxes[i].append(Box("square", float(x), float(y), float(width), float(height)))
    return prepared(images, boxes, np.repeat(["train", "val", "test"], [64, 16, 16]))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    config = ImitateConfig(backbone="resnet10t", prepared_size=SIZE, image_size=64)
    return Encoder("tiny", ImageEncoder("resnet10t").eval(), config)


def test_it_learns_in_prepared_pixels_and_leaves_the_encoder_bit_identical(encoder: Encoder, data: Corpus) -> None:
    before = copy.deepcopy(encoder.image.state_dict())
    predictions = TASK.predict(encoder, data, Budget())
    measured = TASK.measure(predictions)
    assert measured["map"] > 0.3
    assert measured["froc"] > 0.9
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.image.state_dict().items())
    assert predictions["image_id"].tolist() == [f"i{i}" for i in range(80, 96)]
    assert (np.diff(predictions["scores"], axis=1) <= 0).all()
    assert predictions["scores"][predictions["scores"] > 0].min() >= 0.05


def test_it_trains_in_bfloat16_and_detects_in_float32(
    encoder: Encoder, data: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the detections of the validation images, which choose the epoch inside autocast."""
    autocast_on_cpu(monkeypatch)
    seen: dict[str, list[torch.Tensor]] = {"decode": [], "detection_loss": []}
    for name, calls in seen.items():
        inner = getattr(detection, name)
        monkeypatch.setattr(
            detection,
            name,
            lambda raw, *rest, inner=inner, calls=calls, **more: calls.extend(raw) or inner(raw, *rest, **more),
        )
    Detection(epochs=1, batch_size=16, width=16).predict(encoder, data, Budget())
    assert seen["detection_loss"] and all(is_rounded(raw) for raw in seen["detection_loss"])
    assert len(seen["decode"]) == 6  # three scales, twice
    assert not any(is_rounded(raw) for raw in seen["decode"])


@pytest.mark.parametrize("mode", ["clean", "paper"])
def test_frozen_moves_nothing_in_clean_and_batchnorm_statistics_alone_in_paper(
    mode: str, encoder: Encoder, data: Corpus
) -> None:
    budget = Budget(mode=mode)
    after = (
        Detection(epochs=1, batch_size=8, width=16)
        .train(encoder, data, budget, parts(data, budget))
        .pyramid.encoder.state_dict()
    )
    moved = {name for name, tensor in encoder.image.state_dict().items() if not torch.equal(tensor, after[name])}
    statistics = {name for name in after if "running" in name or "num_batches" in name}
    assert moved == (set() if mode == "clean" else statistics)


def tables(boxes: np.ndarray, scores: np.ndarray, objects: Objects, *, paper: bool = False) -> Predictions:
    return tabulate(boxes, scores, objects) | {"paper": np.full(len(scores), paper)}


@pytest.fixture
def objects(data: Corpus) -> Objects:
    return objects_of(data, np.arange(len(data)))


def test_the_oracle_is_perfect(objects: Objects) -> None:
    measured = Detection().measure(tables(objects.corners, 0.9 * (objects.counts[:, None] > 0), objects))
    assert set(measured.values()) == {1.0}
    assert list(measured)[:4] == ["map", "map_coco", "ap50", "froc"]


def test_finding_nothing_is_nil_and_without_objects_all_is_undefined(objects: Objects) -> None:
    nothing = np.zeros((96, 1, 4)), np.zeros((96, 1))
    measured = Detection().measure(tables(*nothing, objects))
    assert np.isnan(measured.pop("map_paper"))  # no image is left to count
    assert measured.pop("image_auroc") == 0.5
    assert set(measured.values()) == {0.0}
    empty = np.flatnonzero(objects.counts == 0)
    assert np.isnan(list(Detection().measure(tables(*nothing, objects), empty).values())).all()


def test_random_boxes_are_worth_little(objects: Objects) -> None:
    generator = np.random.default_rng(0)
    low = generator.uniform(0, 60, (96, 5, 2))
    boxes = np.concatenate([low, low + generator.uniform(5, 20, (96, 5, 2))], axis=-1)
    scores = -np.sort(-generator.uniform(0.1, 1, (96, 5)), axis=1)
    assert 0 <= Detection().measure(tables(boxes, scores, objects))["map"] < 0.05


def test_the_published_convention_skips_what_the_clean_one_counts(objects: Objects) -> None:
    """Right where there is an object and sure; sure of one on each empty image; silent on every third image."""
    boxes, scores = objects.corners.copy(), np.full((96, 1), 0.8)
    boxes[objects.counts == 0] = [5, 5, 30, 30]
    scores[::3] = 0.2
    clean = Detection().measure(tables(boxes, scores, objects))
    paper = Detection().measure(tables(boxes, scores, objects, paper=True))
    assert clean["map_paper"] == paper["map_paper"] == 1
    assert clean["map"] < 0.9
    assert next(iter(clean)) == "map"
    assert next(iter(paper)) == "map_paper"
    assert clean == paper


def test_the_challenge_metrics_in_closed_form() -> None:
    """Two objects, one found twice; an alarm on an empty image; an unsure one on another; a missed object."""
    corners = np.array(
        [[[0, 0, 10, 10], [20, 20, 30, 30]], np.zeros((2, 4)), np.zeros((2, 4)), [[0, 0, 9, 9], [0] * 4]]
    )
    boxes = np.array([[[0, 0, 10, 10], [0, 0, 10, 8]], [[1, 1, 5, 5]] * 2, [[1, 1, 5, 5]] * 2, np.zeros((2, 4))], float)
    scores = np.array([[0.9, 0.6], [0.7, 0.0], [0.3, 0.0], [0.0, 0.0]])
    measured = Detection().measure(tables(boxes, scores, Objects(corners.astype(float), np.array([2, 0, 0, 1]))))
    assert measured["kaggle"] == pytest.approx(
        np.mean([1 / (1 + 1 + 1), 0, 0])
    )  # the third has nothing, and nothing sure
    assert measured["image_auroc"] == 0.5  # .9 beats .7 and .3, no detection at all loses to both
    assert np.isnan(Detection().measure(tables(boxes, scores, Objects(corners * 0.0, np.zeros(4, int))))["image_auroc"])


def test_the_challenge_metric_is_a_ratio_at_each_threshold_and_then_a_mean() -> None:
    """One object, found with an overlap of .6: 1 at .40 to .60, and 0 / (1 + 1) above: five of eight."""
    objects = Objects(np.array([[[0.0, 0, 10, 10]]]), np.array([1]))
    one = tables(np.array([[[0.0, 0, 10, 6]]]), np.array([[0.9]]), objects)
    assert Detection().measure(one)["kaggle"] == pytest.approx(5 / 8)
    generator = np.random.default_rng(0)
    counts = generator.integers(0, 3, 40)
    low = generator.uniform(0, 60, (40, 2, 2))
    corners = np.concatenate([low, low + generator.uniform(10, 20, (40, 2, 2))], axis=-1)
    boxes = corners + generator.uniform(-3, 3, corners.shape)
    scores = -np.sort(-generator.random((40, 2)), axis=1)
    table, expected = tables(boxes, scores, Objects(corners, counts)), []
    for image in range(40):
        values = []
        for threshold in range(8):
            hits = sum(table["matched"][image, k, threshold] and scores[image, k] >= 0.5 for k in range(2))
            called = sum(scores[image] >= 0.5)
            if called + counts[image]:
                values.append(hits / (hits + called - hits + counts[image] - hits))
        if values:
            expected.append(np.mean(values))
    assert 0.1 < Detection().measure(table)["kaggle"] == pytest.approx(np.mean(expected))


def test_support_is_of_the_patients_who_have_an_object(objects: Objects) -> None:
    table = tables(objects.corners, 0.9 * (objects.counts[:, None] > 0), objects)
    found = Detection().support(table | {"patient": np.arange(96).astype(str)})
    assert found["map"] == found["froc/0.125"] == found["map_paper"] == (72,)
    assert found["image_auroc"] == (72, 24) and "kaggle" not in found


def test_images_on_which_nobody_looked_for_objects_take_no_part(encoder: Encoder, data: Corpus) -> None:
    seen = np.arange(96) % 4 > 0
    table = data.table.assign(annotated=[None if i == 80 else bool(seen[i]) for i in range(96)])
    table["annotated"] = table["annotated"].astype("boolean")
    found = Detection(epochs=1, batch_size=8, width=32).predict(
        encoder, Corpus(data.root, data.meta, table, data.images, None), Budget()
    )
    assert found["image_id"].tolist() == [f"i{i}" for i in range(80, 96) if seen[i] or i == 80]


def test_scores_are_float32_where_fitting_is_not(encoder: Encoder, data: Corpus) -> None:
    view = whole_images(encoder, data, Budget(), TASK)
    network = YOLO(pyramid(encoder, Budget(), TASK), width=32).eval()
    task = Detection(confidence=0.001)
    _, plain = task._detect(network, view, np.arange(8), Budget())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, scores = task._detect(network, view, np.arange(8), Budget())
    np.testing.assert_array_equal(scores, plain)
    assert len(np.unique(scores)) > 100


def test_rows_are_a_sample(objects: Objects) -> None:
    scores = 0.9 * ((np.arange(96) < 48) & (objects.counts > 0))[:, None]
    table = tables(objects.corners, scores, objects)
    assert Detection().measure(table, np.arange(48))["map"] == 1
    assert Detection().measure(table, np.arange(48, 96))["map"] == 0
    counts = np.stack([np.arange(96) < 48, np.arange(96) >= 48, np.arange(96) % 3]).astype(int)
    measured = Detection().resample(table, counts)
    assert measured["map"].tolist()[:2] == [1, 0]
    assert {name: each[2] for name, each in measured.items()} == Detection().measure(
        table, np.arange(96).repeat(counts[2])
    )


@pytest.mark.parametrize(
    ("mode", "confidence", "kept"), [("clean", None, True), ("paper", None, False), ("clean", 0.3, False)]
)
def test_confidence_decides_what_is_kept(
    mode: str, confidence: float | None, kept: bool, encoder: Encoder, data: Corpus
) -> None:
    task, budget = Detection(confidence=confidence), Budget(mode=mode)
    network = YOLO(pyramid(encoder, budget, task), width=4).eval()
    for out in network.outputs:
        out[-1].weight.data.zero_()
        out[-1].bias.data.view(3, 6)[:, 4] = torch.tensor(0.2).logit()
    boxes, scores = task._detect(network, whole_images(encoder, data, budget, task), np.arange(3), budget)
    assert boxes.shape == (3, 100, 4)
    np.testing.assert_allclose(scores[:, 0], 0.2 if kept else 0, rtol=1e-6)


def test_objects_are_corners_padded_to_the_most() -> None:
    boxes = [[Box("a", 1, 2, 3, 4), Box("b", 5, 5, 0, 9)], [], [Box("a", 0, 0, 1, 1), Box("a", 2, 2, 2, 2)]]
    found = objects_of(prepared(np.zeros((3, 8, 8), np.uint8), boxes, np.array(["test"] * 3)), np.array([2, 1, 0]))
    assert found.counts.tolist() == [2, 0, 1]
    assert found.corners.tolist() == [[[0, 0, 1, 1], [2, 2, 4, 4]], [[0] * 4] * 2, [[1, 2, 4, 6], [0] * 4]]


def test_the_centre_must_lie_on_the_mask_where_there_is_one(objects: Objects) -> None:
    masks = np.zeros((96, SIZE, SIZE), np.uint8)
    masks[:60] = 1
    rows, scores = np.arange(96), 0.9 * (objects.counts[:, None] > 0)
    found = tabulate(objects.corners, scores, objects, on_masks(masks, rows, objects.corners))["found"]
    np.testing.assert_array_equal(found[:60], scores[:60])
    assert not found[60:].any()


def test_mistakes_are_reported(encoder: Encoder, data: Corpus) -> None:
    for part, count in (("train", 64), ("val", 16)):
        boxes = [[] if split == part else data.boxes(i) for i, split in enumerate(data.table["split"])]
        bare = prepared(data.images, boxes, data.table["split"].to_numpy())
        name = {"train": "training", "val": "validation"}[part]
        with pytest.raises(UserError, match=f"none of the {count} {name} images of memory has a box"):
            Detection().predict(encoder, bare, Budget())


def test_thresholds_are_those_of_the_peers_and_of_coco() -> None:
    both = [detection.THRESHOLDS[which] for which in (detection.CHEST, detection.COCO)]
    np.testing.assert_allclose(both[0], [0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75])
    np.testing.assert_allclose(both[1], [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
