"""The offline bundle: made from wheels of what is installed here, installed where no index can be reached."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from runpy import run_path

import pytest
from needs import need_module
from wheelhouse import wheelhouse

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOWHERE = "http://127.0.0.1:9"  # port 9 discards what arrives, where anything listens at all


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The archive that ``make bundle`` writes for the bare package, unpacked as on another machine."""
    need_module("hatchling", "dev")
    work = tmp_path_factory.mktemp("bundle")
    wheels = wheelhouse(work / "index", PROJECT["dependencies"])
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    command = [sys.executable, ROOT / "packages/bundle.py", "--extras", "", "--out", work / "dist/bundle"]
    subprocess.run(command, env={**os.environ, **settings}, check=True, capture_output=True, timeout=900)
    with tarfile.open(next((work / "dist").glob("*.tar"))) as archive:
        assert {(member.uid, member.uname) for member in archive} == {(0, "root")}
        archive.extractall(work / "elsewhere", filter="data")
    shutil.rmtree(work / "dist")
    shutil.rmtree(wheels)
    yield next((work / "elsewhere").iterdir())
    shutil.rmtree(work, ignore_errors=True)


def without_network(command: list[str | Path], **options: object) -> subprocess.CompletedProcess[str]:
    """In a network of its own, without any device, where the system allows that; else behind a proxy that is not there."""
    alone = ["unshare", "--map-root-user", "--net"]
    try:
        subprocess.run([*alone, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        alone = []
    proxies = {f"{kind}_proxy": NOWHERE for kind in ("http", "https", "all", "HTTP", "HTTPS", "ALL")}
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "UV_", "PYTHON"))}
    return subprocess.run(
        [*alone, *map(str, command)],
        env={**environment, **proxies},
        capture_output=True,
        text=True,
        check=False,
        **options,
    )  # type: ignore[call-overload,no-any-return]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="install.sh is for a Unix shell")
def test_a_bundle_installs_without_a_network_and_holds_what_it_says(unpacked, tmp_path):
    version = PROJECT["version"]
    assert {path.name for path in unpacked.iterdir()} == {
        "README.md",
        "install.sh",
        "recipes",
        "requirements.txt",
        "wheels",
    }
    assert unpacked.name == f"imitate-cxr-{version}"
    lines = (unpacked / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(list((unpacked / "wheels").iterdir())) > len(PROJECT["dependencies"])
    assert all(re.fullmatch(r"\./wheels/[\w.+!-]+\.whl --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    assert any(line.startswith(f"./wheels/imitate_cxr-{version}-") for line in lines)
    assert not any(
        line.startswith(("./wheels/torch-", "./wheels/timm-", "./wheels/transformers-")) for line in lines
    ), "the bare package is small"
    assert (unpacked / "recipes/tiny.yaml").read_bytes() == (ROOT / "recipes/tiny.yaml").read_bytes()
    target = tmp_path / "env"
    done = without_network(["sh", unpacked / "install.sh", target], cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.endswith(f"imitate {version}\n"), done.stdout + done.stderr
    listed = without_network([target / "bin/imitate", "doctor"], cwd=tmp_path)
    assert listed.returncode == 0 and "JPEG-LS" in listed.stdout, listed.stdout + listed.stderr
    shutil.rmtree(target)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="install.sh is for a Unix shell")
def test_a_damaged_wheel_and_another_python_are_refused(unpacked, tmp_path):
    script = (unpacked / "install.sh").read_text(encoding="utf-8")
    copy = tmp_path / "copy"
    (copy / "wheels").mkdir(parents=True)
    (copy / "install.sh").write_text(re.sub(r"!= \(\d+, \d+\)", "!= (2, 7)", script), encoding="utf-8")
    done = without_network(["sh", copy / "install.sh"], cwd=tmp_path)
    assert done.returncode == 2 and "these wheels are for Python" in done.stderr
    (copy / "install.sh").write_text(script, encoding="utf-8")
    lines = (unpacked / "requirements.txt").read_text(encoding="utf-8").splitlines()
    own = next((unpacked / "wheels").glob("imitate_cxr*.whl"))
    (copy / "requirements.txt").write_text(
        next(line for line in lines if line.startswith("./wheels/imitate_cxr-")), "utf-8"
    )
    (copy / "wheels" / own.name).write_bytes(own.read_bytes() + b"\0")
    done = without_network(["sh", copy / "install.sh", tmp_path / "env"], cwd=tmp_path)
    assert (
        done.returncode != 0
        and "DO NOT MATCH THE HASHES" in done.stderr
        and not (tmp_path / "env/bin/imitate").exists()
    )


def test_a_folder_of_something_else_is_not_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    command = [sys.executable, ROOT / "packages/bundle.py", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "holds something else" in done.stderr and (tmp_path / "mine.txt").is_file()


PROGRAM = """#!/bin/sh
if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/imitate"; fi
echo "$0 in $PWD: ${PYTHONPATH-none}" >> "$SEEN"
"""


@pytest.mark.skipif(sys.platform == "win32", reason="install.sh is for a Unix shell")
def test_settings_of_the_shell_do_not_get_into_the_environment(tmp_path):
    """Of packages on PYTHONPATH pip says that they are installed already; by CDPATH, cd goes elsewhere."""
    script = run_path(str(ROOT / "packages/bundle.py"))["INSTALL"].format(python="3.12", major=3, minor=12)
    bundle, work = tmp_path / "a bundle", tmp_path / "my work"
    for folder in (bundle, work, tmp_path / "other/imitate-env"):
        folder.mkdir(parents=True)
    (bundle / "install.sh").write_text(script, encoding="utf-8")
    (tmp_path / "python").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "python").chmod(0o755)
    settings = {"PYTHON": str(tmp_path / "python"), "SEEN": str(tmp_path / "seen"), "PYTHONPATH": "/modules",
                "CDPATH": str(tmp_path / "other")}  # fmt: skip
    subprocess.run(["sh", bundle / "install.sh"], cwd=work, env={**os.environ, **settings}, check=True)
    seen = (tmp_path / "seen").read_text(encoding="utf-8").splitlines()
    here, env = bundle.resolve(), work.resolve() / "imitate-env/bin"
    assert seen[2:] == [f"{env / name} in {here}: none" for name in ("python", "python", "imitate")]
    assert all(line.endswith(": none") for line in seen)
