"""Predictions in parts: the values of a Predictor, whatever the number of processes, jobs and interruptions."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from archives import write_dicom
from folders import edit_index, write_folder
from needs import need_module
from PIL import Image
from runs import write_run

from imitate.cli import main
from imitate.data.corpus import Corpus
from imitate.data.writer import Engine
from imitate.errors import UserError
from imitate.inference import parts
from imitate.inference.bulk import Question, predict_in_parts
from imitate.inference.predictor import Predictor, load

SCRIPT = Path(__file__).parents[1] / "support" / "predict_parts.py"
BAD = {"b/broken.png": "not a DICOM, PNG or JPEG file", "black.png": "black image"}
PROMPTS = {"Effusion": {"positive": "left effusion", "negative": "clear"}, "Edema": "edema"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and 13 files of which two are not radiographs and the last part of 4 has nothing readable."""
    root = tmp_path_factory.mktemp("bulk")
    write_run(root)
    pixels = np.array(Corpus.open(root / "data").images[:11])
    (root / "images" / "b").mkdir(parents=True)
    for number, each in enumerate(pixels[:-1]):
        Image.fromarray(each).resize((50, 60)).save(
            root / "images" / ("a%d.png", "b/%d.jpg")[number % 2].__mod__(number)
        )
    write_dicom(root / "images" / "b" / "c", pixels[-1])
    Image.new("L", (40, 40)).save(root / "images" / "black.png")
    (root / "images" / "b" / "broken.png").write_text("not an image")
    (root / "images" / "b" / "notes.txt").write_text("passed over")
    write_dicom(root / "images" / "b" / "ct.dcm", pixels[-1], Modality="CT")
    (root / "images" / ".hidden").write_text("skipped")
    return root


@pytest.fixture(scope="module")
def predictor(root: Path) -> Predictor:
    return load(root / "run")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART", 4)


def question(root: Path, action: str = "embed", **more: object) -> Question:
    return Question(action, str(root / "run"), **more)  # type: ignore[arg-type]


def part_files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("part-*"))}


def table_of(out: Path) -> pd.DataFrame:
    return pd.concat([pq.read_table(path).to_pandas() for path in sorted(out.glob("part-*"))], ignore_index=True)


@pytest.fixture(scope="module")
def whole(root: Path) -> Path:
    """The folder of vectors, written at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART", 4)
        assert predict_in_parts(question(root), root / "whole", images=root / "images", engine=Engine(workers=2))
    return root / "whole"


def test_vectors_are_those_of_a_predictor_and_an_unreadable_file_has_a_row_with_its_reason(root, predictor, whole):
    table = table_of(whole)
    names = sorted(path.relative_to(root / "images").as_posix() for path in (root / "images").rglob("[!.]*.[jp]*"))
    assert table["image"].tolist() == sorted([*names, "b/c"])
    assert len(part_files(whole)) == 4 and table[table["reason"].notna()].set_index("image")["reason"].to_dict() == BAD
    assert table["vector"].isna().tolist() == table["reason"].notna().tolist()
    good = table.dropna(subset="vector")
    expected = predictor.embed_images([root / "images" / name for name in good["image"]])
    assert np.allclose(np.stack(good["vector"].to_list()), expected, atol=1e-6)
    schema = pq.read_schema(whole / "part-00003.parquet")
    assert str(schema.field("vector").type).startswith("fixed_size_list<") and schema.field("vector").nullable
    assert schema.equals(pq.read_schema(whole / "part-00000.parquet"))


def test_probabilities_are_those_of_a_predictor(root, predictor, tmp_path, caplog):
    flags = ["--prompts", "Effusion=left effusion|clear", "Edema=edema", "--temperature", "0.2", "--branch", "findings"]
    command = [
        "predict",
        "classify",
        "--model",
        root / "run",
        "--images",
        root / "images",
        *flags,
        "--out",
        tmp_path / "p",
    ]
    with caplog.at_level("INFO"):
        assert main(list(map(str, command))) == 0
    assert "13 images, 2 of them excluded" in caplog.text and "excluded: black image" in caplog.text
    table = table_of(tmp_path / "p").set_index("image")
    assert table.columns.tolist() == ["reason", "Effusion", "Edema"] and table["Edema"].dtype == np.float32
    assert table.loc[list(BAD), ["Effusion", "Edema"]].isna().all(axis=None)
    good = table[table["reason"].isna()]
    files = [root / "images" / name for name in good.index]
    expected = predictor.classify(files, PROMPTS, branch="findings", temperature=0.2)
    assert np.allclose(good[["Effusion", "Edema"]], expected, atol=1e-6)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_jobs_in_any_order_write_the_same_files(root, whole, tmp_path, order):
    done = [
        predict_in_parts(question(root), tmp_path / "out", images=root / "images", engine=Engine(1, (index, 2)))
        for index in order
    ]
    assert done == [False, True] and part_files(tmp_path / "out") == part_files(whole)


def test_what_is_absent_is_written_again_and_nothing_else(root, whole, tmp_path):
    out = tmp_path / "out"
    predict_in_parts(question(root), out, images=root / "images", engine=Engine(1, (1, 2)))
    (out / "part-00002.parquet").unlink()
    (out / "part-00002.parquet.0123abcd.part").write_text("of a killed process")
    before = (out / "part-00000.parquet").stat().st_mtime_ns
    assert predict_in_parts(question(root), out, images=root / "images", engine=Engine(1))
    assert part_files(out) == part_files(whole) and (out / "part-00000.parquet").stat().st_mtime_ns == before


def test_a_killed_process_is_continued(root, whole, tmp_path):
    many = tmp_path / "many"
    many.mkdir()
    for number in range(40):
        (many / f"{number:02d}.png").hardlink_to(root / "images" / "a0.png")
    out, environment = tmp_path / "out", {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, SCRIPT, root / "run", many, out], env=environment)
    while process.poll() is None and not list(out.glob("part-*.parquet")):
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -9 and 0 < len(list(out.glob("part-*.parquet"))) < 10
    assert predict_in_parts(question(root), out, images=many, engine=Engine(1))
    assert predict_in_parts(question(root), tmp_path / "at_once", images=many, engine=Engine(1))
    assert part_files(out) == part_files(tmp_path / "at_once") and len(part_files(out)) == 10


def test_a_prepared_folder(root, predictor, tmp_path):
    assert main(["predict", "embed", "--model", str(root / "run"), "--data", str(root / "data"),
                 "--out", str(tmp_path / "p")]) == 0  # fmt: skip
    data, table = Corpus.open(root / "data"), table_of(tmp_path / "p")
    assert table["image"].tolist() == data.table["image_id"].tolist() and table["reason"].isna().all()
    assert len(part_files(tmp_path / "p")) == len(data) / 4
    found = predictor.retrieve(text="left effusion", index=data, k=len(data)).set_index("image_id")["similarity"]
    cosines = np.stack(table["vector"].to_list()) @ predictor.embed_texts("left effusion")[0]
    assert np.allclose(cosines, found[table["image"]], atol=1e-6)


def test_a_folder_is_not_continued_with_anything_else(root, whole, tmp_path):
    other = tmp_path / "other"
    write_run(other, data=root / "data", joint_width=24)
    images = {"images": root / "images"}
    with pytest.raises(UserError, match="begun with another model: choose another --out"):
        predict_in_parts(question(other), whole, **images)
    with pytest.raises(UserError, match="begun with branch both, not findings"):
        predict_in_parts(question(root, branch="findings"), whole, **images)
    with pytest.raises(UserError, match="begun with images from another kind of folder"):
        predict_in_parts(question(root), whole, data=root / "data")
    with pytest.raises(UserError, match="begun with action embed, not classify"):
        predict_in_parts(question(root, "classify", prompts=PROMPTS), whole, **images)
    predict_in_parts(question(root, "classify", prompts=PROMPTS), tmp_path / "p", **images)
    with pytest.raises(UserError, match="begun with other prompts"):
        predict_in_parts(question(root, "classify", prompts={**PROMPTS, "Edema": "opacity"}), tmp_path / "p", **images)
    with pytest.raises(UserError, match=r"begun with temperature 0.07, not 0.5"):
        predict_in_parts(question(root, "classify", prompts=PROMPTS, temperature=0.5), tmp_path / "p", **images)


def test_files_that_are_new_gone_or_changed_are_reported(root, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        (images / f"{number}.png").write_bytes((root / "images" / "a0.png").read_bytes())
    predict_in_parts(question(root), tmp_path / "out", images=images)
    (images / "0.png").rename(images / "new.png")
    (images / "newer.png").write_bytes(b"")
    (images / "1.png").write_bytes(b"shorter")
    with pytest.raises(UserError, match="different images: 2 files are new, 1 gone and 1 changed in"):
        predict_in_parts(question(root), tmp_path / "out", images=images)


def test_what_cannot_be_is_reported_before_the_model_is_read(root, tmp_path, capsys):
    images, data, full = root / "images", root / "data", tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("")
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    mistakes: dict[str, list[object]] = {
        "--data: only classify and embed accept it": ["embed", "--data", data, "--out", "vectors.npy"],
        "--part or --cluster: only classify and embed": ["embed", "--images", images, "--part", "1/2"],
        "--part 3/2: write it as i/n": ["embed", "--images", images, "--part", "3/2", "--out", out],
        "give embed either one folder as --images, or --data": [
            "embed",
            "--images",
            images,
            "--data",
            data,
            "--out",
            out,
        ],
        "is not empty and holds no predictions": ["embed", "--images", images, "--out", full],
        "lies in the folder of images": ["embed", "--images", images, "--out", images / "out"],
        "is not a folder: give one": ["embed", "--images", images / "a0.png", "--out", out],
        "a folder of 0 files without a radiograph": ["embed", "--images", tmp_path / "empty", "--out", out],
    }
    for message, (action, *flags) in mistakes.items():
        assert main(["predict", str(action), "--model", "absent", *map(str, flags)]) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1


def test_a_class_and_a_prepared_folder_that_cannot_be_used(root, tmp_path):
    with pytest.raises(UserError, match="a class cannot be called image"):
        predict_in_parts(question(root, "classify", prompts={"image": "edema"}), tmp_path / "a", data=root / "data")
    padded = write_folder(tmp_path / "padded", resize="letterbox")
    with pytest.raises(UserError, match="prepared with --resize letterbox, but the model needs stretch"):
        predict_in_parts(question(root), tmp_path / "b", data=padded)
    cut = write_folder(tmp_path / "cut")
    edit_index(cut, percentiles=[1, 99])
    with pytest.raises(UserError, match="prepared with --percentiles .* the model needs None"):
        predict_in_parts(question(root), tmp_path / "b", data=cut)


@pytest.mark.slow
def test_a_cluster_writes_the_same(root, whole, tmp_path, monkeypatch):
    distributed = need_module("distributed", "cluster")
    settings = {
        "n_workers": 1,
        "threads_per_worker": 1,
        "processes": False,
        "dashboard_address": None,
        "protocol": "tcp://",
    }
    with distributed.LocalCluster(**settings, host="127.0.0.1") as running:
        engine = Engine(cluster=running.scheduler_address)
        assert predict_in_parts(question(root), tmp_path / "out", images=root / "images", engine=engine)
    assert part_files(tmp_path / "out") == part_files(whole)
