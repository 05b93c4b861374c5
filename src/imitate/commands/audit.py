"""``imitate audit``: how results differ between groups of patients."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from imitate.names import AnyPath, Names, several

if TYPE_CHECKING:
    from imitate.tasks.audit_model import Audit


def audit(
    results: AnyPath,
    /,
    *,
    data: AnyPath,
    out: AnyPath,
    by: Names = (),
    classes: Names = (),
    threshold_from: AnyPath | None = None,
    aim: Literal["youden", "sensitivity", "specificity", "cost"] = "youden",
    at: float = 0.0,
    calibration: AnyPath | None = None,
    bands: tuple[float, ...] = (18, 40, 60, 80),
    least: int = 20,
    balance: Names = ("sex", "age"),
    resamples: int = 1000,
    shuffles: int = 999,
) -> "Audit":
    """Evaluate a model in groups of patients, and test whether the groups differ.

    For each group, report counts, AUROC, FNR, FPR, PPV and calibration. For each class and column, the
    gap between the worst and the best group is tested against shuffled groups. `imitate report` shows the results;
    docs/audit.md explains them. From Python::

        audit = imitate.audit("test.json", data="data/hospital", threshold_from="val.json", out="audit.json")
        [gap for gap in audit.gaps if gap.flagged]

    Args:
        results: Results of `imitate evaluate` on the test images, with their predictions beside them.
        data: The prepared folder that was evaluated.
        out: Where to write the audit, .json.
        by: Columns of the folder, such as sex age race projection, and intersections such as sex+age; default: sex,
            age and sex+age where known.
        classes: Classes to test; default: all. Fewer classes make the correction for multiple tests milder.
        threshold_from: Results of the same model on validation images, on which the threshold of each class is chosen.
        aim: Criterion for the threshold; youden maximises sensitivity + specificity.
        at: The sensitivity or specificity to reach, or the cost of a missed positive in false alarms.
        calibration: A file of `imitate calibrate` with probabilities and thresholds, instead of threshold_from.
        bands: Ages at which a new age band begins.
        least: Minimum number of patients with, and of patients without the finding in a group that is compared.
        balance: Columns whose proportions the balanced gap equalises across groups, in addition to the prevalence.
        resamples: Number of bootstrap samples for each interval.
        shuffles: How often the groups are shuffled for each test.
    """
    from imitate.config import validate
    from imitate.tasks.audit import audit_results
    from imitate.tasks.audit_model import AuditOptions

    values = {
        "by": several(by), "classes": several(classes), "threshold_from": threshold_from, "aim": aim, "at": at,
        "calibration": calibration, "bands": bands, "least": least, "balance": several(balance),
        "resamples": resamples, "shuffles": shuffles,
    }  # fmt: skip
    options = validate(AuditOptions, values, where="imitate audit")
    return audit_results(Path(results), Path(data), options, out=Path(out))
