"""What continuous integration runs, and that it skips nothing for want of a program."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from _pytest.outcomes import Failed, Skipped
from needs import PACKAGES, need, need_module

ROOT = Path(__file__).parents[1]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
JOBS = WORKFLOW["jobs"]
FAST = '-m "not slow and not stress"'


def runs(job: str) -> str:
    return "\n".join(step.get("run", "") for step in JOBS[job]["steps"])


def test_the_workflow_may_read_only_and_newer_pushes_replace_older_ones():
    assert WORKFLOW["permissions"] == {"contents": "read"} and not any("permissions" in job for job in JOBS.values())
    assert WORKFLOW["concurrency"]["cancel-in-progress"] is True
    assert {"push", "pull_request"} <= set(WORKFLOW[True])  # YAML 1.1 reads ``on`` as true


def test_each_job_ends_checks_out_and_caches():
    for name, job in JOBS.items():
        used = [step.get("uses", "").partition("@") for step in job["steps"]]
        assert job["timeout-minutes"] <= 90 and used[0][0] == "actions/checkout", name
        assert all(re.fullmatch(r"v\d+", version) for action, _, version in used if action), name
        caches = [
            step for step in job["steps"] if "cache" in step.get("uses", "") or "enable-cache" in step.get("with", {})
        ]
        assert len(caches) == 1, name


def test_linux_runs_everything_and_the_others_the_fast_tests():
    assert ".ci/run" in runs("linux") and JOBS["linux"]["strategy"]["matrix"]["python"] == ["3.11", "3.12"]
    assert {each.split("-")[0] for each in JOBS["fast"]["strategy"]["matrix"]["system"]} == {"macos", "windows"}
    assert FAST in runs("fast") and FAST in runs("lowest") and "--resolution lowest-direct" in runs("lowest")
    assert "make docs" in runs("docs")
    space = (ROOT / ".ci/space").read_text()
    assert ".ci/space\n" in (ROOT / ".ci/run").read_text() and "IMITATE_NEEDS_GRADIO=1" in space
    assert all((ROOT / found).is_file() for found in re.findall(r"(?:--requirement|pytest -q) (\S+)", space))


def test_what_a_job_names_is_there():
    extras = re.findall(r"'\.\[(.+?)\]'", runs("fast") + runs("lowest"))
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert extras and all(re.search(rf"^{name} = \[", declared, re.M) for each in extras for name in each.split(","))
    for script in re.findall(
        r"\.ci/\w+", runs("linux") + runs("lowest") + (ROOT / ".ci/run").read_text(encoding="utf-8")
    ):
        assert os.access(ROOT / script, os.X_OK), script
    for marker in ("slow", "stress"):
        assert f'"{marker}: ' in declared


def test_every_program_that_a_test_may_need_is_installed_by_ci():
    installed = (ROOT / ".ci/packages").read_text(encoding="utf-8")
    assert all(f":{package}" in installed for package in PACKAGES.values())


@pytest.mark.parametrize("lacking", [lambda: need("chromium"), lambda: need_module("no_such_module", "dev")])
def test_what_is_lacking_is_skipped_by_people_and_fails_in_ci(lacking, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(Skipped):
        lacking()
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(Failed, match="CI skips no test"):
        lacking()


@pytest.mark.skipif(sys.platform == "win32", reason="the script is for a Unix shell")
def test_ci_ends_where_a_program_cannot_be_installed(tmp_path):
    for name in ("bash", "env"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    done = subprocess.run(
        [ROOT / ".ci/packages"], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "not installed: chromium" in done.stderr


def test_files_of_posix_tests_are_not_collected_on_windows(request, monkeypatch, tmp_path):
    plugins = request.config.pluginmanager.get_plugins()
    hook = next(each for each in plugins if getattr(each, "POSIX", None)).pytest_ignore_collect
    posix, other = tmp_path / "test_a.py", tmp_path / "test_b.py"
    posix.write_text("import resource\n")
    other.write_text("import os\n")
    assert hook(posix) is None
    monkeypatch.setattr(sys, "platform", "win32")
    assert hook(posix) is True and hook(other) is None
