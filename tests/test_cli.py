import inspect
import logging
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from rich.console import Console

import imitate
from imitate import cli
from imitate.commands import flag
from imitate.config import Config, Recipe, load_config
from imitate.errors import Stopped, UserError
from imitate.sources import BUILT_IN
from imitate.tasks import TASKS

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "pandas", "numpy", "matplotlib", "sklearn", "scipy", "pyarrow", "PIL", "rich", "timm", "transformers"}
LOADED = "import sys; print('loaded:', *sorted(set(sys.modules)), file=sys.stderr)"


def loaded(code: str) -> set[str]:
    """The modules that a program has imported in the end."""
    ran = subprocess.run([sys.executable, "-c", f"{code}\n{LOADED}"], capture_output=True, text=True, check=True)
    return set(ran.stderr.splitlines()[-1].split()[1:])


def test_help_and_version(capsys):
    assert cli.main([]) == 0 and cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in cli.COMMANDS)
    assert cli.main(["--version"]) == 0
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert capsys.readouterr().out == f"imitate {project['version']}\n" == f"imitate {imitate.__version__}\n"


def test_the_list_of_commands_imports_the_standard_library_alone():
    found = loaded("from imitate.cli import main; main(['--help'])") - loaded("")
    foreign = [name for name in found if name.split(".")[0] not in sys.stdlib_module_names]
    assert sorted(foreign) == ["imitate", "imitate.cli"]


MORE = {
    "pretrain": [["recipes/tiny.yaml"]],
    "doctor": [["x", "--source", "rsna"]],
    "prepare": [[name] for name in BUILT_IN],
    "evaluate": [[name] for name in TASKS],
}  # words that change the options


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_has_its_help_without_anything_heavy(name):
    code = f"""
from imitate.cli import main
for words in {[[], *MORE.get(name, [])]}:
    try:
        main([{name!r}, *words, "--help"])
    except SystemExit as end:
        assert end.code == 0
"""
    assert not {each.split(".")[0] for each in loaded(code)} & HEAVY


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_argument_has_a_text_and_the_help_has_no_python(name, capsys):
    function = cli.function_of(name)
    command = getattr(import_module(f"imitate.commands.{function}"), function)
    for argument in inspect.signature(command).parameters.values():
        assert argument.kind is argument.VAR_KEYWORD or f"\n        {argument.name}: " in command.__doc__
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    text = capsys.readouterr().out
    assert f"usage: imitate {name}" in text and "From Python" not in text and "import imitate" not in text


@pytest.fixture
def level():
    """What --quiet and --verbose change in this process, put back."""
    logger = logging.getLogger("imitate")
    before, tty = logger.level, os.environ.get("TTY_COMPATIBLE")
    yield logger
    logger.setLevel(before)
    os.environ.pop("TTY_COMPATIBLE")
    os.environ.update({"TTY_COMPATIBLE": tty} if tty else {})


def test_quiet_has_no_messages_and_no_bars_and_verbose_shows_where_an_error_was_raised(level, tmp_path, caplog, capsys):
    words = ["doctor", str(tmp_path / "absent"), "--quiet"]
    assert cli.main(words) == 2 and level.level == logging.WARNING
    assert os.environ["TTY_COMPATIBLE"] == "0" and not Console(force_terminal=None).is_terminal
    assert not caplog.records
    words = ["--verbose" if word == "--quiet" else word for word in words]
    assert cli.main(words) == 2 and level.level == logging.DEBUG
    assert caplog.records[-1].exc_info and "absent" in capsys.readouterr().err


def test_print_config_is_the_recipe_with_its_defaults_and_the_changes(capsys, tmp_path):
    words = ["recipes/tiny.yaml", "--training.epochs", "3", "--settings", "training.seed=5", "--print-config"]
    assert cli.main(["pretrain", *words]) == 0
    printed = capsys.readouterr().out
    values = yaml.safe_load(printed)
    assert (values["training"]["epochs"], values["training"]["seed"], values["text"]) == (3, 5, "lsa-64")
    assert set(values) == set(Recipe.model_fields)
    (tmp_path / "whole.yaml").write_text(printed)
    assert load_config(Recipe, tmp_path / "whole.yaml").model_dump(mode="json") == values
    assert cli.main(["evaluate", "retrieval", "--print-config", "--followups", "excluded", "--out", "x.json"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert values["task"] == "retrieval" and values["settings"]["followups"] == "excluded"
    assert cli.main(["predict", "--print-config"]) == 2
    assert "--print-config: only pretrain and evaluate accept it" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["pretrain", "recipes/tiny.yaml", "--training.epoch", "3", "--print-config"])


def test_recipes_are_listed_with_what_they_are_for_and_shown_whole(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["recipes"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "recipes").rglob("*.yaml")}
    assert lines.keys() == files and all(text.strip().endswith((".", ":")) for text in lines.values())
    assert cli.main(["recipes", "show", "recipes/tiny.yaml"]) == 0
    assert capsys.readouterr().out == (ROOT / "recipes/tiny.yaml").read_text()
    for words in (["show"], ["show", "recipes/absent.yaml"]):
        assert cli.main(["recipes", *words]) == 2
        assert "imitate recipes list shows" in capsys.readouterr().err


def test_unknown_command_and_user_error(capsys):
    assert cli.main(["fly"]) == 2 and "unknown command 'fly'" in capsys.readouterr().err
    assert cli.main(["pretrain", "absent.yaml", "--data", "x", "--out", "y"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no recipe at absent.yaml" in error


@pytest.mark.parametrize(
    "error, code, said",
    [
        (Stopped("SIGUSR1"), 75, "imitate recipes: stopped by SIGUSR1; the same command continues\n"),
        (KeyboardInterrupt(), 130, "imitate recipes: interrupted\n"),
    ],
)
def test_a_scheduler_and_ctrl_c_have_exit_codes_of_their_own(monkeypatch, capsys, error, code, said):
    def stopped(action: str = "list") -> None:
        raise error

    monkeypatch.setattr("imitate.commands.recipes.recipes", stopped)
    assert cli.main(["recipes"]) == code and capsys.readouterr().err == said


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("imitate.commands.pretrain.load_config", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["pretrain", "x.yaml", "--data", "x", "--out", "y"])


def test_keys_of_a_recipe_are_flags_and_only_those_that_are_given_are_passed_on(monkeypatch):
    seen: list[dict] = []
    monkeypatch.setattr("imitate.commands.pretrain.pretrain", spy(seen))
    line = ["pretrain", "recipes/tiny.yaml", "--data", "a", "b", "--out", "c"]
    assert cli.main(line) == 0
    flags = ["--training.epochs", "3", "--training.batch_size", "8", "--objective.kernel", "none", "--no-pretrained"]
    assert cli.main([*line, *flags, "--training.chunk", "None", "--model.backbone-options", "{channels: [8, 16]}"]) == 0
    given = [{key: value for key, value in each.items() if key in Recipe.model_fields} for each in seen]
    assert not any(value for value in given[0].values())
    assert {key: value for key, value in given[1].items() if value != {}} == {
        "training": {"epochs": 3, "batch_size": 8, "chunk": None},
        "objective": {"kernel": "none"},
        "pretrained": False,
        "model": {"backbone_options": {"channels": [8, 16]}},
    }


def spy(seen: list[dict]):
    def pretrain(recipe: Path, /, *, data: tuple[Path, ...], out: Path, **changes: object) -> None:
        seen.append(changes)

    return pretrain


def test_the_help_shows_the_values_of_the_recipe(tmp_path, capsys):
    (tmp_path / "r.yaml").write_text("training: {epochs: 77}")
    for words, epochs in (([], 20), ([str(tmp_path / "r.yaml")], 77)):
        with pytest.raises(SystemExit):
            cli.main(["pretrain", *words, "--help"])
        assert f"(default: {epochs})" in " ".join(
            re.split(r"--training\.epochs\b", capsys.readouterr().out)[-1].replace("│", " ").split()[:8]
        )


def test_the_help_says_none_where_a_default_is_empty(tmp_path, capsys):
    (tmp_path / "r.yaml").write_text("model: {levels: [], keep: []}")
    with pytest.raises(SystemExit):
        cli.main(["pretrain", str(tmp_path / "r.yaml"), "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "(default: )" not in shown
    for name in ("levels", "keep"):
        assert "(default: none)" in re.split(rf"--model\.{name}\b", shown)[-1].split(" --")[0]


def test_the_help_of_a_setting_is_its_own_comment(capsys):
    with pytest.raises(SystemExit):
        cli.main(["pretrain", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    about = dict(re.findall(r"--(\S+) (.*?)(?= --|$)", shown))
    for name, text in {
        "training.chunk": "Samples that the backbone processes at a time: gradient accumulation with cached",
        "training.sync-batchnorm": "Where BatchNorm uses the statistics of the global batch",
        "model.text-statistics": "Running BatchNorm statistics",
        "model.aggregation": "How levels are combined",
        "init": "weights to start from instead",
        "model.texts": "Texts on which the branches are trained",
    }.items():
        assert text in about[name]
    assert "BatchNorm" not in about["model.text-width"] and "subcommands" not in shown


def test_the_texts_of_the_branches_are_one_flag(monkeypatch):
    seen: list[dict] = []
    monkeypatch.setattr("imitate.commands.pretrain.pretrain", spy(seen))
    line = ["pretrain", "recipes/tiny.yaml", "--data", "a", "--out", "c", "--model.texts"]
    assert cli.main([*line, "report"]) == 0
    assert cli.main([*line, "[{text: findings, branch: findings}]"]) == 0
    assert [each["model"]["texts"] for each in seen] == ["report", [{"text": "findings", "branch": "findings"}]]


class Clash(Config):
    device: str = "cpu"


def test_an_option_cannot_have_the_name_of_a_flag():
    def command(*, device: str = "auto", **options: object) -> None: ...

    with pytest.raises(UserError, match="option 'device' of Clash has the name of a flag of the command: rename it"):
        cli.as_flags(command, Clash)
    cli.as_flags(command, Clash, omitted=("device",))


def test_flags_are_read_before_they_are_parsed():
    assert flag(["a", "--source", "rsna"], "--source") == flag(["--source=rsna"], "--source") == "rsna"
    assert flag(["--source"], "--source") is None and flag(["--sources", "x"], "--source") is None


def test_the_public_names_load_when_they_are_used():
    assert not {name.split(".")[0] for name in loaded("import imitate; dir(imitate); imitate.__version__")} & HEAVY
    assert set(imitate.__all__) <= set(dir(imitate))
    for name in imitate.__all__:
        assert getattr(imitate, name).__doc__
    assert "    imitate.pretrain(" in imitate.pretrain.__doc__ and "Args:" in imitate.prepare.__doc__
    with pytest.raises(AttributeError, match="no attribute 'fly'"):
        imitate.fly  # noqa: B018


@pytest.mark.parametrize("words", [["--help"], ["recipes", "list"], ["prompts", "--help"]], ids="-".join)
@pytest.mark.skipif(sys.platform == "win32", reason="a closed pipe is another error on Windows")
def test_a_reader_that_has_seen_enough_is_no_error(words: list[str]) -> None:
    """As with ``imitate prepare --help | head -3``."""
    reading, writing = os.pipe()
    os.close(reading)
    run = subprocess.run([sys.executable, "-m", "imitate", *words], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (run.returncode, run.stderr) == (0, "")


def test_a_list_that_is_given_twice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["prepare", "table", "--raw", "a", "--out", "b", "--labels", "A", "--labels", "B"],
        ["prompts", "--prompts", "A=a", "--prompts=B=b"],
    ):
        assert cli.main(words) == 2
        assert "is given twice, and only the last would count: give all values after one --" in capsys.readouterr().err
    assert cli.main(["prompts", "--prompts", "Edema=a", "edema=b"]) == 2
    assert "the class edema is given twice: keep one" in capsys.readouterr().err
