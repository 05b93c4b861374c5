"""What a tag sets in motion, and what stops it."""

import os
import re
import shutil
import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))
JOBS = WORKFLOW["jobs"]
spec = spec_from_file_location("release", ROOT / "packages/release.py")
assert spec and spec.loader
release = module_from_spec(spec)
spec.loader.exec_module(release)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """As it is on the day of a release."""
    for name in ("pyproject.toml", "CHANGELOG.md", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path)
    edit(tmp_path / "pyproject.toml", r'^version = "[^\n]*"$', 'version = "1.4.0"')
    edit(tmp_path / "CHANGELOG.md", r"\A.*?^## .*?$", "# Changelog\n\n## 1.4.0 - 2027-02-03")
    edit(tmp_path / "CITATION.cff", r"^version: [^\n]*$", "version: 1.4.0\ndate-released: 2027-02-03")
    return tmp_path


def edit(path: Path, pattern: str, new: str) -> None:
    text, count = re.subn(pattern, new, path.read_text(encoding="utf-8"), count=1, flags=re.MULTILINE | re.DOTALL)
    assert count == 1
    path.write_text(text, encoding="utf-8")


def test_a_tag_of_the_version_with_a_dated_changelog_is_a_release(checkout):
    assert release.check("v1.4.0", checkout) == "1.4.0"


@pytest.mark.parametrize(
    "name, pattern, new, message",
    [
        ("pyproject.toml", '^version = "1.4.0"$', 'version = "1.4.1"', "the tag is v1.4.0, pyproject.toml says version 1.4.1"),
        ("CHANGELOG.md", r"1\.4\.0 - ", "1.3.0 - ", "CHANGELOG.md does not begin with version 1.4.0"),
        ("CHANGELOG.md", "2027-02-03", "unreleased", "says 'unreleased' of version 1.4.0: write the date"),
        ("CITATION.cff", r"^version: 1\.4\.0$", "version: 1.3.0", "CITATION.cff names another version"),
        ("CITATION.cff", "2027-02-03", "2027-02-02", "no line 'date-released: 2027-02-03'"),
    ],
)  # fmt: skip
def test_a_tag_that_disagrees_is_none(checkout, name, pattern, new, message):
    edit(checkout / name, pattern, new)
    with pytest.raises(SystemExit, match=re.escape(message)):
        release.check("v1.4.0", checkout)


def test_the_notes_are_the_section_of_the_version_with_a_line_a_paragraph():
    changelog = "# Changelog\n\n## 1.1 - unreleased\n\n### Added\n\n- One that\n  goes on.\n- Two.\n\n## 1.0 - 2026-01-01\n\nThe first\nedition.\n"
    assert release.notes("1.1", changelog) == "### Added\n\n- One that goes on.\n- Two.\n"
    assert release.notes("1.0", changelog) == "The first edition.\n"
    with pytest.raises(SystemExit, match=r"says nothing of version 1\.2"):
        release.notes("1.2", changelog)


def test_only_the_publishing_job_gets_an_identity_and_only_the_last_one_may_write():
    assert WORKFLOW[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads ``on`` as true
    assert WORKFLOW["permissions"] == {"contents": "read"} and WORKFLOW["concurrency"]["cancel-in-progress"] is False
    permissions = {name: job["permissions"] for name, job in JOBS.items() if "permissions" in job}
    assert permissions == {"publish": {"id-token": "write"}, "announce": {"contents": "write"}}
    assert JOBS["publish"]["environment"] == "release" and JOBS["publish"]["needs"] == ["build", "install"]
    assert JOBS["announce"]["needs"] == "publish"
    publishing = JOBS["publish"]["steps"][-1]
    assert publishing["uses"].startswith("pypa/gh-action-pypi-publish@") and "with" not in publishing  # no password
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    assert not any("run" in step or step["uses"].startswith("actions/checkout") for step in JOBS["publish"]["steps"])


def test_the_workflow_builds_what_it_has_checked_and_names_what_is_there():
    steps = [step.get("run", "") for step in JOBS["build"]["steps"]]
    order = [
        next(i for i, run in enumerate(steps) if word in run) for word in ("release.py", "-m build", "twine check")
    ]
    assert order == sorted(order)
    handed = {
        step["with"]["name"]: step["with"]["path"]
        for step in JOBS["build"]["steps"]
        if "upload" in step.get("uses", "")
    }
    assert handed == {"dist": "dist/", "notes": "notes.md"}
    taken = {
        step["with"].get("name") for job in JOBS.values() for step in job["steps"] if "download" in step.get("uses", "")
    }
    assert taken == {"dist", None}
    scripts = re.findall(r"python (packages/\w+\.py)", "\n".join(steps))
    assert scripts and all((ROOT / script).is_file() for script in scripts)
    assert all(job["timeout-minutes"] <= 60 for job in JOBS.values())


@pytest.mark.skipif(shutil.which("bash") is None, reason="the workflow runs in bash")
@pytest.mark.parametrize(("tag", "early"), [("v1.0.0", False), ("v1.0.0.post1", False), ("v1.0.0rc1", True),
                                            ("v1.0.0a2", True), ("v1.0.0b1", True), ("v1.0.0.dev3", True)])  # fmt: skip
def test_a_version_before_the_final_one_is_not_announced_as_the_latest(tag, early):
    (script,) = [step["run"] for step in JOBS["announce"]["steps"] if "run" in step]
    environment = {**os.environ, "GITHUB_REF_NAME": tag, "GITHUB_REPOSITORY": "o/r"}
    command = ["bash", "-ec", f'gh() {{ echo "$@"; }}\n{script}']
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"release create {tag} ") and ("--prerelease" in said) is early
