import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import results_files

from imitate.errors import UserError
from imitate.tasks import results
from imitate.tasks.base import Fit, Published
from imitate.tasks.results import (
    check_out,
    digest_of,
    file_digest,
    keep_fit,
    kept_fit,
    read_predictions,
    read_results,
    write_results,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return results_files.classification(tmp_path / "probe.json", n=20)


def test_a_file_and_its_predictions_are_read_as_they_were_written(file: Path) -> None:
    found = read_results(file)
    assert found.predictions == "probe.npz" and found.seeds == [0, 1]
    runs = read_predictions(found, file)
    for seed, run in enumerate(runs):
        expected = results_files.scored(20, 1.0, seed)
        assert run.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(run[name], array)
    text = file.read_text()
    assert json.loads(text)["format_version"] == 1 and text.startswith('{\n "') and text.endswith("}\n")
    assert {path.name for path in file.parent.iterdir()} == {"probe.json", "probe.npz"}


def test_a_field_may_have_a_slash_in_its_name(file: Path) -> None:
    found, array = read_results(file), np.arange(3.0)
    write_results(found, [{"figure:recall@1/both": array + seed} for seed in found.seeds], file)
    for seed, run in enumerate(read_predictions(read_results(file), file)):
        assert list(run) == ["figure:recall@1/both"]
        np.testing.assert_array_equal(run["figure:recall@1/both"], array + seed)


def test_predictions_are_sought_beside_the_file(file: Path) -> None:
    found = read_results(file)
    for name in (None, "elsewhere/probe.npz"):
        assert len(read_predictions(found.model_copy(update={"predictions": name}), file)) == 2
    file.with_suffix(".npz").unlink()
    with pytest.raises(UserError, match="the predictions probe.npz of .* are missing: keep the two together"):
        read_predictions(found, file)


def test_what_is_no_results_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no results at .*: write them with `imitate evaluate ... --out "):
        read_results(tmp_path / "absent.json")
    path = tmp_path / "x.json"
    for content, message in (("{", "is not JSON"), ("[]", "is not a results file"), ("{}", "x.json")):
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            read_results(path)


def test_a_finished_fit_waits_until_the_results_are_written(file: Path) -> None:
    assert kept_fit(file, "abc") is None
    for digest in ("abc", "def"):
        keep_fit(file, digest, {"score": np.arange(3), "classes": np.array(["a", "b"])})
    found = kept_fit(file, "abc")
    assert found is not None and found["score"].tolist() == [0, 1, 2] and found["classes"].tolist() == ["a", "b"]
    assert kept_fit(file, "other") is None
    assert {path.name for path in (file.parent / "probe.fits").iterdir()} == {"abc.npz", "def.npz"}
    write_results(read_results(file), [{}, {}], file)
    assert kept_fit(file, "abc") is None and not (file.parent / "probe.fits").exists()


def test_the_file_must_be_a_json_that_can_be_written(tmp_path: Path) -> None:
    assert check_out(tmp_path / "a" / "b" / "x.json") == tmp_path / "a" / "b" / "x.json"
    assert check_out(tmp_path / "a" / "b" / "x.json").parent.is_dir()
    with pytest.raises(UserError, match=r"out .*b must be the path of a .json file, e.g. .*results.json"):
        check_out(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write into .*file: "):
        check_out(tmp_path / "file" / "x.json")


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert file_digest(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()
    assert digest_of({"a": 1, "b": 2}, "x") == digest_of({"b": 2, "a": 1}, "x") != digest_of({"a": 1, "b": 2}, "y")
    assert digest_of(Path("a")) == digest_of("a") == hashlib.sha256(b'["a"]').hexdigest()


def test_the_commit_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "checkout"
    monkeypatch.setattr(results, "__file__", str(root / "src/imitate/tasks/results.py"))
    monkeypatch.delenv("IMITATE_COMMIT", raising=False)
    assert results.commit() is None
    git = root / ".git"

    def write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    write(git / "HEAD", "0123abc\n")
    assert results.commit() == "0123abc"
    write(git / "HEAD", "ref: refs/heads/main\n")
    assert results.commit() is None
    write(git / "packed-refs", "# packed\nfff refs/heads/other\neee refs/heads/main\nddd refs/heads/xmain\n")
    assert results.commit() == "eee"
    write(git / "refs/heads/main", "aaa\n")
    assert results.commit() == "aaa"
    write(git / "HEAD", "ref: refs/heads/absent\n")
    assert results.commit() is None
    monkeypatch.setenv("IMITATE_COMMIT", "ccc")
    assert results.commit() == "ccc"
    write(git / "HEAD", "ref: refs/heads/main\n")
    assert results.commit() == "aaa"


def test_the_commit_of_a_second_working_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main, root = tmp_path / "main/.git", tmp_path / "second"
    monkeypatch.setattr(results, "__file__", str(root / "src/imitate/tasks/results.py"))
    for path, text in (
        (root / ".git", f"gitdir: {main / 'worktrees/second'}\n"),
        (main / "worktrees/second/HEAD", "ref: refs/heads/branch\n"),
        (main / "worktrees/second/commondir", "../..\n"),
        (main / "refs/heads/branch", "bbb\n"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert results.commit() == "bbb"


def test_each_seed_is_a_run_where_nothing_else_is_recorded(file: Path) -> None:
    found = read_results(file)
    assert found.pretrained == [0, 1]
    fits = [Fit(run=0, head=0), Fit(run=0, head=1)]
    assert found.model_copy(update={"fits": fits}).pretrained == [0, 0]
    expected: dict[str, Any] = {
        "format_version": 1, "used": {}, "train": {}, "headline": "", "fits": [], "encoders": [], "weights": [],
        "published": None, "method": "1", "digests": {}, "resamples": None, "device": "", "precision": "",
        "commit": None,
    }  # fmt: skip
    assert {name: value for name, value in found.model_dump().items() if name in expected} == expected


def test_published_metrics_have_a_value_for_each_fraction() -> None:
    rows = {"ours": {"auroc": (80.0, None)}}
    assert Published(source="X", rows={"ours": {"auroc": (80.0,)}}).shares == (1.0,)
    assert Published(source="X", shares=(0.1, 1), rows=rows).note == ""
    with pytest.raises(ValueError, match="ours has 2 values of auroc for 1 shares"):
        Published(source="X", rows=rows)
