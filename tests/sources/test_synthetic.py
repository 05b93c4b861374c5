"""The synthetic source: records whose image, mask, boxes, labels and sections belong together."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imitate.data.annotations import Box, draw_mask
from imitate.data.records import Record
from imitate.errors import UserError
from imitate.sources.synthetic import SOURCE
from imitate.synthetic.cases import CLASSES, TRAITS, draw_case

SIZE = 128


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("raw")


@pytest.fixture(scope="module")
def found(raw: Path) -> list[Record]:
    records = list(SOURCE.records(SOURCE.Options(raw=raw, n=48, seed=2, original_size=SIZE)))
    assert all(isinstance(record, Record) for record in records)
    return [record for record in records if isinstance(record, Record)]


def test_it_is_registered_with_its_classes() -> None:
    assert SOURCE.classes == CLASSES


def boxes(record: Record) -> list[Box]:
    return [each for each in record.annotations if isinstance(each, Box)]


def test_images_are_gray_files_below_raw(found: list[Record], raw: Path) -> None:
    assert len({record.image_id for record in found}) == 48
    for record in found:
        with Image.open(record.image) as image:
            assert record.image.parent == raw and image.mode == "L" and image.size == (SIZE, SIZE)


def test_labels_name_the_boxes(found: list[Record]) -> None:
    for record in found:
        assert record.labels is not None and tuple(record.labels) == CLASSES
        assert {box.label for box in boxes(record)} == {name for name, value in record.labels.items() if value}
        for box in boxes(record):
            assert 0 <= box.x < box.x + box.width <= SIZE and 0 <= box.y < box.y + box.height <= SIZE


def test_the_mask_is_the_union_of_the_lung_findings(found: list[Record]) -> None:
    for record in found:
        mask = draw_mask(record.annotations, SIZE, SIZE)
        in_lung = [box for box in boxes(record) if TRAITS[box.label].in_lung]
        assert mask.dtype == bool and mask.shape == (SIZE, SIZE) and mask.any() == bool(in_lung)
        if in_lung:
            columns = np.flatnonzero(mask.any(axis=0))
            assert columns[0] == min(box.x for box in in_lung)
            assert columns[-1] + 1 == max(box.x + box.width for box in in_lung)


def test_splits_are_by_patient_and_sections_are_missing_at_times(found: list[Record]) -> None:
    assert {record.split for record in found} == {"train", "val", "test"}
    splits = {(record.patient, record.split) for record in found}
    assert len(splits) == len({record.patient for record in found})
    assert any(record.findings is None for record in found) and any(record.findings for record in found)
    assert any(record.impression is None for record in found) and any(record.impression for record in found)


def test_records_come_again_the_same(found: list[Record], tmp_path: Path) -> None:
    for first, second in zip(
        found[:5], SOURCE.records(SOURCE.Options(raw=tmp_path, n=5, seed=2, original_size=SIZE)), strict=True
    ):
        assert isinstance(second, Record) and first.image.read_bytes() == second.image.read_bytes()
        assert (first.image_id, first.labels) == (second.image_id, second.labels)
        assert first.annotations == second.annotations
        assert (first.findings, first.impression, first.split) == (second.findings, second.impression, second.split)


def test_without_raw_the_files_outlive_the_generator() -> None:
    records = list(SOURCE.records(SOURCE.Options(n=2, seed=1)))
    assert all(isinstance(record, Record) and record.image.is_file() for record in records)
    assert draw_case(1, 0).view == records[0].projection  # type: ignore[union-attr]


def test_no_images_is_a_mistake() -> None:
    with pytest.raises(UserError, match="give --n 1 or more"):
        next(SOURCE.records(SOURCE.Options(n=0)))


def test_findings_of_women_can_be_fainter(found: list[Record], tmp_path: Path) -> None:
    """Only the images of women with a finding in the lungs or the heart differ, by the fraction that the option names."""
    options = SOURCE.Options(raw=tmp_path, n=48, seed=2, original_size=SIZE, female_contrast=0.2)
    faint = [record for record in SOURCE.records(options) if isinstance(record, Record)]
    differing = 0
    for before, after in zip(found, faint, strict=True):
        assert (before.labels, before.findings, before.sex) == (after.labels, after.findings, after.sex)
        one, other = (np.asarray(Image.open(each.image)).astype(int) for each in (before, after))
        changed = bool((one != other).any())
        differing += changed
        assert not changed or (before.sex == "F" and sum((before.labels or {}).values()) > 0)
    assert differing > 5


def test_several_processes_draw_the_same_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one process draws where there are cores and enough images."""
    monkeypatch.setattr("imitate.sources.synthetic.FEW", 5)
    found = []
    for number in (1, 2):
        monkeypatch.setattr("imitate.data.writer.cores", lambda number=number: number)
        drawn = list(SOURCE.records(SOURCE.Options(n=12, original_size=SIZE, raw=tmp_path / str(number))))
        files = [path.read_bytes() for path in sorted((tmp_path / str(number)).iterdir())]
        found.append(([(each.image_id, each.findings) for each in drawn if isinstance(each, Record)], files))
    assert found[0] == found[1] and len(found[0][0]) == len(found[0][1]) == 12
