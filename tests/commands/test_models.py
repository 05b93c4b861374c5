"""``imitate models`` and ``imitate import``."""

import json
import re
from typing import Any

import pytest
import torch
from peer_files import TEXTS, tiny_resnet, under, write_vocabulary
from tiny_peers import kad_parts, write_biovil, write_chexzero, write_gloria, write_kad

import imitate
from imitate import cli
from imitate.inference.peer import load_peer
from imitate.models import peers


def test_the_list_has_every_family(capsys):
    assert cli.main(["models"]) == 0
    text = capsys.readouterr().out
    for family in peers.FAMILIES:
        assert f"| {family.name} " in text and family.licence in text and family.where in text


def test_a_file_is_described_and_its_vectors_are_the_same_each_time(tmp_path, capsys):
    file = write_chexzero(tmp_path)
    assert cli.main(["models", str(file), "--selftest"]) == 0
    text = capsys.readouterr().out
    assert "CheXzero" in text and "320 px by pad-lanczos" in text and "can be read" in text
    lines = [line for line in text.splitlines() if re.match(r"(image|text) \d", line)]
    assert len(lines) == 12 and len(set(lines)) == 12
    assert all(len(line.split(": ")[1].split()) == 9 for line in lines)
    encoder = load_peer(file)
    first = float(lines[6].split(": ")[1].split()[0])
    assert first == pytest.approx(float(encoder.text.encode(["No acute cardiopulmonary process."]).norm()), abs=6e-4)
    assert cli.main(["models", str(file), "--selftest"]) == 0 and capsys.readouterr().out == text


def test_the_release_of_imitate_is_named_and_says_what_reads_all_of_it(tmp_path, capsys):
    state = {**under("encoder.", tiny_resnet()), "multi_attent.in_proj_weight": torch.zeros(3, 1)}
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "imitate.pth")
    assert cli.main(["models", str(tmp_path / "imitate.pth")]) == 0
    text = capsys.readouterr().out
    assert "the image encoder of IMITATE's release" in text and "imitate import FILE --out RUN" in text


def test_what_is_unknown_or_damaged_is_refused_in_one_line(tmp_path, capsys):
    torch.save({"a": torch.zeros(3)}, tmp_path / "x.pt")
    assert cli.main(["models", str(tmp_path / "x.pt")]) == 2
    assert "match no known encoder" in capsys.readouterr().err
    file = write_chexzero(tmp_path / "c")
    state = torch.load(file)
    state["visual.transformer.resblocks.1.ln_2.weights"] = state.pop("visual.transformer.resblocks.1.ln_2.weight")
    torch.save(state, file)
    assert cli.main(["models", str(file)]) == 2
    error = capsys.readouterr().err
    assert "resblocks.1.ln_2.weights" in error and error.count("\n") == 1


@pytest.mark.parametrize("beside", [True, False])
def test_an_imported_folder_is_the_same_model_of_plain_tensors(tmp_path, beside):
    file = write_gloria(tmp_path / "in")
    words = []
    if not beside:
        (file.parent / "vocab.txt").unlink()
        (tmp_path / "words").mkdir()
        write_vocabulary(tmp_path / "words")
        words = ["--text", str(tmp_path / "words")]
    assert cli.main(["import", str(file), "--out", str(tmp_path / "out"), *words]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.safetensors", "peer.json", "vocab.txt"]
    assert json.loads((tmp_path / "out/peer.json").read_text())["family"] == "gloria"
    (file.parent / "vocab.txt").write_bytes((tmp_path / "out/vocab.txt").read_bytes())
    before: Any = imitate.load(file).encoder
    after: Any = imitate.load(tmp_path / "out").encoder
    assert before.identity == after.identity
    assert torch.equal(before.embed_texts(TEXTS), after.embed_texts(TEXTS))


def test_a_size_that_tensors_do_not_determine_is_reported_when_a_file_is_imported(tmp_path, capsys):
    file = write_kad(tmp_path / "in")
    for size, words in ((512, []), (1024, ["--size", "1024"])):
        assert cli.main(["import", str(file), "--out", str(tmp_path / str(size)), *words]) == 0
        wanted = load_peer(tmp_path / str(size)).preprocessing
        assert wanted.prepared_size == wanted.image_size == size
    assert cli.main(["import", str(file), "--out", str(tmp_path / "x"), "--size", "640"]) == 2
    assert "no side of 640 px here, it can be 512 or 1024" in capsys.readouterr().err
    small, *_ = kad_parts(tmp_path, 3)
    assert cli.main(["import", str(small), "--out", str(tmp_path / "x"), "--size", "512"]) == 2
    assert "is for images of 224 px, as its tensors show: omit --size" in capsys.readouterr().err
    other = write_gloria(tmp_path / "gloria")
    assert cli.main(["import", str(other), "--out", str(tmp_path / "x"), "--size", "512"]) == 2
    assert "its tensors say what it is" in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_two_files_of_one_model_become_one_folder(tmp_path):
    folder = write_biovil(tmp_path / "in")
    assert cli.main(["import", str(folder), "--out", str(tmp_path / "out")]) == 0
    before, after = imitate.load(folder).encoder, imitate.load(tmp_path / "out").encoder
    assert before.identity == after.identity and before.has_text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.safetensors", "peer.json", "vocab.txt"]
    (folder / "pytorch_model.bin").write_text("damaged")
    assert not imitate.load(folder).encoder.has_text


def test_a_second_import_is_refused_and_a_folder_without_a_vocabulary_is_warned_of(tmp_path, capsys, caplog):
    file = write_gloria(tmp_path / "in")
    (file.parent / "vocab.txt").unlink()
    assert cli.main(["import", str(file), "--out", str(tmp_path / "out")]) == 0
    assert "holds no vocabulary (vocab.txt of emilyalsentzer/Bio_ClinicalBERT)" in caplog.text
    assert cli.main(["import", str(file), "--out", str(tmp_path / "out")]) == 2
    assert "already holds a model" in capsys.readouterr().err
