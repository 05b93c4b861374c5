"""What is drawn agrees with the case: place, side, size; boxes and masks agree with each other."""

from dataclasses import replace

import numpy as np
import pytest

from imitate.synthetic.cases import CLASSES, Case, Finding, Place, draw_case, frontal_cases
from imitate.synthetic.phantom import Phantom, boxes, render


def with_findings(*findings: Finding, patient: int = 2) -> Case:
    return Case(seed=0, patient=patient, study=0, image=0, age=50, sex="F", view="PA", findings=tuple(findings))


def one(name: str, severity: str = "moderate", *, side: str = "", zone: str = "", kind: str = "") -> Phantom:
    return render(with_findings(Finding(name, Place(side, zone, kind), severity)), 160)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def drawn() -> list[tuple[Case, Phantom]]:
    cases = [draw_case(5, index) for index in range(160)]
    crowded = frontal_cases(6, 40, lambda _: dict.fromkeys(CLASSES, 0.5))
    return [(case, render(case, 96, 80 + 3 * (case.patient % 12))) for case in (*cases, *crowded)]


def test_every_finding_has_its_pixels_and_no_other_has(drawn: list[tuple[Case, Phantom]]) -> None:
    for case, phantom in drawn:
        assert {region.finding for region in phantom.regions} == set(case.findings)
        for region in phantom.regions:
            assert region.mask.shape == phantom.image.shape and region.mask.any(), region.finding
            if region.finding.place.side == "both":
                assert {other.side for other in phantom.regions if other.finding == region.finding} == {"right", "left"}


def test_the_patients_left_is_the_images_right(drawn: list[tuple[Case, Phantom]]) -> None:
    checked = 0
    for case, phantom in drawn:
        middle = phantom.image.shape[1] / 2
        for region in phantom.regions:
            if case.view != "LATERAL" and region.side and region.finding.name != "Support Devices":
                columns = np.flatnonzero(region.mask.any(axis=0))
                assert (columns.mean() > middle) == (region.side == "left"), region.finding
                checked += 1
    assert checked > 100


def test_zones_follow_each_other_downwards() -> None:
    for name in ("Consolidation", "Pneumonia", "Lung Lesion"):
        rows = [
            np.argwhere(one(name, side="right", zone=zone).regions[0].mask)[:, 0].mean()
            for zone in ("upper", "middle", "lower")
        ]
        assert rows[0] + 10 < rows[1] < rows[2] - 10, name


@pytest.mark.parametrize("name", ["Pleural Effusion", "Pneumothorax", "Consolidation", "Pneumonia", "Lung Lesion"])
def test_the_more_severe_the_larger(name: str) -> None:
    zone = "middle" if name in {"Consolidation", "Pneumonia", "Lung Lesion"} else ""
    drawings = [one(name, grade, side="right", zone=zone) for grade in ("mild", "moderate", "severe")]
    mild, moderate, severe = (phantom.regions[0].mask.sum() for phantom in drawings)
    assert mild < moderate < severe


def test_the_heart_is_wider_than_half_the_chest_only_in_cardiomegaly() -> None:
    widths = [boxes(one("Cardiomegaly", grade).regions)[0].width for grade in ("mild", "moderate", "severe")]
    assert widths == sorted(widths) and widths[0] < widths[2]
    normal, large = render(with_findings(), 160).image, one("Cardiomegaly", "severe").image
    beside = one("Cardiomegaly", "severe").regions[0].mask & (np.abs(large.astype(int) - normal) > 40)
    assert beside.sum() > 300


@pytest.mark.parametrize("name", ["Consolidation", "Pneumonia", "Lung Lesion", "Atelectasis", "Edema", "COVID-19"])
def test_an_opacity_is_brighter_than_the_healthy_lung(name: str) -> None:
    both = name in {"Edema", "COVID-19"}
    phantom = one(name, side="both" if both else "right", zone="" if both else "middle")
    mask, normal = phantom.regions[0].mask, render(with_findings(), 160).image
    assert phantom.image[mask].mean() > normal[mask].mean() + 20


def test_a_pneumothorax_is_darker_and_an_effusion_brighter() -> None:
    normal = render(with_findings(), 160).image
    air, fluid = one("Pneumothorax", side="left"), one("Pleural Effusion", side="left")
    assert air.image[air.regions[0].mask].mean() < normal[air.regions[0].mask].mean() - 10
    assert fluid.image[fluid.regions[0].mask].mean() > normal[fluid.regions[0].mask].mean() + 60


def test_outside_the_findings_nothing_changes_much() -> None:
    normal, phantom = render(with_findings(), 160), one("Lung Lesion", "severe", side="left", zone="upper")
    far = ~phantom.regions[0].mask
    far[:70, 80:] = False
    assert (phantom.image[far] == normal.image[far]).all()


def test_boxes_are_tight(drawn: list[tuple[Case, Phantom]]) -> None:
    for case, phantom in drawn:
        for region, box in zip(
            phantom.regions, boxes(phantom.regions, dict.fromkeys(case.findings, "said")), strict=True
        ):
            assert (box.label, box.phrase) == (region.finding.name, "said")
            x, y, width, height = map(int, box[1:5])
            inside = region.mask[y : y + height, x : x + width]
            assert box.label == region.finding.name and inside.sum() == region.mask.sum()
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


def test_the_same_case_gives_the_same_pixels() -> None:
    case = draw_case(9, 10)
    first, second = render(case, 128), render(case, 128)
    assert (first.image == second.image).all()
    assert all((a.mask == b.mask).all() for a, b in zip(first.regions, second.regions, strict=True))


def test_a_chronic_finding_stays_where_it_was() -> None:
    case = with_findings(Finding("Lung Lesion", Place("left", "upper"), "moderate"))
    first, second = (boxes(render(replace(case, study=study), 256).regions)[0] for study in (0, 1))
    assert np.allclose(first[1:5], second[1:5], atol=12) and first != second


def test_resolution_does_not_move_a_finding() -> None:
    case = with_findings(Finding("Consolidation", Place("left", "upper"), "severe"))
    small, large = (boxes(render(case, size).regions)[0] for size in (128, 512))
    assert np.allclose(np.array(small[1:5]) * 4, large[1:5], atol=10)


def test_patients_differ_and_studies_of_one_look_alike() -> None:
    images = [render(with_findings(patient=patient), 96).image.astype(float) for patient in range(6)]
    assert min(np.abs(images[0] - image).mean() for image in images[1:]) > 5


def test_the_smallest_size_still_shows_every_finding() -> None:
    for case in frontal_cases(8, 60, lambda _: dict.fromkeys(CLASSES, 0.5)):
        assert all(region.mask.any() for region in render(case, 64).regions)
    with pytest.raises(AssertionError, match="32 px are too few"):
        render(with_findings(), 32)


def test_another_hospital_exposes_the_same_anatomy_otherwise() -> None:
    case = draw_case(5, 1)
    north, south = render(case, 128), render(case, 128, hospital="south")
    assert all((a.mask == b.mask).all() for a, b in zip(north.regions, south.regions, strict=True))
    assert south.image.mean() < north.image.mean() - 10
    assert (
        np.abs(np.diff(south.image.astype(float), axis=0)).mean() != np.abs(np.diff(north.image.astype(float))).mean()
    )
