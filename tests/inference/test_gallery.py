import numpy as np
import pandas as pd
import pytest
import torch
from folders import edit_rows, write_folder
from torch.nn.functional import normalize

from imitate.config import ImitateConfig
from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference import embeddings
from imitate.inference.encoder import Encoder, ImitateEncoder
from imitate.inference.gallery import Gallery, image_vectors, reports, text_vectors
from imitate.models.imitate import Imitate

WIDTH = 6


def units(rows: int, seed: int) -> torch.Tensor:
    return normalize(torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("branch", ["both", "findings", "impression"])
def test_products_are_the_mean_of_the_branchs_cosines_of_unit_vectors(branch):
    seen, text = {"findings": units(4, 0).numpy(), "impression": units(4, 1).numpy()}, units(3, 2).numpy()
    images, texts = image_vectors(seen, branch), text_vectors(text, branch)
    each = {"findings": seen["findings"] @ text.T, "impression": seen["impression"] @ text.T}
    each["both"] = (each["findings"] + each["impression"]) / 2
    assert np.allclose(images @ texts.T, each[branch], atol=1e-6)
    assert np.allclose(np.linalg.norm(images, axis=1), 1) and np.allclose(np.linalg.norm(texts, axis=1), 1)


def test_nearest_is_in_order_and_equal_ones_keep_theirs():
    gallery = Gallery(pd.DataFrame({"name": list("abcd")}), np.array([[0.1], [0.5], [0.5], [0.9]]))
    assert gallery.nearest(np.ones(1), 3)["name"].tolist() == ["d", "b", "c"]
    assert len(gallery.nearest(np.ones(1), 9)) == 4


class Words:
    """A text is the vector of its own seed; the model leaves it alone."""

    name, identity, width = "words", "words", WIDTH

    def encode(self, texts: list[str]) -> torch.Tensor:
        return torch.cat([units(1, sum(map(ord, text))) for text in texts]) if texts else torch.zeros(0, WIDTH)


class Same(Imitate):
    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.image, self.config = torch.nn.Identity(), ImitateConfig()

    def encode_text(self, texts: torch.Tensor) -> torch.Tensor:
        return texts


def folder(tmp_path, findings: list[str | None], impression: list[str | None]) -> Corpus:
    root = write_folder(tmp_path / "data", n=len(findings))
    edit_rows(root, findings=findings, impression=impression)
    return Corpus.open(root)


def encoder() -> ImitateEncoder:
    return ImitateEncoder("fake", Same(), Words())


def test_identical_reports_count_once_and_a_missing_section_takes_no_part(tmp_path):
    data = folder(tmp_path, ["a", "b", "a", None, None, "a"], ["x", None, "x", "y", None, "z"])
    found = reports(encoder(), data, "both", "cpu")
    assert found.table["image_id"].tolist() == ["image0000", "image0001", "image0003", "image0005"]
    assert found.table["images"].tolist() == [2, 1, 1, 1]
    query, read = {"findings": units(1, 7).numpy(), "impression": units(1, 8).numpy()}, Words()
    a, b, x, y, z = (read.encode([text])[0].numpy() for text in "abxyz")
    f, i = query["findings"][0], query["impression"][0]
    expected = np.stack([(f @ a + i @ x) / 2, f @ b, i @ y, (f @ a + i @ z) / 2])
    assert np.allclose(found.vectors @ image_vectors(query, "both")[0], expected, atol=1e-3)  # float16
    alone = reports(encoder(), data, "findings", "cpu")
    assert alone.table["findings"].tolist() == ["a", "b"] and alone.table["images"].tolist() == [3, 1]
    assert np.allclose(alone.vectors @ f, [f @ a, f @ b], atol=1e-3)


def test_a_folder_without_that_section_is_reported(tmp_path):
    data = folder(tmp_path, ["a", "b"], [None, None])
    with pytest.raises(UserError, match="has no impression to find"):
        reports(encoder(), data, "impression", "cpu")


def test_batches_of_pixels_may_come_without_their_number_but_not_without_images():
    config = ImitateConfig(prepared_size=8, image_size=8)
    with pytest.raises(UserError, match="no images: give at least one"):
        embeddings.embed_pixels(Encoder("fake", torch.nn.Identity(), config), iter(list[np.ndarray]()), "cpu")


class Broken(Words):
    def encode(self, texts: list[str]) -> torch.Tensor:
        return super().encode(texts) * torch.nan


def test_texts_without_finite_vectors_are_refused(tmp_path):
    """They would be ranked last, and give a score of NaN, which a picture shows as 0."""
    broken = ImitateEncoder("fake", Same(), Broken())
    with pytest.raises(UserError, match="fake gives text embeddings that are not finite: its weights are unusable"):
        embeddings.embed_texts(broken, ["a"], "cpu")
    with pytest.raises(UserError, match="gives text embeddings that are not finite"):
        reports(broken, folder(tmp_path, ["a", "b"], [None, None]), "findings", "cpu")
