"""What a run can start from: folders and files as their writers leave them, and a cache of the hub, all on this disk."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from peer_files import randomised, tiny_resnet
from recipes import TINY_MODEL
from runs import write_run
from safetensors.torch import save_file
from tiny_peers import write_gloria
from torch import nn

from imitate.config import Recipe
from imitate.errors import UserError
from imitate.inference.export import export_model
from imitate.models.imitate import Imitate, seeded_model
from imitate.models.peers.huggingface import IMAGENET_MEAN
from imitate.training.checkpoint import LAST
from imitate.training.warm_start import start_from
from imitate.training.weights import Weights, open_weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def opened(source: object, backbone: str = "resnet18") -> Weights:
    return open_weights(Recipe(init=str(source), model={"backbone": backbone, "image_size": 32}))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("weights")
    write_run(root, temperature=0.04, mean=(0.4,) * 3)
    return root


def write_cache(monkeypatch: pytest.MonkeyPatch, cache: Path, repository: str, revision: str = "main") -> Path:
    """The folder of a repository's snapshot in the hub's cache, from which alone the hub's client then reads."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot, reference = folder / "snapshots" / COMMIT, folder / "refs" / revision
    snapshot.mkdir(parents=True)
    reference.parent.mkdir(parents=True)
    reference.write_text(COMMIT)
    return snapshot


@pytest.mark.parametrize("place", ["run", "run/model"])
def test_a_model_of_ours_brings_its_text_encoder_and_temperature(root, place):
    found = opened(root / place)
    assert found.title == "a model of ours on resnet18" and found.commit is None
    assert found.statistics == {"mean": (0.4,) * 3, "std": TINY_MODEL.std, "range": (0.0, 1.0)}
    assert found.encoders.keys() == {"text"} and found.encoders["text"].width == 8
    assert found.objective["log_temperature"].exp().item() == pytest.approx(0.04)
    expected = Imitate.from_pretrained(root / "run" / "model").image.network.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.image.items())


@pytest.mark.parametrize("place", ["model", "snapshots/step-0000004", "top/step-0000004"])
def test_a_model_within_a_run_brings_its_encoder_of_prior_reports(root, tmp_path, place):
    run = shutil.copytree(root / "run", tmp_path / "run")
    shutil.copytree(run / "text", run / "prior")
    if not (run / place).exists():
        shutil.copytree(run / "model", run / place)
    assert opened(run / place).encoders.keys() == {"text", "prior"}


@pytest.mark.parametrize(("learned", "expected"), [(0.04 * (1 + 1e-6), 0.04 * (1 + 1e-6)), (0.05, 0.04)])
def test_the_checkpoint_of_a_run_has_the_rest_and_averaged_weights_the_temperature(root, tmp_path, learned, expected):
    run = shutil.copytree(root / "run", tmp_path / "run")
    kept = {"log_temperature": torch.tensor(learned).log(), "bias": torch.tensor(-9.5)}
    torch.save({"objective": kept}, run / LAST)
    found = opened(run).objective
    assert found["bias"] == -9.5 and found["log_temperature"] == torch.tensor(expected).log()
    assert opened(run / "model").objective.keys() == {"log_temperature"}  # which may be of another step
    torch.save({"objective": {}}, run / LAST)
    assert opened(run).objective == {}  # the temperature was fixed
    (run / LAST).write_bytes(b"damaged")
    assert opened(run).objective.keys() == {"log_temperature"}


@pytest.mark.parametrize(
    ("learned", "taken"), [(False, set()), (True, {"log_temperature"}), (None, {"log_temperature"})]
)
def test_a_temperature_is_taken_where_it_was_learned_or_an_older_model_does_not_say(tmp_path, learned, taken):
    """From whichever folder; where nothing records it, only a run's checkpoint can say it."""
    run = write_run(tmp_path, temperature_learned=learned)
    config = json.loads((run / "model" / "config.json").read_text())
    if learned is None:  # as older versions wrote it
        del config["temperature_learned"]
        (run / "model" / "config.json").write_text(json.dumps(config))
    kept = {"log_temperature": torch.tensor(0.07).log()} if learned else {}
    torch.save({"objective": kept}, run / LAST)
    shutil.copytree(run / "model", run / "best")
    export_model(str(run), tmp_path / "exported")
    for place in (run / "best", run / "model", tmp_path / "exported"):
        assert opened(place).objective.keys() == taken
    assert opened(run).objective.keys() == (taken if learned is not None else set())


def test_a_published_encoder_gives_its_image_side(tmp_path):
    found = opened(write_gloria(tmp_path), "resnet50")
    assert found.title == "GLoRIA" and found.model is None and not found.encoders
    assert found.ignored[:2] == ("its projection", "its text encoder") and found.statistics["std"] == (0.5,) * 3
    assert found.image["layer4.0.conv3.weight"].shape == (2048, 512, 1, 1)


@torch.no_grad()
def test_a_dinov2_of_transformers_is_the_image_encoder_of_a_recipe_at_its_size_and_at_others(tmp_path):
    from transformers import Dinov2Config, Dinov2Model

    shape = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 1, "image_size": 56, "patch_size": 14}
    network = randomised(Dinov2Model(Dinov2Config(**shape)))
    network.save_pretrained(tmp_path)
    config = {"backbone": "vit_small_patch14_dinov2", "levels": (), "keep": (),
              "backbone_options": {"embed_dim": 64, "depth": 4, "num_heads": 1}}  # fmt: skip
    for side in (56, 28):
        recipe = Recipe(init=str(tmp_path), model={**config, "image_size": side})
        model = seeded_model(recipe.model, pretrained=False, seed=0)
        start = start_from(model, open_weights(recipe), recipe, {})
        assert start.loaded == {"image": 62} and start.interpolated == ["pos_embed"] * (side == 28)
        assert start.taken["mean"] == IMAGENET_MEAN and not start.unused
        pictures = torch.randn(2, 3, side, side)
        if side == 56:
            expected = network(pixel_values=pictures).pooler_output
            torch.testing.assert_close(model.eval().image(pictures).pooled, expected, atol=1e-5, rtol=1e-5)
        assert model.eval().image(pictures).levels[0].shape == (2, 64, side // 14, side // 14)


def test_one_channel_becomes_three_equal_ones(tmp_path):
    network = tiny_resnet(1)
    network.fc = nn.Linear(2048, 18)
    torch.save(network.state_dict(), tmp_path / "xrv.pt")
    found = opened(tmp_path / "xrv.pt", "resnet50")
    gray = torch.randn(2, 1, 32, 32)
    kernel = found.image["conv1.weight"]
    again = nn.functional.conv2d(gray.repeat(1, 3, 1, 1), kernel, stride=2, padding=3)
    torch.testing.assert_close(again, network.conv1(gray), atol=1e-5, rtol=1e-5)
    assert found.statistics == {"mean": (0.0,) * 3, "std": (1.0,) * 3, "range": (-1024.0, 1024.0)}


def test_a_file_of_an_encoder_alone_is_read_beside_the_statistics_of_its_network(tmp_path):
    state = timm.create_model("test_vit", num_classes=0).state_dict()
    save_file(state, tmp_path / "test_vit.safetensors")
    for source in (tmp_path / "test_vit.safetensors", tmp_path):
        found = opened(source, "test_vit")
        assert found.title == "the file test_vit.safetensors" and found.image.keys() == state.keys()
        assert found.statistics == {"mean": (0.5,) * 3, "std": (0.5,) * 3} and found.network is None


def test_a_run_without_a_model_is_no_bare_file(root, tmp_path):
    """Its checkpoint would give the image encoder alone, with the statistics of another network."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "starts.jsonl").write_text("{}\n")
    torch.save({"model": {}}, run / LAST)
    with pytest.raises(UserError, match="run has no model yet: let it reach its first validation"):
        opened(run)


def test_weights_of_the_hub_are_those_of_the_revision_whose_commit_is_recorded(root, tmp_path, monkeypatch):
    snapshot = write_cache(monkeypatch, tmp_path / "cache", "someone/model", "v1")
    Imitate.from_pretrained(root / "run" / "model").save(snapshot)
    found = opened("hf-hub:someone/model@v1")
    assert found.commit == COMMIT and found.model is not None
    for absent in ("hf-hub:someone/model@v2", "hf-hub:someone/other@v1"):
        with pytest.raises(
            UserError, match=rf"cannot get {absent[7:]} from the hub .*: check the name, or give a folder"
        ):
            opened(absent)


def test_weights_of_timm_are_read_from_the_cache_at_the_size_of_the_images(tmp_path, monkeypatch):
    state = randomised(timm.create_model("test_vit", num_classes=1000)).state_dict()
    snapshot = write_cache(monkeypatch, tmp_path / "cache", "timm/test_vit.r160_in1k")
    save_file(state, snapshot / "model.safetensors")
    (snapshot / "config.json").write_text(json.dumps({"architecture": "test_vit", "num_classes": 1000}))
    found = opened("timm:test_vit.r160_in1k", "test_vit")
    assert found.title == "timm's weights of test_vit.r160_in1k"
    assert torch.equal(found.image["blocks.0.attn.qkv.weight"], state["blocks.0.attn.qkv.weight"])
    assert found.image["pos_embed"].shape[1] == 1 + (32 // 16) ** 2


@pytest.mark.parametrize(
    "source, message",
    [
        ("absent", "no model at absent: there is no such folder$"),
        ("someone/model", "no such folder; a repository of the hub is hf-hub:someone/model"),
        ("empty", "init: empty has no weights: give a run, an exported model, a published encoder or a file"),
        ("text.pth", "text.pth is not a file of plain tensors"),
        ("timm:resnet1888", "timm has no network 'resnet1888'"),
    ],
)
def test_what_holds_no_weights_is_reported(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("text.pth").write_text("hello")
    with pytest.raises(UserError, match=message):
        opened(source)


def test_a_missing_package_of_the_hub_is_reported(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="hf-hub:a/b needs the package huggingface_hub: pip install huggingface_hub"):
        opened("hf-hub:a/b@v1")
