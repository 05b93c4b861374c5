"""What every source has in common: names, options, traits, and how other packages add theirs."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import ValidationError

from imitate import sources
from imitate.config import Config
from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.inference.prompts import BUILT_IN as PROMPT_FILES
from imitate.sources import BUILT_IN, Options, Source, Traits, find_source, source_names
from imitate.sources.table import TableColumns
from imitate.sources.table_marks import MarkColumns

USED = {
    "synthetic": {"n", "seed", "original_size", "female_contrast", "hospital", "language", "raw"},
    "open-i": {"raw"},
    "mimic-cxr": {"raw", "mode", "reports", "mimic_iv"},
    "dicomweb": {
        "raw",
        "url",
        "since",
        "until",
        "filters",
        "modalities",
        "body_parts",
        "reports",
        "textless",
        "sections",
        "whole_report",
        "id_key",
        "timeout",
        "parallel",
        "retries",
        "certificates",
    },
    "table": {
        "raw",
        "sheet",
        "sections",
        "whole_report",
        "language",
        *TableColumns.model_fields,
        *MarkColumns.model_fields,
    },
    "rsna": {"raw", "mode", "mapping"},
    "chestxray14": {"raw", "split_by"},
    "chestx-det": {"raw", "edition"},
    "chexlocalize": {"raw", "images", "val"},
    "ms-cxr": {"raw", "images", "split_by"},
    "padchest-gr": {"raw", "language", "readers", "padchest"},
    "tbx11k": {"raw", "split_by"},
    "vindr-cxr": {"raw", "votes", "boxes"},
    "brax": {"raw", "images", "uncertain"},
    "chexpert-plus": {"raw", "images", "split_by", "labels", "uncertain"},
    "nih-google": {"raw", "images", "findings"},
    "padchest": {"raw", "classes", "match", "labelled_by"},
    "rexgradient": {"raw"},
    "covidx": {"raw", "mode", "mapping"},
    **{key: {"raw", "mode"} for key in ("chexpert", "siim", "object-cxr")},
}
VALUES = {"mode": "paper", "reports": "x", "split_by": "patient", "n": 3, "seed": 1, "sections": "x", "labels": (),
          "votes": "all"}  # fmt: skip
OWN = {("chexpert-plus", "labels"): "none", ("ms-cxr", "split_by"): "mimic", ("tbx11k", "split_by"): "image"}
REQUIRED = {"raw": "x"}
MORE = {"dicomweb": {"url": "https://pacs.example.org/dicom-web"}}  # that a source requires


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    sources._installed.cache_clear()
    yield
    sources._installed.cache_clear()


def records(options: Options) -> Iterator[Record | Excluded]:
    yield Excluded("a", "black image")


def installed(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    """Entry points as if another package had brought them."""
    module = ModuleType("outside")
    monkeypatch.setitem(sys.modules, "outside", module)
    points = []
    for name, value in values.items():
        setattr(module, name, value)
        points.append(EntryPoint(name.replace("_", "-"), f"outside:{name}", sources.GROUP))
    monkeypatch.setattr(sources, "entry_points", lambda group: points if group == sources.GROUP else [])


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_source_has_only_the_options_that_it_uses(name: str) -> None:
    source = find_source(name)
    assert set(source.Options.model_fields) == USED[name]
    assert all(field.description for key, field in source.Options.model_fields.items())
    for key, value in VALUES.items():
        value = OWN.get((name, key), value)
        if key in USED[name]:
            source.Options.model_validate({**REQUIRED, **MORE.get(name, {}), key: value})
        else:
            with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
                source.Options.model_validate({**REQUIRED, **MORE.get(name, {}), key: value})


@pytest.mark.parametrize("name", BUILT_IN)
def test_traits_name_what_there_is(name: str) -> None:
    source = find_source(name)
    options = source.Options.model_validate({**REQUIRED, **MORE.get(name, {})})
    traits, classes = source.traits_of(options), source.classes_of(options)
    assert not traits.prompts or (PROMPT_FILES / f"{traits.prompts}.yaml").is_file()
    assert (traits.prompts == name) == (PROMPT_FILES / f"{name}.yaml").is_file()
    assert len(set(classes)) == len(classes)
    assert classes or name in ("dicomweb", "table", "ms-cxr", "padchest-gr", "rexgradient")
    assert traits.exclusive == (name in ("covidx", "tbx11k"))
    assert Traits.model_validate_json(traits.model_dump_json()) == traits


def test_the_paper_s_mimic_has_no_test_set_and_a_table_the_classes_that_it_is_given(tmp_path: Path) -> None:
    mimic, table = find_source("mimic-cxr"), find_source("table")
    assert mimic.traits_of(mimic.Options(raw=tmp_path, mode="paper")).test_sets == ()  # type: ignore[call-arg]
    options = table.Options.model_validate({"raw": tmp_path, "labels": ["Edema", "Mass"]})
    assert table.classes_of(options) == ("Edema", "Mass")


def test_another_package_adds_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, pad_chest=Source(records, Options, ("Edema",)))
    assert find_source("pad-chest").classes_of(Options(raw=Path("x"))) == ("Edema",)
    assert source_names() == [*sorted(BUILT_IN), "pad-chest"]


def test_a_built_in_source_keeps_its_name(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    installed(monkeypatch, rsna=Source(records, Options))
    assert find_source("rsna").classes == ("Pneumonia",)
    assert caplog.messages == ["the source rsna of outside:rsna is ignored: a built-in source has this name"]


def test_unknown_and_faulty_sources_are_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, odd=Config())
    with pytest.raises(UserError, match="^no source 'vindr': choose among brax, .*, vindr-cxr, odd$"):
        find_source("vindr")
    with pytest.raises(UserError, match=r"^source 'odd' \(outside:odd\) is a Config, not a Source$"):
        find_source("odd")
    del sys.modules["outside"].odd  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"^source 'odd' \(outside:odd\) cannot be loaded: .*has no attribute 'odd'"):
        find_source("odd")


def test_options_are_read_without_what_is_slow_to_import() -> None:
    """The help of ``imitate prepare NAME`` must not wait for it."""
    slow = {"pandas", "pyarrow", "sklearn", "scipy", "pydicom", "torch"}
    program = f"""
import sys
from imitate.sources import BUILT_IN, find_source
for name in BUILT_IN:
    find_source(name).Options.model_json_schema()
print(*{slow} & set(sys.modules))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
