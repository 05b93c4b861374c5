"""What people write, drawn at random: no parser raises but in its one line, none takes more than linear time."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imitate.config import Recipe, load_config, parse_settings
from imitate.data.annotations import parse_runs, runs_mask, shapes_mask
from imitate.data.reports import decode_report, mimic_rules, parse_sections
from imitate.data.section_labels import read_headers
from imitate.data.sections import split_by_headers
from imitate.errors import UserError
from imitate.inference.prompts import choose_prompts, parse_prompts, read_prompts
from imitate.models.text import LsaTextEncoder
from imitate.sources.object_cxr import _boxes, parse_shapes

FRAME = (12, 10)
RUN_FAULTS = {
    "run lengths are not integers",
    "run lengths are not pairs of gap and length",
    "run lengths exceed the image",
}
SHAPE_FAULTS = {"malformed annotation", "box without coordinates", "box without area", "box outside the image"}
ENCODER = LsaTextEncoder.fit(["left effusion", "no effusion is seen", "heart normal", "lungs clear", "edema"], width=2)
STUDIES = [None, "50000001", *mimic_rules().custom_section, *mimic_rules().custom_range]


def pieces(*words: str) -> st.SearchStrategy[str]:
    """Text out of the parser's own words and whatever else there is."""
    return st.lists(st.one_of(st.sampled_from(words), st.text(max_size=8)), max_size=30).map("".join)


def report(data: tuple[str, str | None, bytes]) -> None:
    text, study, raw = data
    for mode in ("clean", "paper"):
        sections = parse_sections(text, study=study, mode=mode)
        assert all(each is None or each.strip() for each in sections)
    found = split_by_headers(text, read_headers())
    assert all(each is None or each == " ".join(each.split()) for each in found)
    parse_sections(decode_report(raw))


def runs(text: str) -> None:
    try:
        found = parse_runs(text, pixels=FRAME[0] * FRAME[1])
    except ValueError as error:
        assert str(error) in RUN_FAULTS
        return
    inside = {pixel for start, stop in found for pixel in range(start, stop)}
    assert all(0 <= start <= stop <= FRAME[0] * FRAME[1] for start, stop in found)
    assert runs_mask(*FRAME, runs=[text], frame=FRAME).sum() == len(inside)


def shapes(text: str) -> None:
    try:
        found = parse_shapes(text)
        for mode in ("clean", "paper"):
            _boxes(found, mode)
    except ValueError as error:
        assert str(error) in SHAPE_FAULTS
        return
    assert shapes_mask(*FRAME, shapes=found).shape == FRAME[::-1]


def reported(work: Callable[[], object]) -> None:
    try:
        work()
    except UserError as error:
        assert str(error) and "\n" not in str(error) and len(str(error)) <= 1000


def recipe(data: tuple[str, dict[str, Any]], folder: Path) -> None:
    text, overrides = data
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    reported(lambda: load_config(Recipe, path, overrides))
    reported(lambda: read_headers(path))
    reported(lambda: parse_settings((text, *(f"{key}={value}" for key, value in overrides.items()))))


def prompts(data: tuple[str, list[str]], folder: Path) -> None:
    text, arguments = data
    path = folder / "prompts.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    reported(lambda: read_prompts(path))
    reported(lambda: choose_prompts(parse_prompts([str(path)]), ENCODER))
    reported(lambda: choose_prompts(parse_prompts(arguments), ENCODER))


KEYS = [*Recipe.model_fields, *(f"{name}.{part}" for name, field in Recipe.model_fields.items()
        if hasattr(field.annotation, "model_fields") for part in field.annotation.model_fields)]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.dates() | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=8,
)
GRAMMAR = ["a: ", "- ", "? ", "{", "}", "[", "]", "&a ", "*a", "<<: ", "|", ">", "!!int ", "!!bool x", "!!python/name:os.system",
           "!!timestamp x", "2024-13-45", "0b", "0o9", "1:61", ".inf", "\t", "\n", "---\n", "%YAML 9\n", "'", '"', "#", "model:\n  ",
           "training:\n  epochs: ", "Effusion: {positive: [", "negative: ]"]  # fmt: skip
YAML = st.one_of(pieces(*GRAMMAR), VALUES.map(lambda value: yaml.safe_dump(value)))
NUMBERS = [
    "0",
    "1",
    "2",
    "7",
    "11",
    "120",
    "-1",
    "1e308",
    "-1e308",
    "inf",
    "nan",
    "9223372036854775807",
    "9" * 40,
    "1_0",
    "٣",
]


def scribble(random: Random, words: Sequence[str]) -> str:
    """A text out of ``words`` and single characters of all of Unicode, surrogates aside."""
    odd = (
        chr(random.choice((random.randrange(128), random.randrange(0xD000), random.randrange(0xE000, 0x110000))))
        for _ in range(99)
    )
    return "".join(random.choice(words) if random.random() < 0.85 else next(odd) for _ in range(random.randrange(25)))


class Parser(NamedTuple):
    draw: st.SearchStrategy[Any]
    make: Callable[[Random], Any]  # much faster than drawing, for the large number
    parse: Callable[..., None]
    in_folder: bool = False


REPORT = ("\n ", "\n \n", "FINDINGS", "IMPRESSION", ":", "\r\n", " ", "Befund", "：", "WET READ", "PORTABLE AP")
RUNS = (" ", " ", "\t", *NUMBERS)
SHAPES = (" ", " ", ";", "0 ", "1 ", "2 ", "2 1 1 9 9 3 7", *NUMBERS)
PROMPTS = ("Effusion", "=", "|", "effusion", "{}", "no", " ")
DEFAULT = [f"{line}\n" for line in yaml.safe_dump(Recipe().model_dump(mode="json")).splitlines()]
SETTINGS = (None, True, -1, 10**30, 0.5, float("nan"), "x", [], [[1]], {}, {"a": 1}, {1: 2}, b"\0", "exp", "squash")

PARSERS = {
    "report sections": Parser(
        st.tuples(pieces(*REPORT), st.sampled_from(STUDIES), st.binary(max_size=60)),
        lambda random: (scribble(random, REPORT), random.choice(STUDIES), random.randbytes(random.randrange(60))),
        report,
    ),
    "run lengths": Parser(pieces(*RUNS), lambda random: scribble(random, RUNS), runs),
    "Object-CXR annotations": Parser(pieces(*SHAPES), lambda random: scribble(random, SHAPES), shapes),
    "recipes": Parser(
        st.tuples(YAML, st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=9), VALUES, max_size=2)),
        lambda random: (
            scribble(random, GRAMMAR if random.random() < 0.5 else DEFAULT),
            {
                random.choice(KEYS) + random.choice(("", "", ".x")): random.choice(SETTINGS)
                for _ in range(random.randrange(3))
            },
        ),
        recipe,
        in_folder=True,
    ),
    "prompts": Parser(
        st.tuples(YAML, st.lists(pieces(*PROMPTS), min_size=1, max_size=3)),
        lambda random: (scribble(random, GRAMMAR), [scribble(random, PROMPTS) for _ in range(random.randrange(1, 4))]),
        prompts,
        in_folder=True,
    ),
}


@pytest.mark.parametrize("inputs", [150, pytest.param(2000, marks=pytest.mark.stress)])
@pytest.mark.parametrize("name", PARSERS)
def test_what_hypothesis_draws_raises_nothing_but_one_line(name, inputs, tmp_path):
    parser = PARSERS[name]
    more = (tmp_path,) if parser.in_folder else ()

    @settings(max_examples=inputs, deadline=None, database=None, derandomize=True, suppress_health_check=[*HealthCheck])
    @given(parser.draw)
    def every(drawn: Any) -> None:
        parser.parse(drawn, *more)

    every()


@pytest.mark.parametrize("inputs", [300, pytest.param(100_000, marks=pytest.mark.stress)])
@pytest.mark.parametrize("name", PARSERS)
def test_no_input_raises_but_in_one_line(name, inputs, tmp_path, write_counts):
    parser, started, slowest = PARSERS[name], time.process_time(), 0.0
    more = (tmp_path,) if parser.in_folder else ()
    for seed in range(inputs):
        drawn, began = parser.make(Random(seed)), time.process_time()
        try:
            parser.parse(drawn, *more)
        except Exception as error:
            raise AssertionError(f"over {drawn!r} of seed {seed}") from error
        slowest = max(slowest, time.process_time() - began)
    assert slowest < 2
    seconds = {"cpu_seconds": round(time.process_time() - started, 1), "slowest_input_seconds": round(slowest, 3)}
    write_counts(f"parser_{name.split()[0].lower()}", inputs=inputs, **seconds)


REPEATED = (
    "\n ",
    "\n A",
    "A ",
    " ",
    "\n",
    ":",
    "\n FINDINGS:",
    "\n FINDINGS: x",
    "FINDINGS",
    "\n \n",
    "(",
    "A:",
    "\r",
    "x.",
    "1 ",
    "9",
    "0 1 1 2 2;",
    "2 1",
    ";",
)


@pytest.mark.parametrize("name", ["report sections", "run lengths", "Object-CXR annotations"])
def test_time_grows_with_the_length_and_no_faster(name):
    def seconds(text: str) -> float:
        drawn = (text, None, text.encode()) if name == "report sections" else text
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            PARSERS[name].parse(drawn)
            best = min(best, time.process_time() - started)
        return best

    for part in REPEATED:
        small, large = (seconds(part * (size // len(part))) for size in (4_000, 64_000))
        assert large < 64 * max(small, 1e-3), f"{part!r}: {small:.4f} s, then {large:.4f} s for 16 times the length"
