"""What is written is read back by the libraries that others would read it with."""

import logging
import os
import re
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
import torchvision
import yaml
from folders import edit_index
from runs import write_run
from safetensors.torch import load_file

import imitate
from imitate.cli import main
from imitate.data.corpus import Corpus
from imitate.inference.predictor import load
from imitate.models.imitate import Imitate
from imitate.tasks.audit_model import Audit, Gap


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("export")
    write_run(root)
    return root


def export(root: Path, to: Path, *flags: str) -> int:
    return main(["export", "--model", str(root / "run"), "--to", str(to), *flags])


def test_a_hub_folder_says_what_the_run_says(root, tmp_path):
    assert export(root, tmp_path / "shared") == 0
    images = list(np.array(Corpus.open(root / "data").images[:3]))
    run, exported = load(root / "run"), load(tmp_path / "shared")
    assert np.array_equal(run.embed_images(images), exported.embed_images(images))
    assert np.array_equal(run.embed_texts("left effusion"), exported.embed_texts("left effusion"))
    assert np.array_equal(run.heatmap(images[0], "edema"), exported.heatmap(images[0], "edema"))
    bare = Imitate.from_pretrained(tmp_path / "shared")
    original = Imitate.from_pretrained(root / "run" / "model")
    assert bare.config == original.config and not bare.training
    assert all(torch.equal(each, bare.state_dict()[name]) for name, each in original.state_dict().items())
    assert sorted(path.name for path in (tmp_path / "shared").iterdir()) == [
        "README.md", "config.json", "model.safetensors", "text",
    ]  # fmt: skip


def test_an_exported_folder_can_be_exported(root, tmp_path):
    assert export(root, tmp_path / "first") == 0
    assert main(["export", "--model", str(tmp_path / "first"), "--to", str(tmp_path / "second")]) == 0
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("first", "second")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_the_card_says_what_an_audit_of_this_model_found(root, tmp_path, capsys):
    about = {"name": "hospital", "fingerprint": "1", "split": "test", "images": 40, "patients": 20}
    gap = Gap(
        by="sex", label="Edema", metric="fnr", groups=2, worst="F", best="M", values=(0.4, 0.1), gap=0.3, low=0.2,
        high=0.4, shuffled=0.05, p=0.001, p_holm=0.002, flagged=True,
    )  # fmt: skip
    audit = Audit(
        task="zero-shot", model="run", data=about, seeds=[0], weights=[load(root / "run").encoder.identity],
        settings={"by": ["sex"]}, threshold="youden on 9 images", probabilities="none", unknown={}, groups=[],
        gaps=[gap], notes=[], versions={}, seconds=1.0,
    )  # fmt: skip
    for name, found in (("own", audit), ("other", audit.model_copy(update={"weights": ["other"]}))):
        (tmp_path / f"{name}.json").write_text(found.model_dump_json(indent=1))

    assert export(root, tmp_path / "bare") == 0
    assert export(root, tmp_path / "shared", "--audit", str(tmp_path / "own.json")) == 0
    assert "Not audited" in (tmp_path / "bare" / "README.md").read_text()
    card = (tmp_path / "shared" / "README.md").read_text()
    assert "- Edema, FNR by sex: F 40.0%, M 10.0% (gap 20.0 to 40.0 points)" in card and "Not audited" not in card
    assert export(root, tmp_path / "wrong", "--audit", str(tmp_path / "other.json")) == 2
    assert "the audit is of another model" in capsys.readouterr().err


def test_the_card_tells_data_training_licence_use_and_limits_and_no_path(root, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert export(root, tmp_path / "shared", "--license", "cc-by-nc-4.0") == 0
    card = (tmp_path / "shared" / "README.md").read_text()
    front, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL).groups()
    assert yaml.safe_load(front)["license"] == "cc-by-nc-4.0" and yaml.safe_load(front)["library_name"] == "imitate"
    assert "pipeline_tag" not in front  # no pipeline of the hub's loads it
    parameters = sum(tensor.numel() for tensor in Imitate.from_pretrained(root / "run" / "model").parameters())
    for told in (
        "not a medical device",
        "## Intended use",
        "## Limits",
        "data, fingerprint test-40-36-0: test, 40 images of 20 patients",
        "2 epochs, global batch 8, seed 0, objective imitate",
        f"resnet18, {parameters / 1e6:.1f} M parameters",
        "vocabulary lists words of the training reports",
    ):
        assert told in body, told
    assert "$" not in body and str(root) not in card
    assert "lists words of the training reports: read it before you share it" in caplog.text


def test_the_card_of_a_model_without_a_run_or_whose_data_has_changed_says_so(root, tmp_path):
    assert main(["export", "--model", str(root / "run" / "model"), "--to", str(tmp_path / "bare")]) == 0
    assert export(root, tmp_path / "whole") == 0
    assert main(["export", "--model", str(tmp_path / "whole"), "--to", str(tmp_path / "again")]) == 0
    assert "not recorded" in (tmp_path / "again" / "README.md").read_text()
    write_run(tmp_path)
    edit_index(tmp_path / "data", fingerprint="prepared-anew")
    assert export(tmp_path, tmp_path / "changed") == 0
    card = (tmp_path / "changed" / "README.md").read_text()
    assert "fingerprint test-40-36-0 |" in card and "40 images" not in card


def plain_run(tmp_path: Path) -> Path:
    return write_run(tmp_path, backbone_options={}, slots=512)


def test_timm_loads_the_file_with_no_key_missing_or_unexpected(tmp_path):
    run = plain_run(tmp_path)
    assert export(tmp_path, tmp_path / "timm", "--format", "timm") == 0
    file = tmp_path / "timm" / "resnet18.safetensors"
    network = timm.create_model("resnet18", num_classes=0, checkpoint_path=str(file)).eval()
    assert network.state_dict().keys() == load_file(file).keys()
    encoder = Imitate.from_pretrained(run / "model").image
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(network(images), encoder(images).pooled)


def test_torchvision_loads_it_too_but_for_its_classifier(tmp_path):
    run = plain_run(tmp_path)
    assert export(tmp_path, tmp_path / "timm", "--format", "timm") == 0
    network = torchvision.models.resnet18().eval()
    found = network.load_state_dict(load_file(tmp_path / "timm" / "resnet18.safetensors"), strict=False)
    assert found.missing_keys == ["fc.weight", "fc.bias"] and not found.unexpected_keys
    network.fc = torch.nn.Identity()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = Imitate.from_pretrained(run / "model").image(images).pooled
        assert torch.allclose(network(images), expected, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"channels": [4, 8, 16, 32]}])
def test_the_lines_of_the_timm_readme_run(tmp_path, monkeypatch, options):
    write_run(tmp_path, backbone_options=options, slots=512)
    assert export(tmp_path, tmp_path / "timm", "--format", "timm") == 0
    readme = (tmp_path / "timm" / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(blocks) == (1 if options else 2)  # torchvision has no narrow ResNet
    monkeypatch.chdir(tmp_path / "timm")
    import safetensors

    for block in blocks:
        exec(block, {"timm": timm, "torchvision": torchvision, "safetensors": safetensors})
    assert "stretch to 36 px, centre crop 32 px" in readme and "mean [0.485, 0.456, 0.406]" in readme


def test_push_uploads_the_folder_that_was_written_as_often_as_wished(root, tmp_path, monkeypatch, capsys):
    sent = []

    class Api:
        def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> str:
            assert private and exist_ok
            return f"https://hub.example/{repository}"

        def repo_info(self, repository: str) -> SimpleNamespace:
            return SimpleNamespace(private=True)

        def upload_folder(self, *, repo_id: str, folder_path: Path, allow_patterns: list[str]) -> None:
            sent.append((repo_id, sorted(path.name for path in folder_path.iterdir())))

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    shared = tmp_path / "shared"
    assert export(root, shared) == 0 and not sent
    assert main(["push", str(shared), "someone/model"]) == 2 and not sent
    assert "vocabulary.json lists words of the training reports: read it, then" in capsys.readouterr().err
    for _ in range(2):
        assert main(["push", str(shared), "someone/model", "--with-vocabulary"]) == 0
    assert sent == 2 * [("someone/model", ["README.md", "config.json", "model.safetensors", "text"])]
    assert main(["push", str(root / "run"), "someone/model", "--with-vocabulary"]) == 2
    assert "is no exported folder: write one with imitate export" in capsys.readouterr().err

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda source, **options: str(shared))
    fetched = imitate.load("hf-hub:someone/model@v1")
    assert np.array_equal(fetched.embed_texts("edema"), load(root / "run").embed_texts("edema"))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes of this kind")
@pytest.mark.parametrize("format", ["hub", "timm"])
def test_all_files_have_the_same_mode(root, tmp_path, format):
    assert export(root, tmp_path / "shared", "--format", format) == 0
    files = [path for path in (tmp_path / "shared").rglob("*") if path.is_file()]
    assert len(files) > 1 and len({path.stat().st_mode for path in files}) == 1


def test_mistakes_are_one_line_and_nothing_is_written_over(root, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("")
    (tmp_path / "file").write_text("")
    for flags, message in (
        (["--model", str(root / "run"), "--to", str(tmp_path / "full")], "exists and is not an empty folder"),
        (["--model", str(root / "run"), "--to", str(tmp_path / "file")], "exists and is not an empty folder"),
        (["--model", str(tmp_path / "absent"), "--to", str(tmp_path / "new")], "no model at"),
    ):
        assert main(["export", *flags]) == 2
        told = capsys.readouterr().err
        assert message in told and told.count("\n") == 1
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["precious"] and not (tmp_path / "new").exists()
