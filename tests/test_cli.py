import subprocess
import sys

import pytest

from imitate import cli


def test_help_and_version(capsys):
    assert cli.main([]) == 0 and cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in cli.COMMANDS)
    assert cli.main(["--version"]) == 0


def test_help_imports_the_standard_library_and_no_verb():
    """What keeps `imitate --help` far below half a second."""
    code = "import sys; before = set(sys.modules); from imitate.cli import main; main(['--help']); print(*sorted(set(sys.modules) - before))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    imported = out.splitlines()[-1].split()
    foreign = [name for name in imported if name.split(".")[0] not in sys.stdlib_module_names]
    assert foreign == ["imitate", "imitate.cli"]


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_has_help_with_a_text_for_each_flag(name, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main([name, "--help"])
    text = capsys.readouterr().out
    assert exit.value.code == 0 and f"imitate {name}" in text


def test_unknown_command_and_user_error(capsys):
    assert cli.main(["fly"]) == 2 and "unknown command 'fly'" in capsys.readouterr().err
    assert cli.main(["pretrain", "absent.yaml", "--data", "x", "--out", "y"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no recipe at absent.yaml" in error


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("imitate.commands.pretrain.load_config", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["pretrain", "x.yaml", "--data", "x", "--out", "y"])
