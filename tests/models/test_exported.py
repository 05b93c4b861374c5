"""One folder, three readers: imitate, timm and transformers as they come from the index give the same features."""

import math

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from recipes import TINY_MODEL
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification

from imitate.config import ImitateConfig, Preprocessing
from imitate.data.augment import evaluation_view
from imitate.data.pixels import to_prepared
from imitate.errors import UserError
from imitate.models import exported
from imitate.models.imitate import Imitate, seeded_model

VIT = {"backbone": "vit_tiny_patch16_224", "backbone_options": {"depth": 4, "embed_dim": 48}, "image_size": 64,
       "prepared_size": 72, "grid": 4, "slots": 256}  # fmt: skip
NETWORKS = {
    "narrow": {},
    "plain": {"backbone_options": {}, "slots": 512},
    "vit": VIT,
    "vit-larger": {**VIT, "image_size": 96, "prepared_size": 96, "resize": "letterbox"},
    "registers": {**VIT, "backbone_options": {**VIT["backbone_options"], "reg_tokens": 2, "global_pool": "avg"}},
    "tagged": {**VIT, "backbone": "vit_tiny_patch16_224.augreg_in21k"},
    "one-channel": {"mean": (0.4,), "std": (0.2,), "range": (-1.0, 1.0)},
    "one-channel-vit": {**VIT, "mean": (0.4,), "std": (0.2,)},
}


def built(**changes: object) -> Imitate:
    config = ImitateConfig(**{**TINY_MODEL.model_dump(), **changes})
    model = seeded_model(config, pretrained=False, seed=0)
    for _ in range(3):  # running statistics
        model.encode_image(torch.randn(4, config.channels, config.image_size, config.image_size))
    return model.eval()


@pytest.mark.parametrize("changes", NETWORKS.values(), ids=NETWORKS)
@torch.inference_mode()
def test_three_readers_give_the_same_features(tmp_path, changes):
    model = built(**changes)
    exported.save(model, tmp_path)
    own = model.config
    images = torch.randn(3, own.channels, own.image_size, own.image_size)
    wanted = model.image(images).pooled

    again = Imitate.from_pretrained(tmp_path)
    assert again.config == own and not again.training
    assert all(torch.equal(each, again.state_dict()[name]) for name, each in model.state_dict().items())
    by_timm = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()(images)
    by_transformers = AutoModel.from_pretrained(tmp_path).eval()(images).pooler_output
    for found in (by_timm, by_transformers):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert wanted.std() > 1e-3 and exported.unread(tmp_path, model) == {}

    learner = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=5).eval()
    assert learner(images).shape == (3, 5)
    torch.testing.assert_close(learner.forward_head(learner.forward_features(images), pre_logits=True), wanted)


@torch.inference_mode()
def test_transformers_fine_tunes_it(tmp_path):
    model = built()
    exported.save(model, tmp_path)
    learner = AutoModelForImageClassification.from_pretrained(tmp_path, num_labels=5).eval()
    images = torch.randn(3, 3, 32, 32)
    assert learner(images).logits.shape == (3, 5)
    features = learner.timm_model.forward_head(learner.timm_model.forward_features(images), pre_logits=True)
    torch.testing.assert_close(features, model.image(images).pooled, rtol=1e-5, atol=1e-5)


def made_by_timm(folder) -> Tensor:
    model = timm.create_model(f"local-dir:{folder}")
    return timm.data.create_transform(**timm.data.resolve_model_data_config(model))


def picture(width: int, height: int) -> np.ndarray:
    """From black to white and without black borders, so that nothing of it is cut off or stretched."""
    y, x = np.mgrid[0:height, 0:width]
    waves = np.cos(x / 5) + np.cos(y / 7) + np.cos((x + 2 * y) / 11)
    gray = np.round((waves - waves.min()) / (waves.max() - waves.min()) * 255).astype(np.uint8)
    assert gray[0].any() and gray[-1].any() and gray[:, 0].any() and gray[:, -1].any()
    return gray


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"range": (-1024.0, 1024.0), "mean": (0.0, 1.0, 2.0), "std": (300.0, 200.0, 100.0)},
        {"mean": (0.4,), "std": (0.2,)},
        {"resize": "stretch-bicubic", "prepared_size": 32},
        {"resize": "crop-bicubic"},
    ],
)
def test_their_pixels_are_ours_where_nothing_is_cut_off_or_stretched(tmp_path, changes):
    model = built(**changes)
    exported.save(model, tmp_path)
    own, gray = model.config, picture(60, 50)
    ours = evaluation_view(torch.from_numpy(to_prepared(gray, own.prepared_size, own.resize)[0][None].copy()), own)
    shown = Image.fromarray(gray) if own.channels == 1 else Image.fromarray(gray).convert("RGB")
    theirs = made_by_timm(tmp_path)(shown)[None]
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    assert torch.equal(processor(shown, return_tensors="pt")["pixel_values"], theirs)


def test_a_letterbox_has_another_border(tmp_path):
    model = built(resize="letterbox")
    exported.save(model, tmp_path)
    own, gray = model.config, picture(60, 40)
    ours = evaluation_view(torch.from_numpy(to_prepared(gray, 36, "letterbox")[0][None]), own)[0]
    theirs = made_by_timm(tmp_path)(Image.fromarray(gray).convert("RGB"))
    inner = slice(4, 28)  # 24 of 36 rows have the image, less the crop of 2
    torch.testing.assert_close(theirs[:, inner], ours[:, inner])
    black = -torch.tensor(own.mean) / torch.tensor(own.std)
    torch.testing.assert_close(ours[:, :4], black[:, None, None].expand(3, 4, 32))
    assert theirs[:, :4].abs().max() < 0.02  # the mean


def test_timm_resizes_to_exactly_the_prepared_size():
    for seen in range(8, 520):
        for prepared in (seen, seen + 1, seen + 7, seen * 8 // 7, 2 * seen + 1):
            found = exported.timm_preprocessing(Preprocessing(prepared_size=prepared, image_size=seen))
            assert math.floor(seen / found["crop_pct"]) == prepared


def test_a_reader_that_does_not_get_the_features_is_named_with_the_reason(tmp_path):
    model = built()
    exported.save(model, tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    save_file({**state, "conv1.weight": state["conv1.weight"] * 1.01}, path, metadata={"format": "pt"})
    found = exported.unread(tmp_path, model)
    assert list(found) == ["timm", "transformers"] and all("features differ by up to" in why for why in found.values())
    save_file({name: each for name, each in state.items() if name != "conv1.weight"}, path, metadata={"format": "pt"})
    assert "conv1.weight" in exported.unread(tmp_path, model)["timm"]


def test_a_folder_that_lacks_a_part_of_the_model_is_refused(tmp_path):
    exported.save(built(), tmp_path)
    state = load_file(tmp_path / "heads.safetensors")
    name = "findings_head.0.weight"
    save_file({**state, name: state[name][:3].contiguous()}, tmp_path / "heads.safetensors")
    with pytest.raises(UserError, match=rf"model.safetensors and heads.safetensors does not fit .* 1 of .*{name}"):
        Imitate.from_pretrained(tmp_path)
    (tmp_path / "heads.safetensors").write_bytes(b"cut short")
    with pytest.raises(UserError, match=r"heads.safetensors is damaged or truncated"):
        Imitate.from_pretrained(tmp_path)
    (tmp_path / "heads.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no heads.safetensors, which an exported model needs: copy all"):
        Imitate.from_pretrained(tmp_path)
