import pytest
import timm
import torch
from timm.models import PretrainedCfg
from torch import nn

from imitate.config import Recipe
from imitate.errors import UserError
from imitate.models import image
from imitate.models.image import ImageEncoder, pinned


@pytest.mark.parametrize(
    "name, options, strides, stem",
    [
        ("resnet18", {"channels": (8, 16, 32, 64)}, [4, 8, 16, 32], True),
        ("convnext_atto", {}, [4, 8, 16, 32], False),
        ("vit_tiny_patch16_224", {"img_size": 64, "depth": 4}, [16, 16, 16, 16], False),
    ],
)
def test_pyramid_contract(name, options, strides, stem):
    encoder = ImageEncoder(name, options=options).eval()
    features = encoder(torch.randn(2, 3, 64, 64))
    assert encoder.strides == strides
    assert [level.shape for level in features.levels] == [
        (2, c, 64 // s, 64 // s) for c, s in zip(encoder.channels, strides, strict=True)
    ]
    assert features.pooled.shape == (2, encoder.width)
    maps = encoder.pyramid(torch.randn(2, 3, 64, 64))
    assert len(maps) == 4 + stem
    if stem:
        assert maps[0].shape == (2, encoder.stem_channels, 32, 32)


def test_pooled_is_the_global_average_of_the_deepest_level():
    encoder = ImageEncoder("resnet18", options={"channels": (8, 16, 32, 64)}).eval()
    features = encoder(torch.randn(2, 3, 64, 64))
    torch.testing.assert_close(features.pooled, features.levels[-1].mean((2, 3)))


def test_unknown_network_and_wrong_option_are_reported():
    with pytest.raises(UserError, match="resnet18"):
        ImageEncoder("resnet1888")
    with pytest.raises(UserError, match="nonsense"):
        ImageEncoder("resnet18", options={"nonsense": 1})


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "ghostnet_050", "resnet18"])
def test_the_pooled_feature_has_the_width_that_is_declared(name):
    """Some networks have a hidden layer between the deepest level and the pooled feature."""
    encoder = ImageEncoder(name).eval()
    assert encoder(torch.randn(2, 3, 64, 64)).pooled.shape == (2, encoder.width)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_networks_that_are_built_for_one_size_are_built_for_the_images(name):
    options = {"depth": 4} if name.startswith("vit") else {"embed_dim": 24, "depths": [1, 1, 1, 1]}
    encoder = ImageEncoder(name, options=options, size=96).eval()
    features = encoder(torch.randn(1, 3, 96, 96))
    assert features.levels[-1].shape[2:] == (96 // encoder.strides[-1],) * 2
    assert encoder.options == {**options, "img_size": 96}
    assert ImageEncoder(name, options=options, size=224).options == options  # its own size: as it always was


@pytest.mark.parametrize("name, side", [("vit_small_patch14_dinov2", 14), ("swin_tiny_patch4_window7_224", 32)])
def test_positions_are_interpolated_for_images_of_other_sizes(name, side):
    """A ViT at twice its size is the ViT of that size with interpolated positions."""
    options = {"depth": 4, "embed_dim": 48} if side == 14 else {"embed_dim": 24, "depths": [1, 1, 1, 1]}
    encoder = ImageEncoder(name, options=options, size=4 * side).eval()
    images = torch.randn(1, 3, 8 * side, 8 * side)
    found = encoder(images)
    assert found.levels[-1].shape[2:] == (8 * side // encoder.strides[-1],) * 2
    encoder.check_side(6 * side)
    if side == 14:
        larger = timm.create_model(name, num_classes=0, img_size=8 * side, **options).eval()
        position = timm.layers.resample_abs_pos_embed(encoder.network.pos_embed, [8, 8])
        larger.load_state_dict({**encoder.network.state_dict(), "pos_embed": position})
        torch.testing.assert_close(found.pooled, larger(images))
        with pytest.raises(UserError, match="vit_small_patch14_dinov2 does not accept images of 60 pixels"):
            encoder.check_side(60)


def test_tokens_that_are_no_place_are_excluded_from_the_pyramid():
    options = {"img_size": 56, "depth": 4, "embed_dim": 48}
    encoder = ImageEncoder("vit_small_patch14_reg4_dinov2", options=options).eval()
    images, kept = torch.randn(1, 3, 56, 56), []
    encoder.network.blocks[-1].register_forward_hook(lambda module, inputs, output: kept.append(output))
    levels = encoder.pyramid(images)
    assert [tuple(level.shape) for level in levels] == [(1, 48, 4, 4)] * 4
    assert kept[0].shape[1] == 1 + 4 + 16  # CLS, registers, patches
    assert torch.equal(levels[-1].flatten(2).transpose(1, 2), kept[0][:, 5:])


def test_a_size_that_a_network_cannot_take_is_reported():
    with pytest.raises(
        UserError, match=r"crossvit_tiny_240 accepts images of 240 px, not of 64: set model.image_size=240"
    ):
        ImageEncoder("crossvit_tiny_240", size=64)


def test_weights_that_cannot_be_had_are_reported_before_anything_is_built(monkeypatch):
    monkeypatch.setattr("imitate.models.hub.is_available", lambda repository: repository != "timm/resnet18.a1_in1k")
    monkeypatch.setattr("timm.create_model", lambda *_, **__: pytest.fail("built"))
    with pytest.raises(UserError, match="timm's weights for resnet18: the hub does not respond.*pretrained=false"):
        ImageEncoder("resnet18", pretrained=True)
    with pytest.raises(UserError, match="no weights 'resnet18.nonsense'; it has .*resnet18.a1_in1k"):
        ImageEncoder("resnet18.nonsense")


def test_a_run_records_the_tag_of_its_weights_and_the_statistics_they_were_trained_with():
    half = (0.5, 0.5, 0.5)
    vit = pinned(Recipe.model_validate({"model": {"backbone": "vit_base_patch16_224"}})).model
    assert vit.backbone == "vit_base_patch16_224.augreg2_in21k_ft_in1k" and vit.mean == vit.std == half
    resnet = Recipe.model_validate({"model": {"backbone": "resnet50.tv_in1k"}})
    assert pinned(resnet) == resnet  # its tag is given, and ImageNet's statistics are the default
    own = pinned(Recipe.model_validate({"model": {"backbone": "vit_base_patch16_224", "mean": [0.3], "std": [0.2]}}))
    assert own.model.mean == (0.3,) and own.model.std == (0.2,)
    fresh = Recipe.model_validate({"model": {"backbone": "vit_base_patch16_224"}, "pretrained": False})
    assert pinned(fresh) == fresh
    again = Recipe.model_validate(pinned(Recipe()).model_dump(mode="json"))
    assert pinned(again) == again == pinned(Recipe())


@pytest.mark.parametrize(
    ("strides", "levels", "stem"),
    [
        ([2, 4, 8, 16, 32], [1, 2, 3, 4], 0),
        ([2, 2, 4, 8, 16, 32], [2, 3, 4, 5], 1),
        ([1, 4, 8, 16, 32], [1, 2, 3, 4], None),
        ([4, 8, 16, 32], [0, 1, 2, 3], None),
        ([16] * 12, [2, 5, 8, 11], None),
        ([16] * 4, [0, 1, 2, 3], None),
    ],
)
def test_the_levels_are_the_four_deepest_strides_or_spread_over_the_blocks(strides, levels, stem):
    assert image._choose(strides) == (levels, stem)
    with pytest.raises(UserError, match="the network has 3 feature levels, but 4 are needed"):
        image._choose(strides[:3])


def test_blocks_above_count_up_to_the_heads():
    encoder = ImageEncoder("resnet18", options={"channels": (4, 8, 16, 32)})
    above = encoder.blocks_above()
    assert above.keys() == dict(encoder.network.named_parameters()).keys()
    blocks = [f"layer{stage}.{block}" for stage in (4, 3, 2, 1) for block in (1, 0)]
    assert [above[f"{block}.conv1.weight"] for block in blocks] == list(range(8)) and above["conv1.weight"] == 8
    assert encoder.spared == set() and encoder.normalises_batches
    vit = ImageEncoder("vit_tiny_patch16_224", options={"img_size": 64, "depth": 4})
    above = vit.blocks_above()
    assert [above[f"blocks.{i}.norm1.weight"] for i in range(4)] == [3, 2, 1, 0] and above["pos_embed"] == 4
    assert {"pos_embed", "cls_token"} <= vit.spared and not vit.normalises_batches


def test_a_frozen_encoder_stays_in_eval_mode():
    encoder = ImageEncoder("resnet18", options={"channels": (4, 8, 16, 32)})
    assert encoder.train().training and all(p.requires_grad for p in encoder.parameters())
    encoder.freeze()
    assert encoder.frozen and not encoder.train().training and not encoder.network.bn1.training
    assert not any(p.requires_grad for p in encoder.parameters())


def test_stages_are_the_modules_of_the_levels():
    encoder = ImageEncoder("resnet18", options={"channels": (4, 8, 16, 32)}).eval()
    kept = []
    for stage in encoder.stages:
        stage.register_forward_hook(lambda module, inputs, output: kept.append(output))
    levels = encoder(torch.randn(2, 3, 64, 64)).levels
    assert len(kept) == 4 and all(torch.equal(a, b) for a, b in zip(kept, levels, strict=True))


def test_one_statistic_that_the_recipe_sets_keeps_both():
    for own in ({"mean": [0.3] * 3}, {"std": [0.2] * 3}):
        model = pinned(Recipe.model_validate({"model": {"backbone": "vit_base_patch16_224", **own}})).model
        assert model.backbone == "vit_base_patch16_224.augreg2_in21k_ft_in1k"
        assert (model.mean, model.std) != ((0.5,) * 3, (0.5,) * 3)


def test_a_network_without_weights_or_features_is_reported(monkeypatch):
    with pytest.raises(UserError, match="timm has no weights for somenet: set pretrained=false"):
        image._check_weights("somenet", PretrainedCfg())
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: nn.Identity())
    with pytest.raises(UserError, match="timm's resnet18 gives no intermediate features"):
        ImageEncoder("resnet18")

    def refuse(*_, **__):
        raise ValueError("x" * 300 + "\nmore")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(UserError, match=r"timm cannot build resnet18 with the options {'a': 1}: x{200}$"):
        ImageEncoder("resnet18", options={"a": 1})
