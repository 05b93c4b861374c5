"""What is read of foreign files, and what is refused by name."""

import pickle
import tarfile
from argparse import Namespace
from types import ModuleType

import pytest
import torch
from torch import nn

from imitate.errors import UserError
from imitate.models.peers.files import read_checkpoint


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


@pytest.fixture
def lightning(monkeypatch):
    """The packages that GLoRIA's files refer to, while these are written."""
    kinds = {}
    for module, names in (
        ("pytorch_lightning.callbacks.model_checkpoint", ["ModelCheckpoint"]),
        ("omegaconf.dictconfig", ["DictConfig"]),
        ("omegaconf.base", ["ContainerMetadata"]),
        ("torchxrayvision.models", ["DenseNet"]),
    ):
        made = ModuleType(module)
        parts = module.split(".")
        for end in range(1, len(parts)):
            monkeypatch.setitem(__import__("sys").modules, ".".join(parts[:end]), ModuleType(".".join(parts[:end])))
        monkeypatch.setitem(__import__("sys").modules, module, made)
        for name in names:
            base = (nn.Module,) if name == "DenseNet" else ()
            kinds[name] = type(name, base, {"__module__": module})
            setattr(made, name, kinds[name])
    with monkeypatch.context():
        yield kinds


@pytest.mark.parametrize("legacy", [False, True])
def test_a_lightning_file_is_read_with_stand_ins_and_needs_no_foreign_package(tmp_path, lightning, legacy):
    config = lightning["DictConfig"]()
    config.content = {"lr": 1, "metadata": lightning["ContainerMetadata"]()}
    shared = torch.arange(6.0)
    whole = {
        "state_dict": {"gloria.a": shared, "gloria.b": shared[2:], "gloria.c": nn.Parameter(torch.ones(2))},
        "callbacks": {lightning["ModelCheckpoint"]: {"best": torch.tensor(0.5)}},
        "hyper_parameters": config, "hparams_type": lightning["DictConfig"], "args": Namespace(lr=3),
    }  # fmt: skip
    path = tmp_path / "x.ckpt"
    torch.save(whole, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"refers to .*: imitate import .* --out FOLDER") as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] in ("pytorch_lightning", "omegaconf")]:
        del sys.modules[name]
    parts = read_checkpoint(path, stubs=True).parts
    assert {name: each.tolist() for name, each in parts["state_dict"].items()} == {
        "gloria.a": [0, 1, 2, 3, 4, 5], "gloria.b": [2, 3, 4, 5], "gloria.c": [1, 1]
    }  # fmt: skip
    assert not any(name.split(".")[0] == "pytorch_lightning" for name in sys.modules)


def test_a_pickled_module_gives_its_state_dict(tmp_path, lightning):
    network = lightning["DenseNet"]()
    network.features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.Linear(2, 2)))
    network.register_buffer("op_threshs", torch.tensor([0.25]))
    expected = network.state_dict()
    torch.save(network, tmp_path / "x.pt")
    found = read_checkpoint(tmp_path / "x.pt", stubs=True).parts[""]
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "thing, name",
    [(Bomb(), r"builtins\.exec"), (pickle.Unpickler, r"_?pickle\.Unpickler"), (getattr, r"builtins\.getattr"),
     (torch.load, r"torch\.serialization\.load")],
)  # fmt: skip
def test_what_no_checkpoint_needs_is_refused_by_name_and_not_run(tmp_path, thing, name, legacy):
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(2)}, "more": thing}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=f"refers to {name}, which no published checkpoint needs") as error:
        read_checkpoint(path, stubs=True)
    assert "\n" not in str(error.value)


def test_programs_archives_and_what_holds_no_tensors_are_refused(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "program.pt")
    with pytest.raises(UserError, match="TorchScript program"):
        read_checkpoint(tmp_path / "program.pt", stubs=True)
    (tmp_path / "a.txt").write_text("a")
    with tarfile.open(tmp_path / "archive.tar", "w") as archive:
        archive.add(tmp_path / "a.txt", "a.txt")
    with pytest.raises(UserError, match="is an archive: unpack it"):
        read_checkpoint(tmp_path / "archive.tar", stubs=True)
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with pytest.raises(UserError, match="holds no tensors"):
        read_checkpoint(tmp_path / "empty.pt")
    (tmp_path / "text.pt").write_text("hello")
    for stubs in (False, True):
        with pytest.raises(UserError, match=r"text\.pt"):
            read_checkpoint(tmp_path / "text.pt", stubs=stubs)
