"""The recipe for conda, read by its own program: its packages require what those of pip require."""

import re
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from needs import need_module

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAMES = {  # on conda-forge, where it is another one
    "torch": "pytorch",
    "lightning-fabric": "pytorch-lightning",  # which has the module lightning_fabric
    "huggingface-hub": "huggingface_hub",
    "matplotlib": "matplotlib-base",
}


@pytest.fixture(scope="module")
def packages() -> dict[str, Any]:
    need_module("rattler_build", "dev")
    rattler = import_module("rattler_build")
    recipe = rattler.Stage0Recipe.from_file(str(ROOT / "packages/conda/recipe.yaml"))
    return {each.recipe.package.name: each.recipe for each in recipe.render(rattler.VariantConfig())}


def conda(requirements: list[str]) -> list[str]:
    found = [re.fullmatch(r"([\w.-]+)(.*)", line) for line in requirements]
    return [f"{NAMES.get(each[1], each[1])} {each[2]}".strip() for each in found if each]


def test_the_packages_require_what_pyproject_requires(packages):
    assert packages.keys() == {"imitate-cxr", "imitate-cxr-train"}
    bare, train = (list(map(str, packages[name].requirements.run)) for name in sorted(packages))
    assert bare == [f"python {PROJECT['requires-python']}", *conda(PROJECT["dependencies"])]
    assert train == [
        "{'pin_subpackage': {'name': 'imitate-cxr', 'exact': True}}",
        *conda(PROJECT["optional-dependencies"]["train"]),
    ]


def test_version_entry_point_and_licence_are_those_of_pyproject(packages):
    build = packages["imitate-cxr"].to_dict()["build"]
    assert build["noarch"] == "python" and build["python"]["entry_points"] == [
        f"{name} = {place}" for name, place in PROJECT["scripts"].items()
    ]
    for package in packages.values():
        assert str(package.package.version) == PROJECT["version"]
        about = package.to_dict()["about"]
        assert about["license"] == PROJECT["license"] and about["homepage"] == PROJECT["urls"]["Homepage"]
        assert all((ROOT / name).is_file() for name in about["license_file"])
        assert (ROOT / "packages/conda" / package.to_dict()["source"][0]["path"]).resolve() == ROOT
