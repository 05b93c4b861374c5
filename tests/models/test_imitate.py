import json
import os

import pytest
import torch
from recipes import TINY_MODEL as TINY
from torch import nn

from imitate.config import ImitateConfig
from imitate.errors import UserError
from imitate.models.heads import PresentBatchNorm
from imitate.models.imitate import Imitate, parameter_count, seeded_model


def test_published_size():
    """About 30.7 M trainable parameters, as published."""
    assert parameter_count(Imitate(ImitateConfig())) == pytest.approx(30.7e6, rel=0.01)


def test_save_and_load_are_exact_and_deterministic(tmp_path):
    model = seeded_model(TINY, pretrained=False, seed=1)
    model.encode_image(torch.randn(8, 3, 32, 32))  # move the running statistics
    model.save(tmp_path)
    again, images = Imitate.from_pretrained(tmp_path), torch.randn(2, 3, 32, 32)
    model.eval()
    for ours, theirs in zip(model.encode_image(images)[:2], again.encode_image(images)[:2], strict=True):
        assert torch.equal(ours, theirs)
    assert again.config == TINY and not again.training


def test_a_folder_holds_the_weights_and_the_config_and_needs_both(tmp_path):
    model = seeded_model(TINY, pretrained=False, seed=1)
    model.save(tmp_path / "a" / "b")
    model.save(tmp_path / "a" / "b")
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {"config.json", "model.safetensors"}
    written = json.loads((tmp_path / "a" / "b" / "config.json").read_text())
    assert written == {"format_version": 1, **TINY.model_dump(mode="json")}
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "a" / "b" / name).rename(tmp_path / name)
        with pytest.raises(UserError, match="no model at .*: it must hold config.json and model.safetensors"):
            Imitate.from_pretrained(tmp_path / "a" / "b")
        (tmp_path / name).rename(tmp_path / "a" / "b" / name)


def test_a_folder_in_onnx_is_named_as_such(tmp_path):
    (tmp_path / "imitate.json").write_text("{}")
    with pytest.raises(UserError, match="is an ONNX model, which only predict and serve accept: give the run"):
        Imitate.from_pretrained(tmp_path)


def test_the_heads_alone_are_synchronised_where_the_backbone_is_not():
    model = Imitate(TINY)
    norms = [module for module in model.modules() if isinstance(module, PresentBatchNorm)]
    assert len(norms) == 6 and not any(norm.synchronised for norm in norms)
    before = model.image.network.bn1
    model.synchronise(backbone=False)
    assert all(norm.synchronised for norm in norms) and model.image.network.bn1 is before
    model.synchronise()
    assert isinstance(model.image.network.bn1, nn.SyncBatchNorm)


def test_the_text_head_is_as_wide_as_published_and_keeps_sections_where_asked():
    model = Imitate(TINY)
    assert model.text_head[0].weight.shape == (1024, 12) and model.text_head[3].weight.shape == (16, 1024)
    assert not [name for name in model.state_dict() if "section" in name]
    apart = Imitate(TINY.model_copy(update={"text_statistics": "section"}))
    found = {name: tuple(value.shape) for name, value in apart.state_dict().items() if "section" in name}
    wide = {f"text_head.{i}.section_{name}": (2, w) for i, w in ((1, 1024), (4, 16)) for name in ("mean", "var")}
    assert found == wide


def test_seeded_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    a = seeded_model(TINY, pretrained=False, seed=1)
    state = torch.get_rng_state()
    b = seeded_model(TINY, pretrained=False, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_runs_in_float64():
    model = seeded_model(TINY, pretrained=False, seed=0).double()
    embedding = model.encode_image(torch.randn(3, 3, 32, 32, dtype=torch.float64))
    assert embedding.findings.dtype == embedding.impression.dtype == torch.float64


def test_a_folder_without_a_model_or_of_another_shape_is_reported(tmp_path):
    with pytest.raises(UserError, match="no model at"):
        Imitate.from_pretrained(tmp_path)
    seeded_model(TINY, pretrained=False, seed=0).save(tmp_path)
    (tmp_path / "config.json").write_text(TINY.model_copy(update={"joint_width": 8}).model_dump_json())
    with pytest.raises(UserError, match="does not fit"):
        Imitate.from_pretrained(tmp_path)


def test_a_model_of_another_format_version_is_reported(tmp_path):
    seeded_model(TINY, pretrained=False, seed=0).save(tmp_path)
    config = tmp_path / "config.json"
    assert json.loads(config.read_text())["format_version"] == 1
    config.write_text(json.dumps({**json.loads(config.read_text()), "format_version": 2}))
    with pytest.raises(UserError, match="format version 2, not 1"):
        Imitate.from_pretrained(tmp_path)


def test_the_default_has_the_published_parameters_and_no_more():
    """What checkpoints hold beside the backbone: a switch of the ablation must not add to it."""
    names = {name for name in Imitate(TINY).state_dict() if not name.startswith(("image.", "text_", "impression_"))}
    heads = [f"{i}.{p}" for i in (0, 1, 3) for p in ("weight", "bias")]
    heads += [f"{i}.{p}" for i in (1, 4) for p in ("running_mean", "running_var", "num_batches_tracked")]
    attention = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    assert names == {
        "aggregation.cls_token",
        "aggregation.positional_embedding",
        *(f"aggregation.attention.{name}" for name in attention),
        *(f"findings_head.{name}" for name in heads),
    }


def test_without_levels_both_branches_are_one_embedding_and_nothing_else_is_stored(tmp_path):
    one = TINY.model_copy(update={"levels": (), "keep": ()})
    seeded_model(one, pretrained=False, seed=1).save(tmp_path)
    model = Imitate.from_pretrained(tmp_path)
    embedding = model.encode_image(torch.randn(2, 3, 32, 32))
    assert torch.equal(embedding.findings, embedding.impression)
    assert not [name for name in model.state_dict() if name.startswith(("aggregation", "findings_head"))]


def test_a_damaged_folder_is_reported_in_one_line(tmp_path):
    seeded_model(TINY, pretrained=False, seed=0).save(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    whole, good = weights.read_bytes(), config.read_text()
    for content, message in (
        ("{", "config.json is not valid JSON"),
        ("[" * 10**5, "config.json is not valid JSON: nested too deep"),
        ("[]", "config.json must hold the architecture of a model, not list"),
        (" " * 2**19, "config.json has 524288 bytes"),
        (json.dumps({**json.loads(good), "slots": 4}), r"config.json: \d+ channels are kept but slots is 4"),
        (
            json.dumps({**json.loads(good), "backbone_options": {"window_size": 7}}),
            "config.json: timm cannot build resnet18",
        ),
        (json.dumps({**json.loads(good), "joint_width": 2**16}), "does not fit its config.json: .*findings_head"),
    ):
        config.write_text(content)
        with pytest.raises(UserError, match=message) as reported:
            Imitate.from_pretrained(tmp_path)
        assert "\n" not in str(reported.value)
    config.write_text(good)
    for content in (whole[:-5], whole[:4], b"", b"\xff" * 100):
        weights.write_bytes(content)
        with pytest.raises(UserError, match="model.safetensors is damaged or truncated"):
            Imitate.from_pretrained(tmp_path)


def test_sizes_are_compared_before_they_take_memory(tmp_path, monkeypatch):
    seeded_model(TINY, pretrained=False, seed=0).save(tmp_path)
    build, made = Imitate.__init__, []

    def building(self, *args, **options):
        build(self, *args, **options)
        made.append({each.device.type for each in self.parameters()})

    monkeypatch.setattr(Imitate, "__init__", building)
    (tmp_path / "config.json").write_text(TINY.model_copy(update={"text_width": 2**16}).model_dump_json())
    with pytest.raises(UserError, match="does not fit its config.json: 1 of .*text_head.0.weight"):
        Imitate.from_pretrained(tmp_path)
    assert made == [{"meta"}]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes of this kind")
def test_files_are_for_whom_the_umask_lets_read(tmp_path):
    before = os.umask(0o027)
    try:
        seeded_model(TINY, pretrained=False, seed=0).save(tmp_path)
    finally:
        os.umask(before)
    assert {path.name: oct(path.stat().st_mode)[-3:] for path in tmp_path.iterdir()} == {
        "config.json": "640",
        "model.safetensors": "640",
    }
