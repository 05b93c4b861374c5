"""The map of a cell is the slope of the similarity as that cell alone grows: finite differences say so too."""

from types import SimpleNamespace

import pytest
import torch
from recipes import TINY_MODEL
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from imitate.config import ImitateConfig
from imitate.errors import UserError
from imitate.inference.encoder import ImitateEncoder
from imitate.inference.heatmap import LEVELS, contributions, heatmap, of_places, over_pixels, over_square, similarity
from imitate.models.imitate import freeze_all, seeded_model
from imitate.models.places import SpatialAggregation

BRANCHES = ["findings", "impression", "both"]
NETWORKS = {  # whose stages give channels first, channels last, and tokens after one that is no place
    "resnet18": {"backbone_options": {"channels": [4, 8, 16, 32]}},
    "swin_tiny_patch4_window7_224": {"backbone_options": {"img_size": 64, "embed_dim": 8, "depths": (1, 1, 1, 1)}},
    "vit_tiny_patch16_224": {"backbone_options": {"img_size": 64, "depth": 4, "embed_dim": 24}},
}


def model(backbone: str = "resnet18", **changes: object) -> ImitateEncoder:
    """In float64, with the running statistics of random images."""
    options = {
        "prepared_size": 72,
        "image_size": 64,
        "backbone": backbone,
        "slots": 512,
        **NETWORKS[backbone],
        **changes,
    }
    made = seeded_model(ImitateConfig(**(TINY_MODEL.model_dump() | options)), pretrained=False, seed=0)
    for _ in range(10):
        made.encode_image(pictures(16, seed=9).float())
    freeze_all(made)
    return ImitateEncoder("made", made.double().eval())


def pictures(count: int, seed: int = 0) -> Tensor:
    coarse = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.interpolate(coarse, size=(64, 64), mode="bilinear")


def text(count: int) -> Tensor:
    return torch.randn(count, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def cells_by_differences(made: ImitateEncoder, images: Tensor, level: int, branch: str) -> Tensor:
    """(high, wide) of one image: each cell of the stage's output is made a little larger and a little smaller."""
    high, wide = made.image(images).levels[level].shape[2:]

    def scaled(output: Tensor, cell: int, step: float) -> Tensor:
        factor = torch.ones_like(output)
        if output.ndim == 3:
            factor[:, made.image.network.num_prefix_tokens + cell] += step
        elif output.shape[1:3] == (high, wide):
            factor[:, cell // wide, cell % wide] += step
        else:
            factor[:, :, cell // wide, cell % wide] += step
        return output * factor

    def similar(cell: int, step: float) -> Tensor:
        hook = made.image.stages[level].register_forward_hook(lambda module, inputs, out: scaled(out, cell, step))
        found = similarity(made.look(images)[0], text(1), branch)
        hook.remove()
        return found

    slopes = [(similar(cell, 1e-5) - similar(cell, -1e-5)) / 2e-5 for cell in range(high * wide)]
    return torch.cat(slopes).view(high, wide)


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("backbone", NETWORKS)
def test_a_cells_share_is_the_slope_of_the_similarity_as_the_cell_grows(backbone, branch):
    made, images = model(backbone), pictures(1)
    for level, cells in zip(LEVELS, contributions(made, images, text(1), branch), strict=True):
        expected = cells_by_differences(made, images, level, branch)
        assert torch.allclose(cells[0] / cells[0].numel(), expected, rtol=1e-4, atol=1e-9)
        assert expected.abs().max() > 1e-5 or backbone != "resnet18"


def test_the_last_places_of_a_network_that_pools_a_token_have_no_part_in_its_impression():
    c3, c4 = contributions(model("vit_tiny_patch16_224"), pictures(1), text(1), "impression")
    assert c3.any() and not c4.any()


def test_maps_are_averaged_upsampled_and_blurred_with_mirrored_edges():
    maps = [torch.randn(2, 2, 2), torch.randn(2, 4, 4)]
    expected = sum(F.interpolate(each[:, None], (56, 56), mode="bilinear")[:, 0] for each in maps) / 2
    blurred = gaussian_filter(expected.numpy(), sigma=(0, 2, 2), mode="mirror", truncate=3)
    assert torch.allclose(over_pixels(maps, 56), torch.from_numpy(blurred), atol=1e-5)


def test_a_heatmap_is_of_c3_and_c4():
    made, images = model(), pictures(2)
    each = contributions(made, images, text(2), "both")
    assert [tuple(cells.shape) for cells in each] == [(2, 4, 4), (2, 2, 2)]
    assert torch.equal(heatmap(made, images, text(2)), over_pixels(each, 64))


def test_the_map_of_both_branches_is_the_mean_of_theirs():
    made, images = model(), pictures(2)
    findings, impression, both = (heatmap(made, images, text(2), branch) for branch in BRANCHES)
    assert torch.allclose(both, (findings + impression) / 2) and not torch.allclose(findings, impression)


def test_a_map_does_not_depend_on_its_batch_and_turns_round_with_the_text():
    made, images = model(), pictures(3)
    maps = heatmap(made, images, text(3), "findings")
    assert torch.allclose(maps[1:2], heatmap(made, images[1:2], text(3)[1:2], "findings"))
    assert torch.allclose(heatmap(made, images, -text(3), "findings"), -maps)
    assert torch.allclose(heatmap(made, images, 7 * text(3), "findings"), maps)


def test_a_branch_that_reads_no_deep_level_has_no_map_there():
    made = model(levels=(1,), keep=(0.5,))
    with pytest.raises(UserError, match="no map: the branch findings of .* reads neither level 3 nor level 4"):
        contributions(made, pictures(1), text(1), "findings")
    assert all(cells.any() for cells in contributions(made, pictures(1), text(1), "impression"))


def test_a_model_in_training_mode_is_a_mistake_of_ours():
    made = model()
    made.model.train()
    with pytest.raises(AssertionError, match="training mode"):
        heatmap(made, pictures(1), text(1))


def test_a_model_of_swapped_sections_is_explained_by_the_branch_that_learned_the_section():
    plain, swapped = model(), model(texts="swapped")
    images = pictures(2)
    for section, other in (("findings", "impression"), ("impression", "findings")):
        assert torch.equal(heatmap(swapped, images, text(2), section), heatmap(plain, images, text(2), other))
        assert torch.equal(swapped.look(images)[0][section], plain.look(images)[0][other])
    assert not torch.allclose(
        heatmap(plain, images, text(2), "findings"), heatmap(plain, images, text(2), "impression")
    )


def test_a_model_of_one_image_embedding_has_one_map():
    made = model(levels=(), keep=())
    assert list(made.look(pictures(1))[0]) == ["image"]
    findings, impression, both = (
        heatmap(made, pictures(1), text(1), branch) for branch in ("findings", "impression", "both")
    )
    assert torch.equal(findings, impression) and torch.allclose(findings, both)


SPATIAL = {"aggregation": "spatial", "grid": 4, "token_width": 16}


def test_attention_over_places_is_explained_by_what_each_token_adds():
    """With the attention held, the similarity changes by M_t / T per relative change of token t."""
    made, images, words = model(**SPATIAL), pictures(2), text(2)
    aggregation, step = made.model.aggregation, 1e-6
    found = torch.stack(of_places(made, images, words, "findings"), 1)
    assert found.shape == (2, 4, 4, 4)
    tokens = aggregation.tokens(made.image(images).levels)
    weights = aggregation.weights(tokens)

    def similarity_of(tokens):
        return F.cosine_similarity(made.model.project_findings(aggregation.read(tokens, weights).findings), words)

    for token in (0, 21, 63):
        higher, lower = tokens.clone(), tokens.clone()
        higher[:, token] *= 1 + step
        lower[:, token] *= 1 - step
        slope = (similarity_of(higher) - similarity_of(lower)) / (2 * step)
        torch.testing.assert_close(found.flatten(1)[:, token], 64 * slope, rtol=1e-5, atol=1e-8)
    maps = heatmap(made, images, words, "findings")
    assert torch.equal(maps, over_pixels(list(found.unbind(1)), 64)) and maps.shape == (2, 64, 64)


def test_a_grounded_model_shows_the_cosine_of_text_and_place():
    made, images, words = model(**SPATIAL, grounding=True), pictures(2), text(2)
    tokens = made.model.aggregation.tokens(made.image(images).levels)
    vectors = tokens @ made.model.aggregation.place_head.weight.T
    expected = F.cosine_similarity(vectors, words[:, None].expand_as(vectors), dim=2).view(2, 4, 4, 4)
    torch.testing.assert_close(torch.stack(of_places(made, images, words, "both"), 1), expected)
    assert heatmap(made, images, words).shape == (2, 64, 64)


class Planted(ImitateEncoder):
    """A spatial aggregation without positions, over one level that is another at one place, which its text names."""

    def __init__(self, row: int, column: int) -> None:
        changes = SPATIAL | {"levels": (4,), "keep": (1.0,), "grounding": True}
        aggregation = SpatialAggregation(ImitateConfig(**(TINY_MODEL.model_dump() | changes)), [8] * 4).eval()
        for each in (aggregation.row_embedding, aggregation.column_embedding, aggregation.level_embedding):
            torch.nn.init.zeros_(each)
        level = torch.randn(8, 1, 1).expand(8, 4, 4).clone()
        level[:, row, column] = torch.randn(8)
        seen = SimpleNamespace(levels=[level[None]] * 4)
        self.model = SimpleNamespace(aggregation=aggregation, image=lambda images: seen)
        self.words = aggregation.place_head(aggregation.tokens(seen.levels))[:, 4 * row + column].detach()


@pytest.mark.parametrize(("row", "column"), [(0, 3), (2, 1), (3, 0)])
def test_the_map_of_a_text_that_stands_at_a_place_peaks_there(row, column):
    torch.manual_seed(row)
    encoder, images = Planted(row, column), torch.zeros(1, 3, 64, 64)
    down, across = divmod(int(heatmap(encoder, images, encoder.words)[0].argmax()), 64)
    assert (down // 16, across // 16) == (row, column)


def test_a_map_goes_on_beyond_what_the_network_sees_as_at_its_edge():
    found = over_square(torch.arange(4.0).view(1, 2, 2), 5)
    assert found[0].tolist() == [[0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [2, 2, 3, 3, 3], [2, 2, 3, 3, 3], [2, 2, 3, 3, 3]]


def test_maps_of_attention_over_places_are_chosen_by_name():
    made, images, words = model(**SPATIAL), pictures(2), text(2)
    weights = made.model.aggregation.maps(made.image(images).levels)
    for branch, expected in (("findings", weights[:, 0]), ("impression", weights[:, 1]), ("both", weights.mean(1))):
        found = heatmap(made, images, words, branch, "attention")
        torch.testing.assert_close(found, over_pixels(list(expected.unbind(1)), 64))
        assert torch.equal(found, heatmap(made, images, -words, branch, "attention"))
    assert torch.equal(heatmap(made, images, words, "both", "places"), heatmap(made, images, words))
    gradient = heatmap(made, images, words, "both", "gradient")
    torch.testing.assert_close(gradient, over_pixels(contributions(made, images, words, "both"), 64))
    for kind in ("places", "attention"):
        with pytest.raises(UserError, match=f"map {kind}: made has no attention over positions"):
            heatmap(model(), images, words, "both", kind)
