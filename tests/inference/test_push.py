"""What is pushed, and what is said before: against a hub on loopback, through the client as it comes from the index."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from fake_hub import Hub, Repository, running
from runs import write_run
from transformers import AutoModel

import imitate
from imitate.cli import main
from imitate.config.digests import record_digest, sha256

FILES = [
    "README.md", "config.json", "heads.safetensors", "model.safetensors", "text/lsa.safetensors", "text/text.json",
    "text/vocabulary.json",
]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("push")
    write_run(root)
    for name, flags in (("shared", []), ("images", ["--images-only"])):
        assert main(["export", "--model", str(root / "run"), "--to", str(root / name), *flags]) == 0
    return root


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    with running(monkeypatch, str(tmp_path / "cache")) as hub:
        yield hub


def push(root: Path, *flags: str, name: str = "shared") -> int:
    return main(["push", str(root / name), "someone/model", *flags])


def test_words_of_reports_are_listed_and_refused_and_nothing_is_sent(root, hub, capsys):
    assert push(root) == 2
    reported = capsys.readouterr()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/someone/model is new, and will be private\. It will hold:",
                        reported.out.splitlines()[0])  # fmt: skip
    shown = [line.split(maxsplit=3) for line in reported.out.splitlines()[1:]]
    assert [line[0] for line in shown] == FILES
    assert shown[0][3] == "names and sizes of the training data"
    assert shown[3][3] == "weights, trained on images and reports"
    assert shown[4][3] == "computed from the training reports" and len(shown[5]) == 3
    size = (root / "shared" / "model.safetensors").stat().st_size
    assert shown[3][1:3] == [f"{size / 1000:.3g}", "kB"] and shown[6][3] == "words of the training reports"
    assert "vocabulary.json lists words of the training reports: read it, then push --with-vocabulary" in reported.err
    assert "nothing was uploaded" in reported.err and reported.err.count("\n") == 1
    assert not hub.repositories and not [each for each in hub.asked if each.startswith("POST")]


def test_the_folder_is_pushed_once_and_a_second_push_changes_nothing(root, hub, capsys, caplog):
    caplog.set_level("INFO")
    assert push(root, "--with-vocabulary") == 0
    found = hub.repositories["someone/model"]
    assert found.private and len(found.commits) == 2
    assert found.files == {".gitattributes": b"", **{name: (root / "shared" / name).read_bytes() for name in FILES}}
    assert caplog.messages[-1].startswith("pushed to http://127.0.0.1:")
    capsys.readouterr()
    assert push(root, "--with-vocabulary") == 0
    assert len(found.commits) == 2 and "someone/model is private. It will hold:" in capsys.readouterr().out
    assert caplog.messages[-1].startswith("nothing has changed since the last push to http://127.0.0.1:")
    assert not [line for line in caplog.messages if line.startswith("HTTP")]


def test_a_folder_that_has_changed_is_pushed_again_and_what_it_lacks_is_removed(root, hub, capsys):
    assert push(root, "--with-vocabulary") == 0
    found = hub.repositories["someone/model"]
    found.files["figure.png"] = b"of the authors"
    capsys.readouterr()
    assert push(root, name="images") == 0
    line = "Removed there, though its history keeps them: text/lsa.safetensors, text/text.json, text/vocabulary.json\n"
    assert line in capsys.readouterr().out
    assert set(found.files) == {".gitattributes", *FILES[:4], "figure.png"} and len(found.commits) == 3


def test_a_public_repository_needs_a_flag(root, hub, capsys):
    found = hub.repositories["someone/model"] = Repository(private=False)
    assert push(root, name="images") == 2
    reported = capsys.readouterr()
    assert "/someone/model is public. It will hold:\n  README.md" in reported.out
    assert "someone/model is public, and nothing was uploaded: make it private, or push --public" in reported.err
    assert len(found.commits) == 1
    assert push(root, "--public", name="images") == 0 and len(found.commits) == 2
    hub.repositories.clear()
    capsys.readouterr()
    assert push(root, "--public", name="images") == 0
    assert "is new, and will be public. It will hold:" in capsys.readouterr().out
    assert not hub.repositories["someone/model"].private


def test_a_repository_that_becomes_public_meanwhile_gets_nothing(root, hub, capsys, monkeypatch):
    """As where an organisation makes all of its repositories public."""
    monkeypatch.setattr("fake_hub.Repository.__init__", lambda self, private: _public(self))
    assert push(root, name="images") == 2
    assert "someone/model is public, and nothing was uploaded" in capsys.readouterr().err
    assert len(hub.repositories["someone/model"].commits) == 1


def _public(repository: Repository) -> None:
    repository.private, repository.files, repository.commits = False, {}, ["0" * 40]


def test_nothing_leaves_that_export_does_not_write(root, hub, tmp_path, capsys):
    folder = tmp_path / "shared"
    (folder / "text").mkdir(parents=True)
    for name in ("README.md", "config.json", "heads.safetensors", "model.safetensors"):
        (folder / name).write_bytes((root / "images" / name).read_bytes())
    for name in ("trained_on.npz", "patients.txt", "index.json", "text/deep.parquet", ".hidden.json"):
        (folder / name).write_text("secret")
    assert push(tmp_path) == 0
    line = "Not uploaded, since imitate export does not write it: "
    assert f"{line}index.json, patients.txt, text/deep.parquet, trained_on.npz\n" in capsys.readouterr().out
    assert sorted(hub.repositories["someone/model"].files) == [".gitattributes", *FILES[:4]]


def write_onnx(folder: Path, *names: str, **values: object) -> None:
    """As an export leaves it, with other files in the place of its graphs."""
    folder.mkdir()
    for name in names:
        (folder / name).write_text("{}")
    record = {"format_version": 1, "text": None, "calibration": None, **values}
    record["files"] = {name: sha256(folder / name) for name in names}
    (folder / "imitate.json").write_text(json.dumps({**record, "digest": record_digest(record)}))


def test_a_folder_of_onnx_is_pushed_likewise(hub, tmp_path, capsys):
    write_onnx(tmp_path / "onnx", "image.onnx", "text.npz", "vocabulary.json", text={"kind": "lsa"})
    (tmp_path / "onnx" / "trained_on.npz").write_text("{}")
    assert push(tmp_path, name="onnx") == 2
    reported = capsys.readouterr()
    assert "vocabulary.json lists words of the training reports" in reported.err and not hub.repositories
    assert [re.sub(" +", " ", line.strip()) for line in reported.out.splitlines()[1:]] == [
        "image.onnx 2 B weights, trained on images and reports",
        f"imitate.json {(tmp_path / 'onnx' / 'imitate.json').stat().st_size} B classes and their prompts",
        "text.npz 2 B computed from the training reports",
        "vocabulary.json 2 B words of the training reports",
        "Not uploaded, since imitate export does not write it: trained_on.npz",
    ]
    assert push(tmp_path, "--with-vocabulary", name="onnx") == 0
    assert len(hub.repositories["someone/model"].files) == 5


@pytest.mark.parametrize(("kind", "origin"), [("bert-small", "computed from the training reports"), ("hf", "")])
def test_word_pieces_that_were_fitted_to_reports_are_named_as_such(hub, tmp_path, capsys, kind, origin):
    names = ("image.onnx", "text.onnx", "tokenizer.json")
    write_onnx(tmp_path / "onnx", *names, text={"kind": kind}, calibration={"data": {"images": 100}})
    assert push(tmp_path, name="onnx") == 0
    shown = dict(re.findall(r"^ +(\S+) +\S+ \S+ *(.*)$", capsys.readouterr().out, re.MULTILINE))
    assert shown["tokenizer.json"] == origin
    assert shown["imitate.json"] == "classes and their prompts, counts of the images that they were calibrated on"


@pytest.mark.parametrize(
    "name", ["heads.safetensors", "text/text.json", "text/vocabulary.json", "text/lsa.safetensors"]
)
def test_a_folder_that_lacks_a_file_takes_none_from_the_repository(root, hub, tmp_path, capsys, name):
    assert push(root, "--with-vocabulary") == 0
    before = dict(hub.repositories["someone/model"].files)
    shutil.copytree(root / "shared", tmp_path / "shared")
    (tmp_path / "shared" / name).unlink()
    capsys.readouterr()
    assert push(tmp_path, "--with-vocabulary") == 2
    reported = capsys.readouterr()
    assert f"has no {name}, which belongs to it: copy the folder again" in reported.err and not reported.out
    assert hub.repositories["someone/model"].files == before


@pytest.mark.parametrize("trained", [True, False])
def test_a_text_encoder_of_others_is_said_to_be_trained_where_it_was(root, hub, tmp_path, capsys, trained):
    shutil.copytree(root / "images", tmp_path / "shared")
    (tmp_path / "shared" / "text").mkdir()
    shutil.copy(root / "shared" / "text" / "lsa.safetensors", tmp_path / "shared" / "text" / "model.safetensors")
    record = {"kind": "hf", **({"trained": "the last 2 of 12 layers"} if trained else {})}
    (tmp_path / "shared" / "text" / "text.json").write_text(json.dumps(record))
    assert push(tmp_path) == 0
    (line,) = re.findall(r"text/model.safetensors .*", capsys.readouterr().out)
    assert "weights of a text encoder" in line and line.endswith("encoder, trained on the reports") == trained


def test_files_that_are_cut_short_are_not_pushed(root, hub, tmp_path, capsys):
    shutil.copytree(root / "images", tmp_path / "shared")
    weights = tmp_path / "shared" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert push(tmp_path) == 2
    assert "model.safetensors is damaged (" in capsys.readouterr().err
    write_onnx(tmp_path / "onnx", "image.onnx")
    (tmp_path / "onnx" / "image.onnx").write_text("{")
    assert push(tmp_path, name="onnx") == 2
    assert "image.onnx has changed since the export: copy the folder again" in capsys.readouterr().err
    (tmp_path / "onnx" / "imitate.json").unlink()
    assert push(tmp_path, name="onnx") == 2 and "has no imitate.json: it is incomplete" in capsys.readouterr().err
    assert not hub.asked


@torch.inference_mode()
def test_three_readers_fetch_it_from_the_hub(root, hub):
    assert push(root, "--with-vocabulary") == 0
    images = torch.randn(2, 3, 32, 32)
    model = imitate.load("hf-hub:someone/model")
    assert np.array_equal(model.embed_texts("edema"), imitate.load(root / "run").embed_texts("edema"))
    wanted = model.encoder.image(images).pooled  # type: ignore[attr-defined]
    by_timm = timm.create_model("hf-hub:someone/model", pretrained=True).eval()(images)
    by_transformers = AutoModel.from_pretrained("someone/model").eval()(images).pooler_output
    for found in (by_timm, by_transformers):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_hub_that_refuses_or_is_not_reached_is_reported_in_one_line(root, hub, capsys, monkeypatch):
    hub.refused = 401
    assert push(root, name="images") == 2
    reported = capsys.readouterr().err
    assert (
        reported.count("\n") == 1
        and "cannot push to someone/model" in reported
        and "log in with `hf auth login`" in reported
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.asked)
    assert push(root, name="images") == 2 and len(hub.asked) == asked
    reported = capsys.readouterr().err
    assert reported.count("\n") == 1 and "offline mode is enabled" in reported
    assert main(["push", str(root / "images"), "no/such/name"]) == 2
    assert "cannot push to no/such/name" in capsys.readouterr().err


def test_a_run_is_no_exported_folder(root, hub, capsys):
    assert push(root, "--with-vocabulary", name="run") == 2
    assert "is not an exported folder: write one with imitate export" in capsys.readouterr().err and not hub.asked
