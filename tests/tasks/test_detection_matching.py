import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from imitate.tasks.detection_matching import RATES, average_precision, locate, match, overlaps, sensitivities

THRESHOLDS = np.arange(8, 20) / 20
Tables = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def random_tables(seed: int, *, images: int = 30, most: int = 12) -> Tables:
    """Detections near objects and elsewhere, sorted; some images have no object, some no detection."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 5, images)
    objects = np.zeros((images, 5, 4))
    boxes, scores = np.zeros((images, most, 4), np.float32), np.zeros((images, most), np.float32)
    for i, count in enumerate(counts):
        low = generator.integers(0, 60, (count, 2))
        objects[i, :count] = np.hstack([low, low + generator.integers(10, 40, (count, 2))])
        found = generator.integers(0, most + 1)
        for k in range(found):
            near = count and generator.random() < 0.7
            base = objects[i, generator.integers(count)] if near else np.array([20, 20, 50, 60])
            boxes[i, k] = base + generator.integers(-4, 5, 4)
        scores[i, :found] = np.sort(generator.random(found))[::-1]
    return boxes, scores, objects, counts


def reference(tables: Tables, rows: np.ndarray, thresholds: np.ndarray) -> float:
    """pycocotools on the rows, repeats as images of their own."""
    boxes, scores, objects, counts = tables
    truth, detections = [], []
    for image, i in enumerate(rows):
        there = objects[i, : counts[i]]
        truth += [{"image_id": image, "bbox": sides(box), "area": 1.0, "iscrowd": 0, "category_id": 1} for box in there]
        detections += [
            {"image_id": image, "bbox": sides(box), "score": float(score), "category_id": 1}
            for box, score in zip(boxes[i], scores[i], strict=True)
            if score > 0
        ]
    coco = COCO()
    annotations = [{"id": i + 1, **annotation} for i, annotation in enumerate(truth)]
    coco.dataset = {
        "images": [{"id": i} for i in range(len(rows))],
        "categories": [{"id": 1}],
        "annotations": annotations,
    }
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(detections), "bbox")
    evaluation.params.iouThrs = thresholds
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    return float(evaluation.eval["precision"][..., -1].mean())


def sides(box: np.ndarray) -> list[float]:
    x1, y1, x2, y2 = box.tolist()
    return [x1, y1, x2 - x1, y2 - y1]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("chosen", [THRESHOLDS[:8], THRESHOLDS[2:]], ids=["chest", "coco"])
def test_average_precision_equals_pycocotools(seed: int, chosen: np.ndarray) -> None:
    tables = random_tables(seed)
    boxes, scores, objects, counts = tables
    matched = match(overlaps(boxes, objects), scores, counts, chosen)
    ours = average_precision(matched, scores, counts, np.ones((1, len(counts)))).mean()
    assert ours == pytest.approx(reference(tables, np.arange(len(counts)), chosen), abs=1e-12)
    assert 0.05 < ours < 0.95


def test_a_weight_is_a_repetition() -> None:
    tables = random_tables(7)
    boxes, scores, objects, counts = tables
    rows = np.random.default_rng(0).integers(0, len(counts), len(counts))
    matched = match(overlaps(boxes, objects), scores, counts, THRESHOLDS)
    weights = np.stack([np.ones(len(counts)), np.bincount(rows, minlength=len(counts))])
    ours = average_precision(matched, scores, counts, weights).mean(axis=1)
    assert ours[1] == pytest.approx(reference(tables, rows, THRESHOLDS), abs=1e-12)


def test_a_floor_is_as_if_weaker_detections_were_not_there() -> None:
    boxes, scores, objects, counts = random_tables(3)
    weights = np.ones((1, len(counts)))
    matched = match(overlaps(boxes, objects), scores, counts, THRESHOLDS)
    cut = np.where(scores >= 0.5, scores, 0)
    expected = average_precision(match(overlaps(boxes, objects), cut, counts, THRESHOLDS), cut, counts, weights)
    ours = average_precision(matched, scores, counts, weights, floor=0.5)
    np.testing.assert_array_equal(ours, expected)
    assert ours.mean() != average_precision(matched, scores, counts, weights).mean()


def test_an_empty_image_with_a_detection_lowers_precision_and_a_missed_image_lowers_recall() -> None:
    box = np.array([10.0, 10, 20, 20])
    boxes = np.stack([box, box, box * 0])[:, None]
    scores = np.array([[0.6], [0.9], [0.0]])
    objects, counts = np.stack([box, box * 0, box])[:, None], np.array([1, 0, 1])
    matched = match(overlaps(boxes, objects), scores, counts, np.array([0.5]))

    def precision(*weights: int) -> float:
        return float(average_precision(matched, scores, counts, np.array([weights]))[0, 0])

    assert precision(1, 0, 0) == 1
    assert precision(1, 1, 0) == pytest.approx(0.5)
    assert precision(1, 0, 1) == pytest.approx(51 / 101)
    assert precision(1, 1, 1) == pytest.approx(0.5 * 51 / 101)
    assert np.isnan(precision(0, 1, 0))
    assert precision(0, 0, 1) == 0


def test_overlaps_in_closed_form() -> None:
    boxes = np.array([[[0.0, 0, 4, 4], [2, 2, 2, 2]]])
    objects = np.array([[[2.0, 0, 6, 4], [8, 8, 9, 9], [0, 0, 4, 4]]])
    np.testing.assert_allclose(overlaps(boxes, objects), [[[1 / 3, 0, 1], [0, 0, 0]]])


def naive_sensitivity(tables: Tables, rows: np.ndarray, rate: float) -> float:
    """Every score as a threshold, every centre against every box."""
    boxes, scores, objects, counts = tables
    best = 0.0
    for threshold in np.unique(scores[scores > 0]):
        hits = alarms = 0
        for i in rows:
            centres = [(b[:2] + b[2:]) / 2 for b, s in zip(boxes[i], scores[i], strict=True) if s >= threshold]
            inside = [[(o[:2] <= c).all() and (c < o[2:]).all() for o in objects[i, : counts[i]]] for c in centres]
            alarms += sum(not any(row) for row in inside)
            hits += sum(any(column) for column in zip(*inside, strict=True))
        if alarms <= rate * len(rows):
            best = max(best, hits / counts[rows].sum())
    return best


@pytest.mark.parametrize("seed", range(3))
def test_froc_equals_a_loop_over_thresholds(seed: int) -> None:
    tables = random_tables(seed, images=12, most=15)
    boxes, scores, objects, counts = tables
    scores[scores > 0] = np.ceil(scores[scores > 0] * 20) / 20  # with ties
    rows = np.random.default_rng(seed).integers(0, len(counts), len(counts))
    weights = np.bincount(rows, minlength=len(counts))
    found, false_alarm = locate(boxes, scores, objects)
    ours = sensitivities(found, false_alarm, scores, counts, weights[None])[0]
    np.testing.assert_allclose(ours, [naive_sensitivity(tables, rows, rate) for rate in RATES])
    assert ours[0] < ours[-1]


def test_a_centre_off_the_mask_is_a_false_alarm() -> None:
    objects, boxes, scores = np.array([[[0.0, 0, 10, 10]]]), np.array([[[1.0, 1, 3, 3]]]), np.array([[0.7]])
    assert locate(boxes, scores, objects)[0] == 0.7
    found, false_alarm = locate(boxes, scores, objects, np.array([[False]]))
    assert found == 0
    assert false_alarm.all()


def test_a_centre_on_the_first_edge_is_inside_and_on_the_last_one_outside() -> None:
    objects = np.array([[[2.0, 3, 10, 12]]])
    for x, y, inside in ((2, 3, True), (10, 5, False), (5, 12, False), (1, 5, False), (5, 2, False)):
        found, alarm = locate(np.array([[[x - 1.0, y - 1, x + 1, y + 1]]]), np.array([[0.7]]), objects)
        assert bool(found[0, 0] == 0.7) is inside and bool(alarm[0, 0]) is not inside
