from imitate.tasks.base import Estimate, Results, extent
from imitate.tasks.printing import shown


def test_metrics_in_lines_and_classes_side_by_side() -> None:
    metrics = {
        "auroc": Estimate(value=0.75, low=0.5, high=0.875, chance=0.5, note="some class undefined in 3% of it"),
        "auroc/Edema": Estimate(value=0.5, note="not shown"),
        "auroc/Mass": Estimate(value=None),
        "accuracy": Estimate(value=0.25),
        "recall@1/both": Estimate(value=0.125),
    }
    data = {"name": "chest", "split": "test", "images": 9, "patients": 4}
    results = Results(
        task="linear-classification",
        model="IMITATE",
        data=data,
        mode="clean",
        fraction=1,
        seeds=[0],
        settings={},
        metrics=metrics,
        per_seed=[],
        versions={},
        seconds=1,
    )
    assert shown(results).splitlines() == [
        "linear-classification: IMITATE on chest, split test, 9 images of 4 patients, 1 seed",
        "                  value     95% interval  chance",
        "  auroc          0.7500  0.5000 - 0.8750  0.5000",
        "  accuracy       0.2500",
        "  recall@1/both  0.1250",
        "",
        "          auroc",
        "  Edema  0.5000",
        "  Mass        -",
        "  auroc: some class undefined in 3% of it",
    ]


def test_what_a_bootstrap_draws_is_named() -> None:
    data = {"images": 1200, "patients": 900}
    assert extent(data) == "1,200 images of 900 patients"
    assert extent({**data, "unit": "studies"}) == "1,200 images of 900 studies"
    assert extent({**data, "unit": "images"}) == "1,200 images, whose patients are not known"
