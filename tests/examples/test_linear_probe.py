"""The plain PyTorch loop learns, leaves the encoder alone unless asked, and keeps patients apart."""

import math

import pandas as pd
import pytest
import torch
from example import program, write_labelled
from runs import write_run

import imitate


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("probe")
    write_run(root)
    write_labelled(root / "images", 120, path_column="image")
    return root


def run(root, *flags: str) -> dict[str, float]:
    files = {"--model": root / "run", "--table": root / "images" / "table.csv", "--images": root / "images"}
    words = [str(word) for pair in files.items() for word in pair]
    return program("linear_probe.py").main([*words, "--out", str(root / "out.pt"), "--workers", "0", *flags])


def test_the_probe_learns_with_a_frozen_encoder(root):
    found = run(root, "--epochs", "20")
    assert found.keys() == {"Effusion", "Cardiomegaly"} and found["Effusion"] > 0.75
    kept = torch.load(root / "out.pt", weights_only=True)
    before = imitate.Imitate.from_pretrained(root / "run").image.state_dict()
    assert kept["classes"] == ["Effusion", "Cardiomegaly"] and kept["preprocessing"]["prepared_size"] == 36
    assert all(torch.equal(value, kept["state"][f"encoder.{name}"]) for name, value in before.items())


def test_fine_tuning_moves_the_encoder(root):
    run(root, "--epochs", "1", "--finetune")
    kept = torch.load(root / "out.pt", weights_only=True)["state"]
    before = imitate.Imitate.from_pretrained(root / "run").image.named_parameters()
    assert not any(torch.equal(value, kept[f"encoder.{name}"]) for name, value in before if value.ndim == 4)


def test_a_patient_is_held_out_whole_and_the_same_everywhere():
    module = program("linear_probe.py")
    patients = pd.Series([f"p{number // 2}" for number in range(1000)])
    held = module.held_out(patients)
    assert 0.15 < held.mean() < 0.25 and patients[held].nunique() + patients[~held].nunique() == 500
    assert held[:40:2].nonzero()[0].tolist() == [2, 8, 11, 14]


def test_what_is_no_label_is_refused_and_an_image_without_any_says_nothing():
    module = program("linear_probe.py")
    table = pd.DataFrame({"image": "a.png", "patient": "p", "Effusion": [1, 0, None], "age": [63, 1, 0]})
    with pytest.raises(SystemExit, match="error: age must be 1, 0 or blank"):
        module.labels_of(table)
    with pytest.raises(SystemExit, match="error: Effusion must be 1, 0 or blank"):
        module.labels_of(table.drop(columns="age").replace({"Effusion": {0: -1}}))
    labels = torch.from_numpy(module.labels_of(table.drop(columns="age")))
    batches = [(torch.zeros(1, 1), each[None]) for each in labels]
    assert module.epoch(torch.nn.Identity(), batches, "cpu", None) == pytest.approx(math.log(2))


def test_an_image_that_cannot_be_read_is_excluded_with_its_reason(root, tmp_path, capsys):
    table = pd.read_csv(root / "images" / "table.csv", dtype={"patient": str})
    unread = table.iloc[:1].assign(image="absent.png")
    pd.concat([unread, table]).to_csv(tmp_path / "table.csv", index=False)
    run(root, "--epochs", "0", "--table", str(tmp_path / "table.csv"))
    printed = capsys.readouterr().out
    assert "absent.png: missing file" in printed and printed.count("excluded: ") == 1
    assert f"AUROC of {program('linear_probe.py').held_out(table['patient']).sum()} held-out images" in printed
    unread.to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(SystemExit, match="no image of .* can be read below"):
        run(root, "--table", str(tmp_path / "table.csv"))


def test_images_without_a_patient_are_refused(root, tmp_path):
    table = pd.read_csv(root / "images" / "table.csv", dtype={"patient": str})
    table.loc[3, "patient"] = None
    table.to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(SystemExit, match="fill in the column patient"):
        run(root, "--table", str(tmp_path / "table.csv"))
