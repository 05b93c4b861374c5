"""What `pip install` gets: the whole package with its data, and no requirement that nothing uses."""

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest
import yaml
from needs import need_module
from packaging.metadata import Metadata

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
UNSEEN = {  # needed, though no module here imports them
    "pylibjpeg": "pydicom decodes JPEG with it",
    "pylibjpeg-libjpeg": "pydicom decodes JPEG with it",
    "pylibjpeg-openjpeg": "pydicom decodes JPEG 2000 with it",
    "tensorboard": "Fabric's logger writes with it",
    "tabulate": "DataFrame.to_markdown writes with it",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel and an sdist, made without the network."""
    need_module("hatchling", "dev")
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", out], cwd=ROOT, check=True, capture_output=True)
    return out


def test_the_wheel_holds_every_file_of_the_package(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        entry = next(wheel.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    source = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "imitate").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    recipes = {f"imitate/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "recipes").rglob("*.yaml")}
    assert names >= source | recipes and "imitate = imitate.cli:main" in entry
    for kind in (
        "py.typed",
        "serve/page/index.html",
        "inference/prompt_files/findings.yaml",
        "model_card.md",
        "onnx_card.md",
        "recipes/tiny.yaml",
    ):
        assert f"imitate/{kind}" in names
    assert all(name.split("/")[0] in ("imitate", f"imitate_cxr-{PROJECT['version']}.dist-info") for name in names)


def test_the_sdist_holds_what_builds_and_tests_it(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in (
        "pyproject.toml",
        "Makefile",
        "constraints.txt",
        "CHANGELOG.md",
        "CITATION.cff",
        "mkdocs.yml",
        "docs/quickstart.md",
        "experiments/run.py",
        "Dockerfile",
        "compose.yaml",
        ".dockerignore",
        ".github/workflows/release.yml",
        "packages/bundle.py",
        "examples/slurm/pretrain.sbatch",
    ):
        assert name in names
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").glob("*.py")} <= names


def test_the_wheel_from_the_sdist_is_that_of_the_checkout(built, tmp_path):
    """The sdist is what an index builds from, and others' packages."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "again"]
    subprocess.run(command, cwd=next(tmp_path.iterdir()), check=True, capture_output=True)
    contents = []
    for wheel in (next(built.glob("*.whl")), next((tmp_path / "again").glob("*.whl"))):
        with zipfile.ZipFile(wheel) as opened:
            contents.append({name: opened.read(name) for name in opened.namelist()})
    assert contents[0] == contents[1]


def test_what_is_imported_is_required_and_what_is_required_is_imported():
    providers = packages_distributions()
    imported = {canonical(name) for top in foreign_imports() for name in providers.get(top, [top])}
    required = {canonical(line) for line in PROJECT["dependencies"]}
    optional = {canonical(line) for extra in EXTRAS.keys() - {"docs", "dev"} for line in EXTRAS[extra]}
    assert imported - required - optional == set(), "not in pyproject.toml"
    assert required - imported - set(UNSEEN) == set(), "nothing imports it"
    assert not required & optional


@pytest.mark.skipif(Path(sys.prefix) != ROOT / ".venv", reason="not the environment that make builds")
def test_what_is_installed_is_what_the_constraints_name():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    named = {canonical(line): line.partition("==")[2] for line in lines if not line.startswith("#")}
    ours = {"imitate-cxr", "pip", "setuptools"}
    found = {canonical(each.name): each.version for each in distributions()}
    assert {name: version for name, version in found.items() if name not in ours and named.get(name) != version} == {}


def test_constraints_are_exact_versions_and_name_no_address():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("#") and all(re.fullmatch(r"[\w.-]+==[\w.+!]+", line) for line in lines[1:])
    assert len({canonical(line) for line in lines[1:]}) == len(lines) - 1
    direct = {canonical(line) for group in (PROJECT["dependencies"], *EXTRAS.values()) for line in group}
    assert direct <= {canonical(line) for line in lines[1:]} | {"imitate-cxr"}


def test_the_metadata_says_where_the_project_is_and_on_what_it_runs(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
        metadata = wheel.read(name).decode()
    for url in ("Homepage", "Source", "Issues", "Changelog", "Documentation", "Paper"):
        assert re.search(rf"^Project-URL: {url}, https://\S+$", metadata, re.M), url
    for version in ("3.11", "3.12"):
        assert f"Classifier: Programming Language :: Python :: {version}\n" in metadata
    found = Metadata.from_email(metadata, validate=True)
    assert str(found.version) == PROJECT["version"] and found.description_content_type == "text/markdown"
    assert found.description == (ROOT / "README.md").read_text(encoding="utf-8")
    assert {"train"} <= set(found.provides_extra or []) and str(found.requires_python) == PROJECT["requires-python"]
    assert "\nKeywords: " in metadata and "License-Expression: Apache-2.0" in metadata


def test_the_citation_names_the_software_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "type", "license", "version"} <= citation.keys()
    assert citation["license"] == PROJECT["license"] and citation["version"] == PROJECT["version"]
    assert citation["repository-code"] == PROJECT["urls"]["Source"]
    paper = citation["preferred-citation"]
    assert paper["journal"] == "IEEE Transactions on Medical Imaging" and (paper["volume"], paper["issue"]) == (44, 1)
    assert (paper["start"], paper["end"], paper["year"]) == (519, 529, 2025)


def test_the_changelog_begins_with_this_version():
    heads = re.findall(r"^## \[?([\w.]+)\]?(.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert heads and heads[0][0] == PROJECT["version"]
    assert all(re.fullmatch(r" - (unreleased|\d{4}-\d\d-\d\d)", rest) for _, rest in heads)


def foreign_imports() -> set[str]:
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"imitate"}


def canonical(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    assert name
    return re.sub(r"[-_.]+", "-", name[0]).lower()
