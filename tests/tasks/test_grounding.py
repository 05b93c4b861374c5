"""Oracles whose maps peak where the image was marked, through every way into a square; and what the task measures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch
from folders import edit_rows, write_folder, write_shards
from jaxtyping import Float
from PIL import Image
from runs import write_run
from tiny_peers import write_biovil, write_chexzero
from torch import Tensor, nn
from torch.nn import functional as F

from imitate.commands.compare import compare
from imitate.commands.evaluate import evaluate
from imitate.config import Preprocessing
from imitate.data.annotations import Box
from imitate.data.corpus import Corpus
from imitate.data.decoding import Decoder
from imitate.data.jobs import Decoded, Job, Setup
from imitate.data.records import Record
from imitate.errors import UserError
from imitate.inference.encoder import Encoder, load_encoder
from imitate.inference.predictor import Predictor
from imitate.models.image import ImageEncoder
from imitate.models.types import ImageFeatures, Images
from imitate.names import Resize
from imitate.tasks import check_data, grounding
from imitate.tasks.base import Budget, Predictions
from imitate.tasks.grounding import Grounding
from imitate.tasks.results import read_results

SIZE, SEEN = 80, 64  # of the folder's images, of the part that the network sees


class Text:
    """Bright and dark are opposite directions; other words have none."""

    name, identity, width = "words", "words", 2

    def encode(self, texts: list[str]) -> Float[Tensor, "texts width"]:
        return torch.tensor([[("bright" in text.lower()) - float("dark" in text.lower()), 0.0] for text in texts])


class Bright(ImageEncoder):
    """A network whose stages give the mean gray value of their cells."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.name, self.pools = (
            "bright",
            nn.ModuleList([nn.Identity(), nn.Identity(), nn.AvgPool2d(8), nn.AvgPool2d(2)]),
        )

    @property
    def stages(self) -> list[nn.Module]:
        return list(self.pools)

    def forward(self, images: Images) -> ImageFeatures:
        levels = [images]
        for stage in self.stages:
            levels.append(stage(levels[-1]))
        return ImageFeatures(levels[1:], levels[-1].mean((2, 3)))


class Oracle(Encoder):
    """Its vector of an image grows towards "bright" with the gray value of every cell."""

    def __init__(self) -> None:
        seen = Preprocessing(prepared_size=SIZE, image_size=SEEN, mean=(0.0,), std=(1.0,))
        super().__init__("oracle", Bright().eval(), seen)
        self.text = Text()

    def look(self, images: Images) -> tuple[dict[str, Tensor], ImageFeatures]:
        features: ImageFeatures = self.image(images)
        return {"image": torch.cat([features.pooled, torch.ones_like(features.pooled)], 1)}, features

    def embed_texts(self, texts: list[str]) -> Float[Tensor, "texts joint"]:
        return F.normalize(self.text.encode(texts))


SHAPES = [(150, 100), (100, 150), (120, 120)]  # width, height
PLACES = [(0.42, 0.3), (0.3, 0.5), (0.5, 0.45)]  # of the corner of a patch, as fractions of the sides


def folder(root: Path, resize: Resize, shape: tuple[int, int], **fields: Any) -> Corpus:
    """Dark images with a black border and a bright patch that is marked, prepared by a rule; a patient each."""
    width, height = shape
    rows, images = [], []
    for number, (across, down) in enumerate(PLACES):
        gray = np.full((height, width), 30, np.uint8)
        gray[:4], gray[:, -6:] = 0, 0
        box = Box("Bright", int(across * width), int(down * height), width // 4, height // 4, phrase="A bright patch.")
        gray[int(box.y) : int(box.y + box.height), int(box.x) : int(box.x + box.width)] = 250
        Image.fromarray(gray).save(root / f"{number}.png")
        record = Record(f"i{number}", root / f"{number}.png", f"p{number}", "s", annotations=(box,))
        found = Decoder(Setup(SIZE, resize, False))(Job.of(record))
        assert isinstance(found, Decoded) and found.boxes
        images.append(found.image)
        rows.append({"image_id": f"i{number}", "patient": f"p{number}", "study": "s", "split": "test"})
        rows[-1] |= {"boxes": found.boxes, **fields}
    return Corpus.open(write_shards(root / "data", pd.DataFrame(rows), np.stack(images), resize=resize))


def predicted(data: Corpus, **settings: Any) -> Predictions:
    return Grounding(**settings).predict(Oracle(), data, Budget())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("resize", get_args(Resize))
def test_an_oracle_hits_every_mark_whatever_the_shape_and_the_way_into_the_square(
    resize: Resize, shape: tuple[int, int], tmp_path: Path
) -> None:
    data = folder(tmp_path, resize, shape)
    found = Grounding().measure(predicted(data))
    assert found["pointing"] == 1 and found["pixel-auroc"] > 0.9 and found["cnr"] > 1 and found["miou"] > 0.3


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("resize", get_args(Resize))
def test_on_the_original_image_its_peak_lies_in_the_box_too(
    resize: Resize, shape: tuple[int, int], tmp_path: Path
) -> None:
    folder(tmp_path, resize, shape)
    encoder = Oracle()
    encoder.preprocessing = encoder.preprocessing.model_copy(update={"resize": resize})
    for number, (across, down) in enumerate(PLACES):
        seen = Predictor(encoder).heatmap(tmp_path / f"{number}.png", "A bright patch.")
        assert seen.shape == shape[::-1]
        row, column = np.unravel_index(seen.argmax(), seen.shape)
        assert 0 <= column - int(across * shape[0]) < shape[0] // 4 and 0 <= row - int(down * shape[1]) < shape[1] // 4


def test_a_map_that_is_turned_round_or_mirrored_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, right = folder(tmp_path, "letterbox", (150, 100)), grounding.heatmap
    for turn in (lambda maps: -maps, lambda maps: maps.flip(1, 2), lambda maps: maps.mT):
        monkeypatch.setattr(grounding, "heatmap", lambda *given, turn=turn: turn(right(*given)))
        assert Grounding().measure(predicted(data))["pointing"] < 0.5


def test_beyond_the_part_that_the_network_sees_a_map_goes_on_as_at_its_edge_but_has_no_peak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The corner of the view is the highest place, and marked: behind it, 80 more pixels are as high, and 65 are not."""
    root = tmp_path / "data"
    row = {"image_id": "i", "patient": "p", "study": "s", "split": "test"}
    row["boxes"] = [{"label": "", "x": 5, "y": 5, "width": 4, "height": 4, "phrase": "bright", "reader": ""}]
    write_shards(root, pd.DataFrame([row]), np.zeros((1, SIZE, SIZE), np.uint8))
    corner = torch.zeros(1, SEEN, SEEN)
    corner[0, 0, 0] = 1
    monkeypatch.setattr(grounding, "heatmap", lambda *given: corner)
    found = predicted(Corpus.open(root))
    assert found["pointing:own"].tolist() == [[1]] and found["peak"].tolist() == [[[8, 8]]]
    assert found["pixel-auroc:own"].item() == pytest.approx(((SIZE**2 - 81) + 65 / 2) / (SIZE**2 - 16))
    assert found["miou:own"].item() == pytest.approx(16 / 81)


def boxed(phrase: str, label: str, x: int) -> dict[str, Any]:
    return {"label": label, "x": x, "y": 28, "width": 12, "height": 12, "phrase": phrase, "reader": ""}


def marked_images(root: Path, boxes: list[list[dict[str, Any]]], classes: tuple[str, ...] = ()) -> Corpus:
    rows = [{"image_id": f"i{i}", "patient": f"p{i}", "study": "s", "split": "test"} for i in range(len(boxes))]
    table = pd.DataFrame([{**row, "boxes": each} for row, each in zip(rows, boxes, strict=True)])
    images = np.full((len(boxes), SIZE, SIZE), 9, np.uint8)
    for image, each in zip(images, boxes, strict=True):
        for box in each:
            image[28:40, box["x"] : box["x"] + 12] = 250
    return Corpus.open(write_shards(root, table, images, classes=list(classes)))


def test_controls_are_the_map_of_another_text_and_that_of_another_image(tmp_path: Path) -> None:
    """The oracle turns round for "dark", and the two images are bright at other places."""
    boxes = [[boxed("a bright spot", "Bright", 14)], [boxed("a bright one", "Bright", 54)], [boxed("dark", "Dark", 40)]]
    data = marked_images(tmp_path / "data", boxes)
    found = predicted(data)
    assert found["label"].tolist() == [["Bright"], ["Bright"], ["Dark"]] and found["marks"].tolist() == [[1]] * 3
    measured = Grounding().measure(found)
    assert found["pixel-auroc:own"][:2].min() > 0.95 and found["pixel-auroc:another text"][:2].max() < 0.1
    assert found["pointing:own"][:, 0].tolist() == [1, 1, 0] and found["pointing:another image"][:2].max() == 0
    assert measured["pointing"] == pytest.approx(2 / 3) and measured["pointing/Bright"] == 1
    assert measured["pointing-gain/another image"] == pytest.approx(
        measured["pointing"] - measured["pointing/another image"]
    )
    assert Grounding().shuffled(found)["pointing"] == measured["pointing/another image"]
    assert Grounding().chance(found)["pointing"] == pytest.approx(144 / SIZE**2)
    assert Grounding(average="classes").measure(found)["pointing"] == 0.5


def test_each_map_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images and two classes: four maps serve for every control of the four pairs."""
    boxes = [[boxed("bright", "A", 10), boxed("dark", "B", 30)]] * 2
    data, right, made = marked_images(tmp_path / "data", boxes), grounding.heatmap, []
    monkeypatch.setattr(grounding, "heatmap", lambda *given: made.append(len(given[1])) or right(*given))
    found = predicted(data)
    assert sum(made) == 4 and found["pointing:own"].shape == (2, 2)
    assert not np.isnan([found[f"pointing:{what}"] for what in grounding.CONTROLS]).any()


def test_classes_are_asked_by_their_prompts_and_their_marks_are_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("Spot: {positive: [bright], negative: [dark]}\n")
    boxes = [[boxed("one", "Spot", 14), boxed("two", "Spot", 44), boxed("x", "Unknown", 44)], [boxed("", "Spot", 30)]]
    data = marked_images(tmp_path / "data", boxes)
    found = predicted(data, texts="classes", prompts=prompts)
    assert found["label"].tolist() == [["Spot"], ["Spot"]] and found["marks"].tolist() == [[3], [1]]
    assert found["pointing:own"].tolist() == [[1], [1]] and "no prompts for Unknown" in caplog.text
    assert predicted(data, prompts=prompts)["label"].tolist() == [["Spot", "Spot", "Unknown"], ["Spot", "", ""]]
    assert predicted(data)["label"].tolist() == [["Spot", "Spot", "Unknown"]]
    assert "no prompts for any of Spot" in caplog.text and "marks without a phrase are excluded" in caplog.text
    edit_rows(data.root, split=["train", "test"])
    data = Corpus.open(data.root)
    assert [len(predicted(data, prompts=prompts, split=split)["label"]) for split in ("test", "all")] == [1, 2]


def test_a_metric_is_a_mean_over_phrases_that_is_resampled_by_image() -> None:
    columns = {f"{metric}:{what}": np.zeros((3, 2), np.float32) for metric in grounding.METRICS
               for what in ("own", "chance", *grounding.CONTROLS)}  # fmt: skip
    columns["pointing:own"] = np.array([[1, 0], [1, np.nan], [np.nan, np.nan]], np.float32)
    columns["pointing:centre"] = np.array([[0.5, 0.5], [np.nan, np.nan], [1, np.nan]], np.float32)
    run = {**columns, "label": np.array([["A", "B"], ["A", ""], ["C", ""]]), "patient": np.array(["p", "q", "r"])}
    task, counts = Grounding(), np.array([[1, 1, 1], [2, 0, 1], [0, 3, 0]])
    found = task.resample(run, counts)
    np.testing.assert_allclose(found["pointing"], [2 / 3, 1 / 2, 1])
    np.testing.assert_allclose(found["pointing/A"], [1, 1, 1])
    np.testing.assert_allclose(found["pointing/B"], [0, 0, np.nan])
    np.testing.assert_allclose(found["pointing-gain/centre"], [0, 0, np.nan])
    np.testing.assert_allclose(found["pointing/centre"], [2 / 3, 0.6, np.nan])
    assert task.measure(run, np.array([0, 0, 2]))["pointing"] == 0.5
    assert task.support(run)["pointing"] == (2,) and task.support(run)["pointing/B"] == (1,)
    assert Grounding(average="classes").support(run)["pointing"] == (2, 1, 0)
    assert np.isnan(Grounding(average="classes").measure(run)["pointing"])  # of C nothing is known


def test_what_cannot_be_measured_is_one_line(tmp_path: Path) -> None:
    bare = Corpus.open(write_folder(tmp_path / "bare"))
    with pytest.raises(UserError, match="grounding needs phrases or classes with boxes or masks, .* has none"):
        check_data(Grounding(), bare)
    unmarked = marked_images(tmp_path / "unmarked", [[boxed("", "", 10)]])
    check_data(Grounding(), unmarked)
    with pytest.raises(UserError, match="has no marked phrase or class in split 'test'"):
        predicted(unmarked)
    with pytest.raises(UserError, match="no prompts for any of Sunny"):
        predicted(marked_images(tmp_path / "odd", [[boxed("", "Sunny", 10)]]))
    with pytest.raises(UserError, match="map places: oracle has no attention over positions: use gradient"):
        predicted(marked_images(tmp_path / "spot", [[boxed("bright", "", 10)]]), map="places")


def test_runs_are_measured_with_intervals_and_compared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = write_folder(tmp_path / "data", n=100)
    x = np.random.default_rng(0).integers(2, 24, 100).tolist()
    phrases = ["small left effusion", "large right opacity", "qwxyz"]
    edit_rows(data, boxes=[[{**boxed(phrases[i % 3], "", 0), "x": x[i], "y": 9, "width": 8}] for i in range(100)])
    run, files = write_run(tmp_path, data=data), [tmp_path / f"{name}.json" for name in ("findings", "impression")]
    for file in files:
        found = evaluate("grounding", model=str(run), data=data, out=file, branch=file.stem, resamples=50).metrics
        main, gain = found["pixel-auroc"], found["pixel-auroc-gain/another text"]
        assert main.low is not None and main.low < main.value < main.high and main.chance == 0.5
        assert main.shuffled == found["pixel-auroc/another image"].value
        assert gain.value == pytest.approx(main.value - found["pixel-auroc/another text"].value, abs=1e-6)
    assert " knows no word of 1 of 3 phrases" in caplog.text
    (difference,) = compare(*files, metric="pixel-auroc", resamples=50)
    assert difference.difference == pytest.approx(main.value - read_results(files[0]).metrics["pixel-auroc"].value)
    assert difference.low < difference.difference < difference.high and 0 < difference.p <= 1


@pytest.mark.parametrize("write", [write_chexzero, write_biovil])
def test_published_encoders_with_text_have_maps(write: Callable[[Path], Path], tmp_path: Path) -> None:
    boxes = [[boxed("left effusion", "", 14)], [boxed("no effusion", "", 44)], [boxed("left effusion", "", 30)]]
    data = marked_images(tmp_path / "data", boxes)
    encoder = load_encoder(str(write(tmp_path)), data=data)
    found = Grounding().predict(encoder, data, Budget())
    own = [found[f"{metric}:own"] for metric in grounding.METRICS]
    assert np.isfinite(own).all() and (found["pixel-auroc:own"] != found["pixel-auroc:another image"]).any()
