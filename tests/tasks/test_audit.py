"""``imitate audit`` on predictions made by hand: of images of a prepared folder, with or without a planted gap."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from results_files import SETTINGS, write_file
from scipy.special import expit

import imitate
from imitate.data.corpus import Corpus
from imitate.data.demographics import demographics
from imitate.data.groups import band_names, group_columns, group_values
from imitate.data.records import Record
from imitate.data.shards import Settings
from imitate.data.writer import Archive, Engine, write_folder
from imitate.errors import UserError
from imitate.inference.calibration import Calibration, ClassCalibration, OperatingPoint
from imitate.inference.prompts import Prompts, built_in_prompts
from imitate.report.audit import card
from imitate.report.build import write_report
from imitate.statistics.subgroups import Scored
from imitate.tasks.audit_inputs import DERIVED, read_inputs
from imitate.tasks.audit_model import Audit, AuditOptions, read_audit
from imitate.tasks.base import Estimate, Results
from imitate.tasks.results import digest_of, read_predictions, read_results, write_results

N = 480
CLASSES = ["Edema", "Fracture"]
FAST = {"resamples": 100, "shuffles": 199}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images a patient; every third has no age; ``note`` is free text, ``site`` the same everywhere."""
    raw = tmp_path_factory.mktemp("raw")
    records = []
    for i in range(N):
        gray = np.random.default_rng(i).integers(1, 255, (16, 16)).astype(np.uint8)
        Image.fromarray(gray).save(raw / f"{i}.png")
        person = i // 2
        about = {"sex": "FM"[person % 2], "age": None if person % 3 == 2 else 10 + person % 80}
        extra = {"note": f"text {i}", "site": "A", "race": ["White", "Black", ""][person % 3]}
        split = "val" if person // 2 % 4 == 3 else "test"
        fields = demographics(**about, **extra)
        records.append(Record(f"i{i}", raw / f"{i}.png", f"p{person}", f"s{i}", split=split, labels={}, **fields))
    out = tmp_path_factory.mktemp("prepared") / "hospital"
    settings = Settings(source="table", size=16, classes=tuple(CLASSES))
    write_folder(records, out, settings, archive=Archive(raw), engine=Engine(workers=1))
    return out


def predicted(
    folder: Path,
    path: Path,
    *,
    split: str = "test",
    gap: float = 0.0,
    one: bool = False,
    task: str = "linear-classification",
    **changes: Any,
) -> Path:
    """Edema is found in all alike but for a ``gap`` of its score in women; Fracture has no positive in men."""
    data = Corpus.open(folder)
    table = data.table[data.table["split"] == split]
    women = (table["sex"] == "F").to_numpy()
    runs = []
    for seed in range(1 if one else 2):
        random, targets = np.random.default_rng([seed, 1]), np.random.default_rng([len(split), 2])
        target = (targets.random((len(table), 2)) < 0.35).astype(np.float32)
        target[~women, 1] = 0
        score = 3 * (target - 0.5) + random.normal(size=target.shape)
        score[:, 0] -= gap * women * (target[:, 0] > 0)
        runs.append({
            "image_id": table["image_id"].to_numpy().astype(np.str_), "patient": table["patient"].to_numpy().astype(np.str_),
            "target": target, "score": score.astype(np.float32), "classes": np.array(CLASSES),
        })  # fmt: skip
    about = {"name": "hospital", "source": "table", "fingerprint": data.fingerprint, "split": split}
    about |= {"images": len(table), "patients": table["patient"].nunique()}
    values = {"data": about, "settings": {**SETTINGS, "split": split}, "weights": ["abc"] * len(runs)} | changes
    return write_file(path, task, runs, {"auroc": Estimate(value=0.9)}, **values)


@pytest.fixture(scope="module")
def audited(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Audit:
    place = tmp_path_factory.mktemp("audited")
    test, val = predicted(folder, place / "t.json", gap=1.8), predicted(folder, place / "v.json", split="val", gap=1.8)
    by = ("sex", "race", "sex+race")
    return imitate.audit(test, data=folder, threshold_from=val, out=place / "audit.json", by=by, **FAST)


def test_a_planted_gap_is_flagged_with_its_size_in_the_interval(audited: Audit) -> None:
    gaps = {(gap.label, gap.metric, gap.by): gap for gap in audited.gaps}
    missed = gaps["Edema", "fnr", "sex"]

    assert missed.flagged and (missed.worst, missed.best) == ("F", "M")
    assert (
        missed.low is not None and missed.low < 0.47 < missed.high
    )  # of these scores at these thresholds, N to infinity
    assert missed.gap > 3 * missed.shuffled and missed.p < missed.p_holm < 0.05
    assert missed.balanced is not None and missed.balanced.low < missed.balanced.value < missed.balanced.high
    assert not any(gap.flagged for gap in audited.gaps if gap.by == "race")
    assert missed.gap == pytest.approx(missed.values[0] - missed.values[1])


def test_groups_have_their_counts_and_what_is_undefined_is_missing(audited: Audit, folder: Path) -> None:
    found = {(each.label, each.by, each.group): each for each in audited.groups}
    men, women = found["Fracture", "sex", "M"], found["Fracture", "sex", "F"]

    assert men.positives == 0 and men.note == "no positives"
    assert (
        men.metrics["auroc"].value is None and men.metrics["fnr"].value is None and men.metrics["fpr"].value is not None
    )
    assert "sex: undefined and not compared: Fracture in M (no positives)" in audited.notes
    assert women.images + men.images == audited.data["images"]
    assert women.metrics["fnr"].low < women.metrics["fnr"].value < women.metrics["fnr"].high
    assert found["Edema", "race", "unknown"].images == audited.unknown["race"] > 0
    assert not any(gap.label == "Fracture" and gap.metric != "fpr" and gap.by == "sex" for gap in audited.gaps)
    assert {gap.metric for gap in audited.gaps if gap.label == DERIVED} <= {"fnr", "fpr"}
    assert set(found["Edema", "sex", "F"].metrics) == {"auroc", "fnr", "fpr", "ppv", "brier", "smooth-ece", "slope"}
    assert all(name in audited.threshold for name in ("youden", "hospital", "val"))


def test_a_predictive_value_of_few_called_patients_has_no_interval(folder: Path, tmp_path: Path) -> None:
    test, val = predicted(folder, tmp_path / "t.json"), predicted(folder, tmp_path / "v.json", split="val")
    about = {"data": folder, "threshold_from": val, "by": "sex", **FAST}
    known = read_predictions(read_results(val), val)
    found = []
    for higher in (0, 2.2):
        shifted = [{**run, "score": run["score"] + higher} for run in known]
        write_results(read_results(val), shifted, val)
        groups = imitate.audit(test, out=tmp_path / "a.json", **about).groups
        found.append([each.metrics["ppv"] for each in groups if each.label == "Edema"])
    many, few = found
    assert all(each.low is not None and each.low < each.value < each.high for each in many)
    assert all(each.value == 1 and each.low is None for each in few), "it would be Wilson's of all who have the finding"


def test_nobody_has_a_finding_and_who_is_called_healthy(audited: Audit, folder: Path) -> None:
    """Without a class No Finding, underdiagnosis is the fraction of the ill in whom no class is called."""
    place = {(each.label, each.by, each.group): each for each in audited.groups}[DERIVED, "sex", "F"]

    assert (
        place.metrics["fpr"].value
        > {(each.label, each.by, each.group): each for each in audited.groups}[DERIVED, "sex", "M"].metrics["fpr"].value
    )
    assert "auroc" not in place.metrics


def test_the_file_becomes_a_section_of_a_report(audited: Audit, tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(audited.model_dump_json(indent=1))
    assert read_audit(tmp_path / "audit.json") == audited

    page = write_report([tmp_path / "audit.json"], out=tmp_path / "page.html").read_text(encoding="utf-8")
    text = write_report([tmp_path / "audit.json"], out=tmp_path / "page.md").read_text(encoding="utf-8")

    assert "Groups of patients: IMITATE on hospital" in page and "underdiagnosis rate" in page
    assert "false-negative rate" not in text and re.search(r"\| Edema +\| FNR", text) and "**" in text
    assert page.count("data:image/svg+xml") == 3 + 3 * 3
    flagged = sum(gap.flagged for gap in audited.gaps)
    found = card(audited)
    assert f"{len(audited.gaps)} gaps were tested, {flagged} are significant" in found
    assert re.search(r"- Edema, FNR by sex: F \d+\.\d%, M \d+\.\d% \(gap", found) and found.count("\n- ") == flagged


def test_without_a_gap_nothing_is_flagged(folder: Path, tmp_path: Path) -> None:
    test, val = predicted(folder, tmp_path / "t.json"), predicted(folder, tmp_path / "v.json", split="val")
    found = imitate.audit(test, data=folder, threshold_from=val, out=tmp_path / "a.json", by="sex", **FAST)

    assert found.gaps and not any(gap.flagged for gap in found.gaps)


def test_without_a_threshold_only_the_ranking_is_audited(folder: Path, tmp_path: Path) -> None:
    found = imitate.audit(
        predicted(folder, tmp_path / "t.json"), data=folder, out=tmp_path / "a.json", by="sex", **FAST
    )

    assert {gap.metric for gap in found.gaps} == {"auroc"} and "none" in found.threshold


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "note"}, "'note' has 360 different values, more than 50: groups need a column of categories"),
        ({"by": "site"}, "nothing to compare: site: the test images have one group only, A"),
        (
            {"by": "insurance"},
            r"has no 'insurance' for these images; their columns are: sex, age, note, race",
        ),
        ({"by": "sex", "least": 200}, "in no class do two groups have 200 patients of each kind"),
        ({"by": "sex", "classes": "Mass"}, "has no class 'Mass'; it has Edema, Fracture"),
        ({"by": "age", "bands": (40, 18)}, "age bands 40 18: give years in ascending order"),
    ],
)
def test_wrong_columns_are_reported_in_one_line(
    folder: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    test = predicted(folder, tmp_path / "t.json")
    with pytest.raises(UserError, match=message):
        imitate.audit(test, data=folder, out=tmp_path / "a.json", **options, **FAST)


def test_wrong_predictions_are_reported_in_one_line(folder: Path, tmp_path: Path) -> None:
    other = predicted(
        folder, tmp_path / "other.json", data={**SETTINGS, "name": "x", "fingerprint": "0", "images": 1, "patients": 1}
    )
    test, val = predicted(folder, tmp_path / "t.json"), predicted(folder, tmp_path / "v.json", split="val")
    alien = predicted(folder, tmp_path / "alien.json", split="val", weights=["other"] * 2)

    def run(path: Path, **options: Any) -> Audit:
        return imitate.audit(path, data=folder, out=tmp_path / "a.json", by="sex", **options, **FAST)

    with pytest.raises(UserError, match="holds predictions of another folder, x with fingerprint 0"):
        run(other)
    with pytest.raises(
        UserError, match="shares 180 patients with the test images: a threshold must be chosen on others"
    ):
        run(test, threshold_from=test)
    with pytest.raises(UserError, match=r"alien\.json is of a different model, task or seed"):
        run(test, threshold_from=alien)
    for changes, what in (
        ({"fraction": 0.01}, r"fraction \(1\.0, 0\.01\)"),
        ({"settings": {**SETTINGS, "split": "val", "decays": [1.0]}}, r"decays \(.*\)"),
    ):
        head = predicted(folder, tmp_path / "head.json", split="val", **changes)
        with pytest.raises(UserError, match=rf"t\.json and .*head\.json differ in {what}: choose the threshold with"):
            run(test, threshold_from=head)
    val.with_suffix(".npz").unlink()
    with pytest.raises(UserError, match="are missing: keep the two together"):
        run(test, threshold_from=val)


def test_groups_of_a_folder(folder: Path) -> None:
    data = Corpus.open(folder)
    rows = np.array([0, 2, 4, 6])

    assert group_columns(data) == ["sex", "age", "note", "race", "site"]
    assert group_values(data, "age", rows).tolist() == ["0-17", "0-17", "unknown", "0-17"]
    assert group_values(data, "sex+race", rows).tolist() == ["F, White", "M, Black", "unknown", "M, White"]
    assert band_names((18, 40)) == ["0-17", "18-39", "40+"]
    assert group_values(data, "age", np.array([17, 72, 300]), bands=(18,)).tolist() == ["unknown", "18+", "18+"]


def test_a_calibration_gives_probabilities_and_thresholds(folder: Path, tmp_path: Path) -> None:
    test = predicted(folder, tmp_path / "t.json", one=True)
    results = read_results(test)
    of_class = ClassCalibration(
        method="platt", slope=2.0, intercept=-0.5, positives=30, negatives=60,
        operating=OperatingPoint(aim="sensitivity", at=0.9, threshold=-1.0),
    )  # fmt: skip
    facts = {
        "name": "hospital",
        "fingerprint": results.data["fingerprint"],
        "split": "val",
        "images": 90,
        "patients": 45,
    }
    own = {"weights": "abc", "preprocessing": "", "settings": digest_of(results.settings, results.fraction, 0)}
    made = Calibration(
        task=results.task, method="platt", data=facts, date="2026-01-01", classes={"Edema": of_class}, **own
    )
    made.save(tmp_path / "c.json")

    def run(calibration: Path) -> Audit:
        about = {"classes": "Edema", "by": "sex", "calibration": calibration}
        return imitate.audit(test, data=folder, out=tmp_path / "a.json", **about, **FAST)

    found = run(tmp_path / "c.json")
    assert found.thresholds == {"Edema": [-1.0]} and found.probabilities == made.provenance
    women = next(each for each in found.groups if each.group == "F")
    missed = read_predictions(results, test)[0]
    rows = (missed["target"][:, 0] > 0) & np.isin(missed["image_id"], [f"i{i}" for i in range(N) if i // 2 % 2 == 0])
    assert women.metrics["fnr"].value == pytest.approx((missed["score"][rows, 0] < -1).mean())
    made.model_copy(update={"weights": "other"}).save(tmp_path / "other.json")
    with pytest.raises(UserError, match=r"other\.json is of a different model, task or seed"):
        run(tmp_path / "other.json")
    zero_shot = made.model_copy(update={"branch": "both", "encoder": "other"})
    zero_shot.save(tmp_path / "zero-shot.json")
    with pytest.raises(UserError, match=r"zero-shot\.json is of a different model, task or seed"):
        run(tmp_path / "zero-shot.json")
    made.model_copy(update={"data": facts | {"split": "test"}}).save(tmp_path / "test.json")
    with pytest.raises(UserError, match=r"test\.json was fitted on the test images"):
        run(tmp_path / "test.json")


def test_a_calibration_of_zero_shot_scores_is_of_these_prompts_and_this_branch(folder: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("Edema: {positive: [wet lungs], negative: [dry lungs]}\n")
    builtin = built_in_prompts("en")["edema"]
    facts = {"name": "hospital", "fingerprint": "1", "split": "val", "images": 90, "patients": 45}
    point = OperatingPoint(aim="sensitivity", at=0.9, threshold=-1.0)
    made = ClassCalibration(method="platt", positives=30, negatives=60, operating=point, prompts=builtin)
    own = Calibration(
        task="zero-shot", method="platt", data=facts, date="2026-01-01", classes={"Edema": made}, weights="",
        preprocessing="", branch="both", encoder="abc",
    )  # fmt: skip
    own.save(tmp_path / "c.json")

    def run(**settings: Any) -> Audit:
        changes = {"task": "zero-shot", "one": True, "settings": {**SETTINGS, **settings}}
        about = {"classes": "Edema", "by": "sex", "calibration": tmp_path / "c.json"}
        return imitate.audit(
            predicted(folder, tmp_path / "t.json", **changes), data=folder, out=tmp_path / "a.json", **about, **FAST
        )

    assert run().thresholds == run(language="en").thresholds == {"Edema": [-1.0]}
    for other in ({"prompts": str(prompts)}, {"branch": "findings"}, {"scoring": "positive"}, {"unit": "study"}):
        with pytest.raises(UserError, match=r"c\.json is of other scores than .*t\.json"):
            run(**other)
    theirs = Prompts(positive=("wet lungs",), negative=("dry lungs",))
    own.model_copy(update={"classes": {"Edema": made.model_copy(update={"prompts": theirs})}}).save(tmp_path / "c.json")
    assert run(prompts=str(prompts)).thresholds == {"Edema": [-1.0]}
    with pytest.raises(UserError, match=r"c\.json is of other scores"):
        run()


def test_logits_are_no_log_probabilities_where_each_image_has_one_class(folder: Path, tmp_path: Path) -> None:
    test = predicted(folder, tmp_path / "t.json", one=True)
    (run,) = read_predictions(read_results(test), test)
    one_each = np.eye(2, dtype=np.float32)[run["target"][:, 0].astype(int)]

    def inputs(score: np.ndarray) -> Scored:
        write_results(read_results(test), [{**run, "target": one_each, "score": score}], test)
        return read_inputs(test, folder, AuditOptions(by=("sex",))).fits["Edema"][0]

    probability = inputs(run["score"]).probability
    assert probability is not None and 0 <= probability.min() < probability.max() < 1
    assert probability == pytest.approx(expit(run["score"][:, 0].astype(float)))
    logs = run["score"] - np.log(np.exp(run["score"]).sum(1, keepdims=True))
    assert inputs(logs).probability == pytest.approx(np.exp(logs[:, 0].astype(float)))
    with pytest.raises(UserError, match="the scores lie between 0 and 1, as probabilities do"):
        inputs(np.exp(logs))


def test_heads_of_one_pre_training_are_no_further_models(folder: Path, tmp_path: Path) -> None:
    """Two pre-trainings with two heads each that are alike: the intervals are those of two models."""
    test, val = (predicted(folder, tmp_path / f"{split}.json", split=split) for split in ("test", "val"))
    about = {"data": folder, "by": "sex", "classes": "Edema", **FAST}
    several = {"seeds": [0, 1, 2, 3], "weights": ["a", "a", "b", "b"], "per_seed": [{}] * 4}
    flat: list[Audit] = []
    for fits in ([], [{"run": i // 2, "head": i % 2} for i in range(4)]):
        for path in (test, val):
            results = read_results(path)
            one, two, *_ = read_predictions(results, path)
            two = {**two, "score": two["score"] - 2.0 * two["target"] * (path == test)}
            changed = Results.model_validate({**results.model_dump(), **several, "fits": fits})
            write_results(changed, [one, one, two, two], tmp_path / f"{path.stem}-4.json")
        given = tmp_path / "test-4.json", tmp_path / "val-4.json"
        flat.append(imitate.audit(given[0], threshold_from=given[1], out=tmp_path / "a.json", **about))
    counted, nested = ([each.metrics["auroc"] for each in found.groups] for found in flat)
    for four, pair in zip(counted, nested, strict=True):
        assert four.value == pair.value and pair.high - pair.low > 1.5 * (four.high - four.low)
    counted, nested = ([gap for gap in found.gaps if gap.metric == "fnr"] for found in flat)
    assert nested[0].high - nested[0].low > 1.5 * (counted[0].high - counted[0].low)


def test_a_calibration_error_has_no_interval_which_would_lie_above_the_truth(audited: Audit) -> None:
    found = next(each for each in audited.groups if each.label == "Edema").metrics
    assert found["smooth-ece"].value is not None and found["smooth-ece"].low is found["smooth-ece"].high is None
    assert found["brier"].low is not None and found["slope"].low is not None
