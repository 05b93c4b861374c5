"""Checkpoints of the published code, imitated by their names and shapes."""

from pathlib import Path

import pytest
import timm
import torch
from peer_files import published as published_list
from safetensors.torch import save_file

from imitate.config import ImitateConfig
from imitate.errors import UserError
from imitate.models.image import ImageEncoder
from imitate.models.imitate import seeded_model
from imitate.models.reference import import_published, load_encoder, read_state

HEADS = {"read_proj": "findings_head", "diag_proj": "impression_head", "text_proj": "text_head"}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file with exactly the published names, under the data-parallel prefix, and the model it came from."""
    model = seeded_model(ImitateConfig(text_width=768), pretrained=False, seed=3)
    state = {f"module.encoder.{n}": t for n, t in model.image.network.state_dict().items()}
    aggregation = model.aggregation
    state |= {
        "module.cls_token": aggregation.cls_token,
        "module.positional_embedding": aggregation.positional_embedding,
    }
    state |= {f"module.multi_attent.{n}": t for n, t in aggregation.attention.state_dict().items()}
    for theirs, ours in HEADS.items():
        state |= {f"module.{theirs}.{n}": t for n, t in getattr(model, ours).state_dict().items()}
    state["module.lm_model.embeddings.word_embeddings.weight"] = torch.zeros(3, 3)
    path = tmp_path_factory.mktemp("published") / "imitate.pth"
    torch.save({"state_dict": state}, path)
    return path, model


def test_full_checkpoint_gives_the_same_model(published):
    path, model = published
    again = import_published(path)
    ours, theirs = again.state_dict(), model.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert again.config.text_width == 768


def test_every_tensor_of_the_released_file_is_known(monkeypatch):
    state = published_list("imitate")
    monkeypatch.setattr("imitate.models.reference.read_state", lambda path: state)
    with torch.device("meta"):
        model = import_published(Path("x"))
    assert len(model.state_dict()) == sum(not name.startswith("lm_model.") for name in state)
    changed = dict(state)
    changed["read_proj.0.weights"] = changed.pop("read_proj.0.weight")
    monkeypatch.setattr("imitate.models.reference.read_state", lambda path: changed)
    with torch.device("meta"), pytest.raises(UserError, match=r"findings_head\.0\.weight"):
        import_published(Path("x"))


def test_encoder_only_file_fills_the_backbone(tmp_path):
    network = timm.create_model("resnet50", num_classes=0)
    torch.save(network.state_dict(), tmp_path / "encoder.pth")
    model = import_published(tmp_path / "encoder.pth")
    for name, tensor in network.state_dict().items():
        assert torch.equal(model.image.network.state_dict()[name], tensor)


@pytest.mark.parametrize(
    "prefix", ["", "module.", "backbone.", "module.encoder.", "model.image_encoder.", "image.network.", "visual."]
)
def test_prefixes_and_foreign_heads_do_not_matter(prefix):
    options = {"channels": (4, 8, 16, 32)}
    donor, encoder = (ImageEncoder("resnet18", options=options) for _ in range(2))
    state = {prefix + name: tensor for name, tensor in donor.network.state_dict().items()}
    load_encoder(encoder, {**state, "fc.weight": torch.zeros(3, 32)}, where="x")
    assert all(torch.equal(a, b) for a, b in zip(donor.parameters(), encoder.parameters(), strict=True))


def test_what_is_no_checkpoint_is_reported(tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(UserError, match="not a checkpoint of plain tensors"):
        read_state(tmp_path / "text.pth")
    with pytest.raises(UserError, match="no checkpoint at"):
        read_state(tmp_path / "absent.pth")
    torch.save(
        {"cls_token": torch.zeros(1, 1, 256), "text_proj.0.weight": torch.zeros(1024, 768)}, tmp_path / "part.pth"
    )
    with pytest.raises(UserError, match="missing"):
        import_published(tmp_path / "part.pth")
    with pytest.raises(UserError, match="does not fit resnet18"):
        load_encoder(ImageEncoder("resnet18"), {"conv1.weight": torch.zeros(64, 3, 7, 7)}, where="x")


@pytest.mark.parametrize("wrapped", [None, "state_dict", "model", "model_state_dict"])
def test_the_tensors_of_a_file_are_found_under_the_usual_keys(tmp_path, wrapped):
    tensors = {"a.weight": torch.arange(3.0), 7: torch.ones(2)}
    state = {**tensors, "epoch": 3}
    torch.save({wrapped: state, "epoch": 3} if wrapped else state, tmp_path / "file.pth")
    found = read_state(tmp_path / "file.pth")
    assert list(found) == ["a.weight", "7"] and torch.equal(found["a.weight"], tensors["a.weight"])
    save_file({"b": torch.ones(1)}, tmp_path / "file.safetensors")
    assert list(read_state(tmp_path / "file.safetensors")) == ["b"]
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(UserError, match="none.pth holds no tensors"):
        read_state(tmp_path / "none.pth")


def test_a_published_model_of_other_shapes_or_names_is_reported(published, tmp_path):
    state = torch.load(published[0], weights_only=True)["state_dict"]
    for changes, message in (
        ({"module.cls_token": torch.zeros(1, 1, 64)}, "shapes differ from the published ones: .*cls_token"),
        ({"module.read_proj.9.weight": torch.zeros(3)}, r"unexpected \['findings_head.9.weight'\]: not the published"),
    ):
        torch.save({**state, **changes}, tmp_path / "other.pth")
        with pytest.raises(UserError, match=message):
            import_published(tmp_path / "other.pth")
    short = {name: value for name, value in state.items() if name != "module.cls_token" and "layer4" not in name}
    torch.save(short, tmp_path / "short.pth")
    with pytest.raises(UserError, match=r"short.pth does not fit resnet50: \d+ of 265 tensors .* e.g. layer4.0"):
        import_published(tmp_path / "short.pth")


def test_code_in_a_pickle_is_not_run(tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"w": Bomb()}))
    with pytest.raises(UserError, match="not a checkpoint"):
        read_state(tmp_path / "bomb.pth")
