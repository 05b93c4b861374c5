import pytest

from imitate.commands import demo as module
from imitate.commands.demo import MARK, demo
from imitate.errors import UserError


@pytest.fixture
def steps(monkeypatch):
    """The demo without its work: what it asks for."""
    asked: list[str] = []
    for step in ("prepare", "pretrain", "evaluate", "report"):
        monkeypatch.setattr(module, step, lambda *_, step=step, **__: asked.append(step))

    def synthesize(source: str, *, out, **_) -> None:
        asked.append("synthesize")
        out.mkdir()
        (out / "table.csv").write_text("x")

    monkeypatch.setattr(module, "synthesize", synthesize)
    return asked


def test_a_folder_of_others_is_left_alone(tmp_path, steps):
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match="contains files that imitate demo did not write: choose another --out"):
        demo(out=tmp_path)
    assert not steps and [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_second_demo_continues_and_deletes_nothing(tmp_path, steps):
    demo(out=tmp_path / "demo")
    assert steps[0] == "synthesize" and {"prepare", "pretrain", "evaluate", "report"} <= set(steps)
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [MARK, "raw"]
    for name in ("run", "results"):  # where people work on
        (tmp_path / "demo" / name).mkdir()
        (tmp_path / "demo" / name / "mine.json").write_text("{}")
    steps.clear()
    demo(out=tmp_path / "demo")
    assert "synthesize" not in steps and "pretrain" in steps
    assert all((tmp_path / "demo" / name / "mine.json").is_file() for name in ("run", "results"))


def test_an_archive_that_was_interrupted_is_made_again(tmp_path, steps, monkeypatch):
    whole = module.synthesize

    def broken(source: str, *, out, **options) -> None:
        whole(source, out=out, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "synthesize", broken)
    with pytest.raises(KeyboardInterrupt):
        demo(out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [MARK]
