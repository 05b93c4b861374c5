"""A fake model that reads an image's report off its pixels, or does not."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from imitate.config import ImitateConfig
from imitate.data.corpus import Corpus
from imitate.data.text_cache import TextCache, text_embeddings
from imitate.errors import UserError
from imitate.inference.encoder import ImitateEncoder
from imitate.models.imitate import Imitate
from imitate.models.types import ImageEmbedding, ImageFeatures, Images
from imitate.tasks.base import Budget, Predictions
from imitate.tasks.retrieval import Retrieval, _classes

SIDE = 16
HALF = SIDE * SIDE // 2
CONFIG = ImitateConfig(prepared_size=SIDE, image_size=SIDE, mean=(0.5, 0.5, 0.5), std=(1, 1, 1))


def _pattern(word: str) -> np.ndarray:
    """The gray values that stand for a text."""
    return np.random.default_rng(list(word.encode())).integers(0, 256, HALF).astype(np.uint8)


class FakeModel(Imitate):
    """The upper half of an image is its findings, the lower its impression."""

    def __init__(self, config: ImitateConfig = CONFIG) -> None:
        nn.Module.__init__(self)
        self.image, self.config = nn.Identity(), config

    def encode_image(self, images: Images) -> ImageEmbedding:
        flat = images[:, 0].flatten(1)
        return ImageEmbedding(flat[:, :HALF], flat[:, HALF:], ImageFeatures([], flat))

    def encode_text(self, texts: Float[Tensor, "texts width"]) -> Float[Tensor, "texts width"]:
        return texts


class FakeText:
    name, identity, width = "fake", "fake", HALF

    def encode(self, texts: list[str]) -> Float[Tensor, "texts width"]:
        rows = np.stack([_pattern(text) for text in texts]) if texts else np.zeros((0, HALF))
        return torch.from_numpy(rows.astype(np.float32) / 255 - 0.5)


class ConstantText(FakeText):
    def encode(self, texts: list[str]) -> Float[Tensor, "texts width"]:
        return torch.ones(len(texts), HALF)


def _encoder(text: FakeText | None = None, config: ImitateConfig = CONFIG) -> ImitateEncoder:
    return ImitateEncoder("fake", FakeModel(config), text or FakeText())


def _data(root: Path, findings: list[str | None], impression: list[str | None], **labels: list[float]) -> Corpus:
    reports = list(zip(findings, impression, strict=True))
    images = [np.concatenate([_pattern(part or "") for part in report]).reshape(SIDE, SIDE) for report in reports]
    table = pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(len(reports))],
            "patient": [f"p{i // 2}" for i in range(len(reports))],
            "split": "test",
            "findings": pd.Series(findings, dtype="str"),
            "impression": pd.Series(impression, dtype="str"),
            "labels": list(np.array(list(labels.values())).T) if labels else None,
        }
    )
    meta = {"classes": list(labels), "source": "table", "fingerprint": "f", "size": SIDE}
    return Corpus(root, meta, table, np.stack(images), None)


def _metrics(data: Corpus, text: FakeText, **config: str) -> dict[str, float]:
    encoder = _encoder(text, CONFIG.model_copy(update=config))
    task = Retrieval()
    return task.measure(task.predict(encoder, data, Budget()))


def test_a_model_of_swapped_sections_is_asked_by_the_section_that_each_branch_learnt() -> None:
    findings, impression = _reports()
    data = _data(Path(), impression, findings)  # the upper half of an image shows what the table calls impression
    data.table[["findings", "impression"]] = data.table[["impression", "findings"]].to_numpy()
    named = {branch: f"recall@1/{branch}/image-to-text" for branch in ("findings", "impression")}
    swapped, plain = (_metrics(data, FakeText(), texts=texts) for texts in ("swapped", "sections"))
    for name in named.values():
        assert swapped[name] == 1 and plain[name] < 0.5


def test_a_model_of_whole_reports_is_asked_by_the_whole_report() -> None:
    findings, impression = _reports()
    asked: list[str] = []

    class Noting(FakeText):
        def encode(self, texts: list[str]) -> Float[Tensor, "texts width"]:
            asked.extend(texts)
            return super().encode(texts)

    data = _data(Path(), findings, impression)
    _metrics(data, Noting(), texts="report")
    both = [text for text in data.text("report") if text in asked]
    assert len(both) == len(data)
    asked.clear()
    _metrics(data, Noting(), texts="sections")
    whole = set(data.text("report")) - {*findings, *impression}
    assert whole and not whole & set(asked)


def _reports(n: int = 24) -> tuple[list[str | None], list[str | None]]:
    """Findings that repeat, impressions that repeat more; where one is missing, the other is like no other."""
    no_findings, no_impression = (lambda i: i % 7 == 3), (lambda i: i % 11 == 5)
    findings = [f"alone {i}" if no_impression(i) else f"findings {i % (n // 2)}" for i in range(n)]
    impression = [f"alone {i}" if no_findings(i) else f"impression {i % 4}" for i in range(n)]
    return (
        [None if no_findings(i) else text for i, text in enumerate(findings)],
        [None if no_impression(i) else text for i, text in enumerate(impression)],
    )


def test_an_oracle_is_perfect(tmp_path: Path) -> None:
    findings, impression = _reports()
    data = _data(tmp_path, findings, impression, a=[i % 2 for i in range(24)], b=[0] * 24)
    task = Retrieval()
    predictions = task.predict(_encoder(), data, Budget())
    measured = task.measure(predictions)
    perfect = {name: value for name, value in measured.items() if name.startswith(("recall", "percentile", "mean"))}
    assert next(iter(measured)) == "mean-recall"
    assert len(perfect) == 1 + 2 * (4 + 4) + (3 + 4)  # seven distinct impressions: no recall@10 from image to text
    assert set(perfect.values()) == {1.0}
    chance, shuffled = task.chance(predictions), task.shuffled(predictions)
    assert set(chance) == set(measured) == set(shuffled)
    assert all(chance[name] <= measured[name] + 1e-6 for name in perfect)
    assert shuffled["percentile/both/image-to-text"] == pytest.approx(chance["percentile/both/image-to-text"], abs=0.1)


def test_images_without_knowledge_are_where_shuffled_images_are(tmp_path: Path) -> None:
    data = _data(tmp_path, *_reports())
    data.images[:] = np.tile(_pattern("a collapsed model"), 2).reshape(SIDE, SIDE)
    task = Retrieval()
    predictions = task.predict(_encoder(), data, Budget())
    assert task.measure(predictions) == pytest.approx(task.shuffled(predictions))
    nothing = task.predict(_encoder(ConstantText()), data, Budget())
    assert task.measure(nothing) == pytest.approx(task.chance(nothing))
    assert task.shuffled(nothing) == pytest.approx(task.chance(nothing))


def test_the_gallery_holds_distinct_texts(tmp_path: Path) -> None:
    data = _data(tmp_path, [None] * 20, [*["normal"] * 16, "a", "b", "c", "d"])
    task = Retrieval()
    clean = task.chance(task.predict(_encoder(), data, Budget()))
    assert clean["recall@1/impression/image-to-text"] == pytest.approx(1 / 5)
    assert clean["recall@1/impression/text-to-image"] == pytest.approx((16 / 20 + 4 * 1 / 20) / 5)
    assert not [name for name in clean if "findings" in name]
    paper = task.predict(_encoder(), data, Budget(mode="paper"))
    assert task.chance(paper)["recall@1/impression/image-to-text"] == pytest.approx(1 / 20)
    assert task.measure(paper)["recall@1/impression/image-to-text"] == pytest.approx((16 * 1 / 16 + 4) / 20)


def test_precision_by_classes(tmp_path: Path) -> None:
    """The impression is the class: its five images are the first five; half of those without a class have none."""
    impression: list[str | None] = [f"impression {i % 4}" for i in range(20)]
    labels = {name: [float(i % 4 == c) for i in range(20)] for c, name in enumerate("abc")}
    labels["a"][0] = labels["b"][0] = labels["c"][0] = np.nan
    data = _data(tmp_path, [f"findings {i}" for i in range(20)], impression, **labels)
    task = Retrieval()
    predictions = task.predict(_encoder(), data, Budget())
    measured = task.measure(predictions)
    assert measured["precision@1/impression/image-to-text"] == pytest.approx(1.0)
    assert measured["precision@5/impression/text-to-image"] == pytest.approx((4 / 5 + 3) / 4)
    assert task.chance(predictions)["precision@1/impression/image-to-text"] == pytest.approx(1 / 4)
    assert np.isnan(predictions["figure:precision@1/impression/image-to-text"][0])


def test_an_image_is_normal_only_if_every_label_is_known_to_be_nil(tmp_path: Path) -> None:
    """An uncertain finding beside zeros is no normal image; two images of a report are normal together."""
    labels = {"a": [0.0, np.nan, 0.0, 1.0, 0.0, 0.0], "b": [0.0, 0.0, 0.0, np.nan, 0.0, np.nan]}
    texts: list[str | None] = [*(f"report {i}" for i in range(5)), "report 4"]
    data = _data(tmp_path, texts, texts, **labels)
    images, reports = _classes(data, np.arange(6), np.array([0, 1, 2, 3, 4, 4]))
    assert images[:, 2].tolist() == [True, False, True, False, True, False]
    assert images[3].tolist() == [True, False, False]
    assert reports[:, 2].tolist() == [True, False, True, False, False]
    assert not images[1].any() and not images[5].any()  # unknown


def test_support_is_of_the_patients_whose_metric_is_known(tmp_path: Path) -> None:
    texts: list[str | None] = [f"report {i}" for i in range(8)]
    data = _data(tmp_path, [*texts[:6], None, None], texts)
    predictions = Retrieval().predict(_encoder(), data, Budget())
    found = Retrieval().support(predictions)
    patients = data.table["patient"]
    assert found["recall@1/findings/image-to-text"] == (patients[:6].nunique(),)
    assert found["mean-recall"] == found["recall@5/impression/text-to-image"] == (patients.nunique(),)


def test_both_is_the_mean_cosine_of_what_a_report_has(tmp_path: Path) -> None:
    """Without its findings half, an image is nearest to its impression among reports that have no findings."""
    findings: list[str | None] = [*[f"findings {i}" for i in range(6)], *[None] * 6]
    data = _data(tmp_path, findings, [f"impression {i}" for i in range(12)])
    measured = Retrieval().measure(Retrieval().predict(_encoder(), data, Budget()))
    assert measured["recall@1/both/image-to-text"] == 1.0
    data.images[:6, : SIDE // 2] = data.images[[1, 2, 3, 4, 5, 0], : SIDE // 2]
    mixed = Retrieval().predict(_encoder(), data, Budget())
    both = mixed["figure:recall@5/both/image-to-text"]
    assert both[:6].mean() == 1.0
    assert Retrieval().measure(mixed)["recall@1/findings/image-to-text"] == 0.0


def test_the_nearest_reports_are_named_by_their_first_images(tmp_path: Path) -> None:
    """Eight images, four distinct reports, one image without any: the own report comes first, each report once."""
    texts: list[str | None] = [*[f"report {i % 4}" for i in range(8)], None]
    top = Retrieval().predict(_encoder(), _data(tmp_path, texts, texts), Budget())["top"]
    assert top[:8, 0].tolist() == [f"i{i % 4}" for i in range(8)]
    assert [sorted(row) for row in top[:8].tolist()] == [["i0", "i1", "i2", "i3"]] * 8
    assert top[8].tolist() == [""] * 4


def test_the_nearest_reports_are_those_of_both_sections(tmp_path: Path) -> None:
    """The upper half of each image is the findings of one report, the lower half the impression of the next."""
    names = range(12)
    data = _data(tmp_path, [f"findings {i}" for i in names], [f"impression {i}" for i in names])
    data.images[:, SIDE // 2 :] = np.roll(data.images, -1, axis=0)[:, SIDE // 2 :]
    top = Retrieval().predict(_encoder(), data, Budget())["top"]
    assert [set(row[:2]) for row in top.tolist()] == [{f"i{i}", f"i{(i + 1) % 12}"} for i in names]


def test_followups_are_no_candidates_of_their_patient_s_images(tmp_path: Path) -> None:
    """Each of six patients has two studies; an image looks like the report of the other one."""
    texts: list[str | None] = [f"report {i}" for i in range(12)]
    data = _data(tmp_path, texts, texts)
    data.images[:] = data.images[np.arange(12) ^ 1]
    wrong, excluded = Retrieval(), Retrieval(followups="excluded")
    runs = [task.predict(_encoder(), data, Budget()) for task in (wrong, excluded)]
    for way in ("image-to-text", "text-to-image"):
        assert wrong.measure(runs[0])[f"recall@1/both/{way}"] == 0
        assert excluded.chance(runs[1])[f"recall@1/both/{way}"] == pytest.approx(1 / 11)
        assert wrong.chance(runs[0])[f"recall@1/both/{way}"] == pytest.approx(1 / 12)
    assert runs[0]["top"][:, 0].tolist() == [f"i{i}" for i in np.arange(12) ^ 1]
    for i, names in enumerate(runs[1]["top"].tolist()):
        assert f"i{i ^ 1}" not in names and len(set(names)) == 5 and "" not in names
    data.images[:] = data.images[np.arange(12) ^ 1]
    assert excluded.measure(excluded.predict(_encoder(), data, Budget()))["mean-recall"] == 1


def test_where_patients_are_not_known_nor_are_followups(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts: list[str | None] = ["a", "b", "c", "d"]
    data = _data(tmp_path, texts, texts)
    data.meta["traits"] = {"patients": "studies"}
    for followups, said in (("wrong", False), ("excluded", True)):
        Retrieval.model_validate({"followups": followups}).predict(_encoder(), data, Budget())
        assert ("patients are not known, only studies: follow-ups cannot be excluded" in caplog.text) == said


def test_a_text_that_the_patient_shares_with_others_is_excluded_too(tmp_path: Path) -> None:
    """Patients p0 (images 0 and 1) and p1 (2 and 3) have both texts; the patients p2 and p3 one of them each."""
    texts: list[str | None] = ["a", "b", "a", "b", "a", "a", "b", "b"]
    predictions = Retrieval(followups="excluded").predict(_encoder(), _data(tmp_path, texts, texts), Budget())
    chance = predictions["chance:recall@1/both/image-to-text"]
    assert chance.tolist() == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]
    back = predictions["chance:recall@1/both/text-to-image"]
    assert back.tolist() == pytest.approx([4 / 6] * 8)  # of eight images, less two of p0 and p1 with the other text
    assert np.isnan(predictions["figure:percentile/both/image-to-text"]).tolist() == [True] * 4 + [False] * 4
    assert sorted(predictions["top"][0].tolist()) == ["", "i0"]


def _resampled(task: Retrieval, predictions: Predictions, rows: np.ndarray) -> dict[str, np.ndarray]:
    return task.resample(predictions, np.bincount(rows, minlength=24)[None])


def test_a_bootstrap_sample_is_measured_like_its_rows(tmp_path: Path) -> None:
    data = _data(tmp_path, *_reports(), a=[i % 2 for i in range(24)])
    data.images[:] = np.random.default_rng(0).integers(0, 256, data.images.shape)
    task = Retrieval()
    predictions = task.predict(_encoder(), data, Budget())
    rows = np.random.default_rng(1).integers(0, 24, 24)
    measured = task.measure(predictions, rows)
    column = predictions["figure:recall@5/findings/image-to-text"][rows]
    assert measured["recall@5/findings/image-to-text"] == pytest.approx(np.nanmean(column))
    assert measured == pytest.approx({name: value[0] for name, value in _resampled(task, predictions, rows).items()})


def test_stored_embeddings_of_the_same_encoder_are_used(tmp_path: Path) -> None:
    data = _data(tmp_path, *_reports())
    text_embeddings(data, TextCache(FakeText(), tmp_path / "cache"), ("findings", "impression"))

    class Silent(FakeText):
        def encode(self, texts: list[str]) -> Float[Tensor, "texts width"]:
            raise AssertionError("asked again")

    cache = TextCache(Silent(), also=[tmp_path / "cache"])
    encoder = ImitateEncoder("fake", FakeModel(), Silent(), cache)
    assert Retrieval().measure(Retrieval().predict(encoder, data, Budget()))["mean-recall"] == 1.0


def test_stored_embeddings_of_an_encoder_of_the_same_name_are_not(tmp_path: Path) -> None:
    data = _data(tmp_path, *_reports())
    other = ConstantText()
    other.identity = "other"
    text_embeddings(data, TextCache(other, tmp_path / "cache"))
    cache = TextCache(FakeText(), also=[tmp_path / "cache"])
    encoder = ImitateEncoder("fake", FakeModel(), FakeText(), cache)
    assert Retrieval().measure(Retrieval().predict(encoder, data, Budget()))["mean-recall"] == 1.0


def test_too_few_reports_are_reported(tmp_path: Path) -> None:
    for impression in ([None] * 4, ["normal"] * 4):
        data = _data(tmp_path, [None] * 4, impression)
        with pytest.raises(UserError, match="fewer than two distinct reports in split 'test'"):
            Retrieval().predict(_encoder(), data, Budget())
    with pytest.raises(UserError, match="no images in split 'val'"):
        Retrieval(split="val").predict(_encoder(), data, Budget())
