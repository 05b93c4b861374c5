"""Cases are a pure function of seed and index, and no two findings share a place in the lungs."""

from collections import Counter

import pytest

from imitate.synthetic.cases import CLASSES, TRAITS, Case, draw_case, frontal_cases


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [draw_case(3, index) for index in range(1200)]


def test_a_case_depends_on_seed_and_index_alone(cases: list[Case]) -> None:
    assert draw_case(3, 777) == cases[777]
    assert [draw_case(4, index).findings for index in range(40)] != [case.findings for case in cases[:40]]


def test_patients_return_and_some_studies_have_a_lateral_view(cases: list[Case]) -> None:
    studies = Counter(case.patient for case in cases if case.image == 0)
    assert set(studies.values()) == {1, 2, 3}
    views = Counter(case.view for case in cases)
    assert set(views) == {"PA", "AP", "LATERAL"} and views["LATERAL"] == len(cases) / 6
    assert len({(case.patient, case.study, case.image) for case in cases}) == len(cases)


def test_images_of_a_study_show_the_same_findings(cases: list[Case]) -> None:
    first = {(case.patient, case.study): case for case in cases if case.image == 0}
    for case in cases:
        assert case.findings == first[case.patient, case.study].findings


def test_chronic_findings_stay(cases: list[Case]) -> None:
    hearts = [[case.find("Cardiomegaly") for case in cases if case.patient == patient] for patient in range(200)]
    assert all(len(set(found)) == 1 for found in hearts) and any(found[0] for found in hearts)


def test_a_third_is_normal_and_every_finding_occurs_as_often_as_said(cases: list[Case]) -> None:
    studies = [case for case in cases if case.image == 0]
    assert 0.25 < sum(not case.findings for case in studies) / len(studies) < 0.42
    for name in CLASSES:
        fraction = sum(case.labels[name] for case in studies) / len(studies)
        assert 0.5 * TRAITS[name].prevalence < fraction < 1.6 * TRAITS[name].prevalence, name


def test_no_two_findings_fill_one_zone_of_a_lung(cases: list[Case]) -> None:
    crowded = [draw_case(0, index, lambda _: dict.fromkeys(CLASSES, 0.9)) for index in range(60)]
    for case in cases + crowded:
        taken: Counter[tuple[str, str]] = Counter()
        for finding in case.findings:
            if TRAITS[finding.name].in_lung:
                sides = ("right", "left") if finding.place.side == "both" else (finding.place.side,)
                zones = TRAITS[finding.name].fills or (finding.place.zone,)
                taken.update((side, zone) for side in sides for zone in zones)
        assert not taken or max(taken.values()) == 1


@pytest.mark.parametrize("seed", [0, 1, 2, 17])
def test_splits_are_by_patient_and_hold_their_fraction_even_in_a_small_set(seed: int) -> None:
    by_patient = {case.patient: case.split for case in (draw_case(seed, index) for index in range(240))}
    counts = Counter(by_patient.values())
    assert abs(counts["train"] / len(by_patient) - 0.7) < 0.03
    assert {draw_case(seed, index).split for index in range(20)} == {"train", "val", "test"}


def test_wanted_findings_alone() -> None:
    cases = list(frontal_cases(0, 30, lambda patient: {"Edema": float(patient % 2)}))
    assert len(cases) == 30 and all(case.view != "LATERAL" for case in cases)
    assert all([finding.name for finding in case.findings] == ["Edema"] * (case.patient % 2) for case in cases)
