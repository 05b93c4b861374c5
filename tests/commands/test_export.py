"""What is written is read back by the libraries that others would read it with."""

import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from folders import edit_index
from PIL import Image
from runs import write_run
from safetensors.torch import save_file
from tiny_peers import write_dinov2

from imitate.cli import main
from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.export import export_model, seal
from imitate.inference.predictor import load
from imitate.models import exported
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
        "README.md", "config.json", "heads.safetensors", "model.safetensors", "text",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["model.safetensors", "heads.safetensors", "text/lsa.safetensors", "config.json"])
def test_a_copy_with_one_wrong_byte_is_refused(root, tmp_path, name):
    """Its length and its format are right, so nothing else would notice."""
    assert export(root, tmp_path / "shared") == 0
    assert load(tmp_path / "shared")
    path = tmp_path / "shared" / name
    content = path.read_bytes()
    path.write_bytes(content.replace(b"0.07", b"0.09") if name == "config.json" else content[:-1] + b"\x01")
    assert len(path.read_bytes()) == len(content) and path.read_bytes() != content
    with pytest.raises(UserError, match=rf"{name} (is damaged or was|has) changed .*export"):
        load(tmp_path / "shared")


def test_a_copy_without_its_text_encoder_or_calibration_is_refused(root, tmp_path):
    """It would score no prompts, or with other probabilities; another calibration may take the place of the first."""
    assert export(root, tmp_path / "shared") == 0
    kept = tmp_path / "shared" / "calibration.json"
    kept.write_text("{}")
    seal(tmp_path / "shared")
    kept.write_text('{"of another": 1}')
    assert Imitate.from_pretrained(tmp_path / "shared")
    kept.unlink()
    with pytest.raises(UserError, match=r"has no calibration.json"):
        Imitate.from_pretrained(tmp_path / "shared")
    kept.touch()
    shutil.rmtree(tmp_path / "shared" / "text")
    with pytest.raises(UserError, match=r"has no text/"):
        load(tmp_path / "shared")


def test_an_exported_folder_can_be_exported(root, tmp_path):
    assert export(root, tmp_path / "first") == 0
    assert main(["export", "--model", str(tmp_path / "first"), "--to", str(tmp_path / "second")]) == 0
    for name in ("model.safetensors", "heads.safetensors", "config.json", "text/vocabulary.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


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
    assert "the audit is of a different model" in capsys.readouterr().err


def test_the_card_states_data_training_licence_use_and_limits_and_no_path(root, tmp_path, caplog):
    assert export(root, tmp_path / "odd", "--license", 'cc: "by"\n---\n') == 0
    front = (tmp_path / "odd" / "README.md").read_text().split("---\n")[1]
    assert yaml.safe_load(front)["license"] == 'cc: "by" ---'
    with caplog.at_level(logging.WARNING):
        assert export(root, tmp_path / "shared", "--license", "cc-by-nc-4.0") == 0
    card = (tmp_path / "shared" / "README.md").read_text()
    front, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL).groups()
    assert yaml.safe_load(front)["license"] == "cc-by-nc-4.0" and yaml.safe_load(front)["library_name"] == "imitate"
    assert yaml.safe_load(front)["pipeline_tag"] == "image-feature-extraction"  # transformers' pipeline loads it
    assert yaml.safe_load(front)["tags"][-2:] == ["timm", "transformers"]
    parameters = sum(tensor.numel() for tensor in Imitate.from_pretrained(root / "run" / "model").parameters())
    for reported in (
        "not a medical device",
        "## Intended use",
        "## Limits",
        "data, fingerprint test-40-36-0: test, 40 images of 20 patients",
        "2 epochs, global batch 8, seed 0, objective imitate",
        f"resnet18, {parameters / 1e6:.1f} M parameters",
        "vocabulary lists words of the training reports",
    ):
        assert reported in body, reported
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


@pytest.mark.parametrize("plain", [False, True])
def test_the_lines_of_the_card_run(root, tmp_path, monkeypatch, plain):
    flags, name = [], "shared"
    if plain:
        root, flags, name = tmp_path, ["--images-only"], "{{it's}} $name"
        write_run(root, backbone_options={}, slots=512)
    assert export(root, tmp_path / name, *flags) == 0
    for file in ("radiograph.dcm", "radiograph.png"):  # the content decides, not the name
        Image.fromarray(np.array(Corpus.open(root / "data").images[0])).save(tmp_path / file, format="png")
    card = (tmp_path / name / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 3 + plain  # torchvision has no narrow ResNet
    monkeypatch.chdir(tmp_path)
    found: list[Any] = []
    for block in blocks:
        names: dict[str, Any] = {}
        exec(block, names)
        found.append(names.get("features"))
    assert torch.equal(found[1], found[2]) and found[1].shape == (1, 512 if plain else 32)
    if plain:
        network = names["model"].eval()
        network.fc = torch.nn.Identity()
        images = torch.randn(2, 3, 32, 32)
        with torch.inference_mode():
            expected = Imitate.from_pretrained(root / "run" / "model").image(images).pooled
            torch.testing.assert_close(network(images), expected, rtol=1e-5, atol=1e-5)


def test_a_snapshot_has_the_text_encoder_and_the_facts_of_its_run(root, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(root / "run", run)
    for place in ("best", "snapshots/step-0000003", "top/step-0000002"):
        shutil.copytree(run / "model", run / place)
        assert main(["export", "--model", str(run / place), "--to", str(tmp_path / "shared" / place)]) == 0
        card = (tmp_path / "shared" / place / "README.md").read_text()
        assert "| text encoder | lsa-8-" in card and "40 images of 20 patients" in card
        assert load(tmp_path / "shared" / place).encoder.has_text


def test_an_export_takes_nothing_from_the_folders_above_it(root, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(root / "run", run)
    assert main(["export", "--model", str(run), "--to", str(run / "images"), "--images-only"]) == 0
    assert load(run / "images").encoder.text is None
    assert main(["export", "--model", str(run / "images"), "--to", str(tmp_path / "again")]) == 0
    assert "not recorded" in (tmp_path / "again" / "README.md").read_text()


def test_settings_that_are_no_runs_say_nothing_of_the_data(root, tmp_path, caplog):
    run = tmp_path / "run"
    shutil.copytree(root / "run", run)
    for number, text in enumerate(("training: {}\n", "- a\n", "training: {epochs: 1}\ndata: {path: null}\n")):
        (run / "config.yaml").write_text(text)
        assert main(["export", "--model", str(run), "--to", str(tmp_path / str(number))]) == 0
        assert "| data | not recorded |" in (tmp_path / str(number) / "README.md").read_text()
        assert "the card does not say what the model was trained on: " in caplog.text
        caplog.clear()


def test_images_alone_are_exported_without_a_word_of_the_reports(root, tmp_path, caplog):
    assert export(root, tmp_path / "shared", "--images-only") == 0
    assert sorted(path.name for path in (tmp_path / "shared").iterdir()) == [
        "README.md", "config.json", "heads.safetensors", "model.safetensors",
    ]  # fmt: skip
    card = (tmp_path / "shared" / "README.md").read_text()
    assert "none: images only" in card and "classify" not in card and "words" not in caplog.text + card
    images = list(np.array(Corpus.open(root / "data").images[:3]))
    found = load(tmp_path / "shared")
    assert np.array_equal(found.embed_images(images), load(root / "run").embed_images(images))
    with pytest.raises(UserError, match="has no text encoder"):
        found.embed_texts("edema")


def test_the_card_names_only_what_loads_the_folder(root, tmp_path, monkeypatch, caplog):
    def refuse(folder: Path, images: torch.Tensor) -> torch.Tensor:
        raise ValueError(f"no such network\nin {folder}")

    monkeypatch.setitem(exported.READERS, "transformers", refuse)
    assert export(root, tmp_path / "shared") == 0
    card = (tmp_path / "shared" / "README.md").read_text()
    assert "tags: [chest-x-ray, radiology, vision-language, imitate, timm]" in card
    assert "AutoModel" not in card and "pipeline_tag" not in card and "| | imitate | timm |" in card
    assert "transformers cannot load this folder: no such network in the folder\n" in card
    line = f"transformers cannot load {tmp_path / 'shared'}: no such network in the folder"
    assert line in [record.getMessage() for record in caplog.records]
    monkeypatch.setitem(exported.READERS, "timm", refuse)
    assert export(root, tmp_path / "other") == 0
    card = (tmp_path / "other" / "README.md").read_text()
    assert "imitate]\n" in card and "local-dir" not in card and "| | imitate |" not in card


def test_the_card_says_how_images_are_made(root, tmp_path):
    write_run(tmp_path, resize="letterbox", percentiles=(0.5, 99.5), range=(0.0, 255.0), mean=(128.0,), std=(64.0,))
    assert export(tmp_path, tmp_path / "shared") == 0
    card = (tmp_path / "shared" / "README.md").read_text()
    for line in (
        "| files | DICOM (its window and MONOCHROME1 are applied), PNG, JPEG, of 8 to 16 bits | what Pillow opens, of 8",
        "| gray values | black borders are cut off; the 0.5th percentile becomes black, the 99.5th white | as they are",
        "| resize | letterbox to 36 px, bilinear | `border` to 36 px, bilinear, padded with the mean gray |",
        "| crop | the central 32 px | the central 32 px |",
        '| channels | one | those of `convert("L")` |',
        "| mean and standard deviation | 128 and 64, of values from 0 to 255 | 0.502 and 0.251, of values from 0 to 1 |",
    ):
        assert line in card
    write_run(tmp_path / "other", tone="equalized", resize="crop-bicubic")
    assert export(tmp_path / "other", tmp_path / "equalized") == 0
    card = (tmp_path / "equalized" / "README.md").read_text()
    assert "DICOM (MONOCHROME1 is applied, its window is not)" in card
    assert "| gray values | the histogram is equalised; 8 bits as they are, others rescaled | as they are" in card
    assert "| resize | crop-bicubic to 36 px, bicubic | `center` to 36 px, bicubic |" in card and "| the same |" in card


def test_an_export_is_whole_or_absent(root, tmp_path, monkeypatch):
    to = tmp_path / "new" / "shared"

    def interrupt(*_: object) -> None:
        assert not to.exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(exported, "unread", interrupt)
        export_model(str(root / "run"), to)
    assert list((tmp_path / "new").iterdir()) == []
    part = tmp_path / "new" / ".shared.part"  # of one that was killed
    part.mkdir()
    (part / "old").write_text("")
    to.mkdir()
    assert export(root, to) == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["shared"]
    assert not (to / "old").exists() and load(to)


def test_a_disk_that_takes_no_more_is_reported(root, tmp_path, monkeypatch, capsys):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exported, "save", full)
    assert export(root, tmp_path / "shared") == 2
    assert f"cannot write {tmp_path / 'shared'} (No space left on device)" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_to_an_empty_folder_is_followed(root, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk", target_is_directory=True)
    assert export(root, tmp_path / "link") == 0
    assert (tmp_path / "link").is_symlink() and (tmp_path / "disk" / "config.json").is_file()


def test_a_model_of_another_group_is_refused_by_its_name(tmp_path, capsys):
    write_dinov2(tmp_path / "rad-dino")
    assert main(["export", "--model", str(tmp_path / "rad-dino"), "--to", str(tmp_path / "shared")]) == 2
    assert "a model of another group: imitate export writes only models of imitate" in capsys.readouterr().err
    save_file(timm.create_model("resnet18").state_dict(), tmp_path / "bare.safetensors")
    assert main(["export", "--model", str(tmp_path / "bare.safetensors"), "--to", str(tmp_path / "shared")]) == 2
    assert "is a file of weights (an image network under torchvision's" in capsys.readouterr().err
    assert not (tmp_path / "shared").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes of this kind")
def test_all_files_have_the_same_mode(root, tmp_path):
    assert export(root, tmp_path / "shared") == 0
    files = [path for path in (tmp_path / "shared").rglob("*") if path.is_file()]
    assert len(files) > 1 and len({path.stat().st_mode for path in files}) == 1


def test_mistakes_are_one_line_and_nothing_is_written_over(root, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("")
    (tmp_path / "file").write_text("")
    for flags, message in (
        (["--model", str(root / "run"), "--to", str(tmp_path / "full")], "exists and is not an empty folder"),
        (["--model", str(root / "run"), "--to", str(tmp_path / "file")], "exists and is not an empty folder"),
        (["--model", str(root / "run"), "--to", str(root / "run")], "exists and is not an empty folder"),
        (["--model", str(tmp_path / "absent"), "--to", str(tmp_path / "new")], "no model at"),
    ):
        assert main(["export", *flags]) == 2
        reported = capsys.readouterr().err
        assert message in reported and reported.count("\n") == 1
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["precious"] and not (tmp_path / "new").exists()
