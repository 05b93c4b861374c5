"""The command itself, in processes of its own: killed, continued, on two ranks."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from folders import edit_index, edit_rows, write_folder
from processes import HANG, until
from recipes import tiny_recipe
from safetensors.torch import load_file, save_file
from text_models import write_bert

from imitate import cli
from imitate.data.corpus import Corpus
from imitate.data.text_cache import corpus
from imitate.inference.encoder import ImitateEncoder, load_encoder
from imitate.models.imitate import Imitate
from imitate.models.text import LsaTextEncoder, fit_or_load, save_text_encoder

SOURCE = Path(__file__).parents[1] / "src"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = write_folder(tmp_path_factory.mktemp("pretrain") / "data", n=60)
    edit_index(folder, percentiles=[0.5, 99.5])
    return folder


@pytest.fixture
def recipe(tmp_path) -> Path:
    return write_recipe(tmp_path, epochs=2)


def write_recipe(folder: Path, **training) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe(**training).model_dump(mode="json")))
    return path


def command(recipe: Path, data: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "imitate", "pretrain", str(recipe), "--data", str(data), "--out", str(out), *more]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run_in_process(recipe: Path, data: Path, out: Path, *more: str) -> int:
    return cli.main(command(recipe, data, out, *more)[3:])


def test_a_run_folder_is_complete_and_loads(data, recipe, tmp_path):
    out = tmp_path / "run"
    assert run_in_process(recipe, data, out) == 0
    assert {"config.yaml", "metrics.jsonl", "last.ckpt", "model", "text"} <= {p.name for p in out.iterdir()}
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert any(key.startswith("val/") for row in rows for key in row)
    encoder = load_encoder(str(out), like=None, data=Corpus.open(data), seed=0)
    assert isinstance(encoder, ImitateEncoder) and encoder.text is not None
    assert encoder.preprocessing.percentiles == (0.5, 99.5)
    embedded = encoder.model.encode_text(encoder.text.encode(["left effusion"]))
    assert torch.isfinite(embedded).all()


def test_the_same_command_again_changes_nothing_and_another_setting_is_reported(data, recipe, tmp_path, capsys):
    out = tmp_path / "run"
    run_in_process(recipe, data, out)
    before = (out / "model/model.safetensors").read_bytes()
    assert run_in_process(recipe, data, out) == 0
    assert (out / "model/model.safetensors").read_bytes() == before
    assert run_in_process(recipe, data, out, "--settings", "training.epochs=3") == 2
    assert "training.epochs is 2 there and 3 here" in capsys.readouterr().err


@pytest.mark.parametrize(
    "setting, message",
    [
        ("training.epoch=3", "unknown key 'training.epoch'"),
        ("nonsense", "has no value: write it as key=value"),
        ("text=word2vec", "unknown text encoder 'word2vec'"),
        ("model.backbone=resnet1888", "timm has no network 'resnet1888'"),
        ("model.prepared_size=64", "holds images of 36 px, but this model needs 64"),
        ("training.batch_size=4000", "fewer than batch_size 4000"),
    ],
)
def test_mistakes_are_reported_in_one_line_and_leave_no_run(data, recipe, tmp_path, capsys, setting, message):
    assert run_in_process(recipe, data, tmp_path / "run", "--settings", setting) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("imitate pretrain:")]
    assert len(error) == 1 and message in error[0]
    assert not (tmp_path / "run").exists()


def metrics(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def several(tmp_path) -> list[Path]:
    """Reports; reports; labels alone."""
    folders = [write_folder(tmp_path / name, n=n, seed=n) for name, n in (("a", 60), ("b", 30), ("c", 20))]
    edit_rows(folders[2], findings=[None] * 20, impression=[None] * 20)
    edit_index(folders[2], classes=["Edema", "Mass"], fingerprint="labels")
    return folders


def several_arguments(recipe: Path, folders: list[Path], out: Path, *more: str) -> list[str]:
    return ["pretrain", str(recipe), "--data", *map(str, folders), "--out", str(out), *more]


def test_several_folders_train_one_model_and_are_validated_each_and_together(several, recipe, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = several_arguments(recipe, several, out, "--weights", "1", ".5", "2")
    assert cli.main(arguments) == 0
    found = {key for row in metrics(out) for key in row}
    assert {"val/mean-recall", "val/a/mean-recall", "val/b/mean-recall"} <= found
    assert not any(key.startswith("val/c/") for key in found)
    data = yaml.safe_load((out / "config.yaml").read_text())["data"]
    assert data["paths"] == list(map(str, several)) and data["weights"] == [1, 0.5, 2]
    assert data["fingerprints"] == ["test-60-36-60", "test-30-36-30", "labels"]
    before = (out / "model/model.safetensors").read_bytes()
    assert cli.main(arguments) == 0 and (out / "model/model.safetensors").read_bytes() == before
    assert cli.main([*arguments[:-3], "1", "1", "1"]) == 2
    assert "data.weights is [1.0, 0.5, 2.0] there and [1.0, 1.0, 1.0] here" in capsys.readouterr().err


@pytest.mark.parametrize(
    "more, message",
    [
        (("--weights", "1", "2"), "--weights has 2 values for 3 folders"),
        (("--weights", "1", "0", "1"), "--weights 0: weights must be above 0"),
        (("--settings", "objective.visual_visual=false"), "c: no image of the train split has findings or impression"),
        (("--settings", "model.projections=[LL]"), "no image of projection 'LL'"),
    ],
)
def test_mistakes_with_several_folders(several, recipe, tmp_path, capsys, more, message):
    assert cli.main(several_arguments(recipe, several, tmp_path / "run", *more)) == 2
    assert message in capsys.readouterr().err


def test_labels_can_stand_in_for_reports(several, recipe, tmp_path):
    settings = ("--settings", "labels_as_text=true", "objective.visual_visual=false")
    assert cli.main(several_arguments(recipe, several, tmp_path / "run", *settings)) == 0
    assert cli.main(several_arguments(recipe, several, tmp_path / "run", *settings)) == 0
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["data"]["fingerprints"][2] == "labels"


def test_projections_are_chosen_by_the_recipe(data, recipe, tmp_path, capsys):
    folder = write_folder(tmp_path / "data", n=60)
    edit_rows(folder, projection=["PA", "LATERAL", "AP"] * 20)
    edit_index(folder, traits={"projections": ["PA"]})
    choice = ("--settings", "model.projections=[PA, AP]")
    assert run_in_process(recipe, folder, tmp_path / "run", *choice) == 0
    assert run_in_process(recipe, folder, tmp_path / "run") == 2
    assert "fingerprints" in capsys.readouterr().err
    model = Imitate.from_pretrained(tmp_path / "run/model")
    assert model.config.projections == ("PA", "AP") and Corpus.open(folder).table["projection"].unique() == ["PA"]


def test_a_run_of_an_earlier_version_continues(data, recipe, tmp_path):
    out = tmp_path / "run"
    assert run_in_process(recipe, data, out) == 0
    settings = yaml.safe_load((out / "config.yaml").read_text())
    settings["views"] = settings.pop("augment")
    settings["model"]["fit"] = {"stretch": "squash"}[settings["model"].pop("resize")]
    del settings["model"]["projections"], settings["labels_as_text"]
    settings["data"] = {"path": "moved", "fingerprint": settings["data"]["fingerprints"][0]}
    (out / "config.yaml").write_text(yaml.safe_dump(settings))
    assert run_in_process(recipe, data, out) == 0


@pytest.mark.slow
def test_killed_at_random_moments_it_continues_bit_for_bit(data, tmp_path):
    recipe = write_recipe(tmp_path, epochs=6, checkpoint_every=3)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(command(recipe, data, whole), env=environment(), check=True, capture_output=True)
    chance, kills = random.Random(0), 0
    while kills < 4:
        process = subprocess.Popen(
            command(recipe, data, broken), env=environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        _wait_for_progress(broken, process)
        time.sleep(chance.random() * 0.5)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    subprocess.run(command(recipe, data, broken), env=environment(), check=True, capture_output=True)
    assert kills > 0
    assert (whole / "model/model.safetensors").read_bytes() == (broken / "model/model.safetensors").read_bytes()
    assert (whole / "metrics.jsonl").read_text() == (broken / "metrics.jsonl").read_text()


def _wait_for_progress(folder: Path, process: subprocess.Popen) -> None:
    """Until this process has written a further row of metrics."""
    path = folder / "metrics.jsonl"
    start = path.stat().st_mtime_ns if path.is_file() else 0
    until(
        lambda: process.poll() is not None or (path.is_file() and path.stat().st_mtime_ns > start),
        what="a row of metrics",
    )


@pytest.mark.slow
def test_two_ranks_run_under_torchrun(data, tmp_path):
    recipe = write_recipe(tmp_path, epochs=1)
    arguments = command(recipe, data, tmp_path / "run", "--settings", "training.devices=2")[3:]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "imitate"]
    ran = subprocess.run([*launcher, *arguments], env=environment(), check=True, capture_output=True, timeout=HANG)
    assert ran.stderr.count(b"finished: ") == 1 and b"Warning" not in ran.stderr
    rows = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert len({json.loads(row)["step"] for row in rows}) == 4
    Imitate.from_pretrained(tmp_path / "run/model")


def test_importing_a_published_checkpoint_gives_a_run(tmp_path, capsys):
    import timm

    torch.save(timm.create_model("resnet50", num_classes=0).state_dict(), tmp_path / "encoder.pth")
    out = tmp_path / "run"
    assert cli.main(["import-reference", str(tmp_path / "encoder.pth"), "--out", str(out)]) == 0
    assert Imitate.from_pretrained(out / "model").config.backbone == "resnet50"
    assert cli.main(["import-reference", str(tmp_path / "encoder.pth"), "--out", str(out)]) == 2
    assert "already holds a model" in capsys.readouterr().err


def test_random_encoders_differ_by_seed_and_take_a_runs_architecture(data, recipe, tmp_path):
    prepared = Corpus.open(data)
    a, b, again = (load_encoder("random", like=str(recipe), data=prepared, seed=s) for s in (0, 1, 0))
    first, second, third = (next(encoder.image.parameters()) for encoder in (a, b, again))
    assert torch.equal(first, third) and not torch.equal(first, second)
    assert a.preprocessing.image_size == 32 and a.text is not None


def test_simclr_needs_no_reports_and_says_that_it_reads_none(data, recipe, tmp_path, capsys):
    bare = tmp_path / "bare"
    shutil.copytree(data, bare)
    nothing = [None] * len(Corpus.open(bare))
    edit_rows(bare, findings=nothing, impression=nothing)
    out = tmp_path / "run"
    settings = ("--settings", "objective={name: simclr}")
    assert run_in_process(recipe, bare, out, *settings) == 0
    assert not (out / "text").exists() and not (out / "text_cache").exists()
    config = Imitate.from_pretrained(out / "model").config
    assert config.objective == "simclr" and not config.reads_text
    save_text_encoder(fit_or_load("lsa-8", corpus(Corpus.open(data))), out / "text")  # as older runs have one
    capsys.readouterr()
    for words in (
        ["evaluate", "retrieval", "--model", str(out), "--data", str(data), "--out", str(tmp_path / "r.json")],
        ["predict", "classify", "--model", str(out), "--images", str(recipe)],
        ["serve", "--model", str(out), "--port", "0"],
    ):
        assert cli.main(words) == 2
        assert "run was trained by simclr, without text" in capsys.readouterr().err.splitlines()[-1]
    assert run_in_process(recipe, bare, tmp_path / "other") == 2
    assert "has no report text" in capsys.readouterr().err


def test_a_text_encoder_of_other_weights_in_the_same_folder_encodes_the_reports_anew(data, tmp_path, tiny_bert):
    """Kind K37: known by its path, it would get the first one's vectors."""
    recipe, cache = write_recipe(tmp_path, epochs=1), tmp_path / "cache"
    words = ("--cache", str(cache), "--settings", f"text=hf:{tiny_bert}:mean", "training.epochs=1")
    assert run_in_process(recipe, data, tmp_path / "first", *words) == 0
    assert run_in_process(recipe, data, tmp_path / "again", *words) == 0
    assert len(list(cache.iterdir())) == 1 and not (tmp_path / "again" / "text_cache").exists()
    change_weights(tiny_bert)
    assert run_in_process(recipe, data, tmp_path / "second", *words) == 0
    assert len(list(cache.iterdir())) == 2
    weights = [(tmp_path / run / "model/model.safetensors").read_bytes() for run in ("first", "again", "second")]
    assert weights[0] == weights[1] != weights[2]


@pytest.fixture
def tiny_bert(tmp_path: Path) -> Path:
    return write_bert(tmp_path / "bert")


def change_weights(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file({name: tensor * 1.5 for name, tensor in state.items()}, folder / "model.safetensors", {"format": "pt"})


def test_the_prepared_folder_may_be_read_only_and_only_what_is_read_is_embedded(data, tmp_path, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    recipe = write_recipe(tmp_path, epochs=1)
    asked = list[str]()
    original = LsaTextEncoder.encode
    monkeypatch.setattr(LsaTextEncoder, "encode", lambda self, texts: (asked.extend(texts), original(self, texts))[1])
    assert run_in_process(recipe, data, tmp_path / "run") == 0
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before
    prepared = Corpus.open(data)
    assert set(asked) == {text for name in ("findings", "impression") for text in prepared.text(name).dropna()}
    assert len(asked) == len(set(asked))
