import json
import logging

import pytest

from imitate.errors import UserError
from imitate.serve.groups import FILE, groups_of
from imitate.serve.service import Service
from imitate.tasks.audit_model import Audit, Gap


def gap(**changes: object) -> Gap:
    values = {
        "by": "sex", "label": "Edema", "metric": "fnr", "groups": 2, "worst": "F", "best": "M", "values": (0.4, 0.1),
        "gap": 0.3, "low": 0.1, "high": 0.5, "shuffled": 0.05, "p": 0.001, "flagged": True,
    }  # fmt: skip
    return Gap(**{**values, **changes})


def write(folder, weights: list[str]) -> None:
    found = Audit(
        task="linear-classification", model="run", seeds=[0], weights=weights, settings={}, threshold="youden",
        probabilities="none", unknown={}, groups=[], notes=["Few patients."], versions={}, seconds=1.0,
        data={"name": "hospital", "split": "test", "images": 90, "patients": 80},
        gaps=[gap(), gap(by="age", gap=0.4, values=(0.5, 0.1)), gap(label="Mass", flagged=False)],
    )  # fmt: skip
    (folder / FILE).write_text(found.model_dump_json())


def test_an_audit_beside_the_weights_is_shown(service, tmp_path):
    encoder = service.predictor.encoder
    assert groups_of(encoder, tmp_path) is None
    write(tmp_path, [encoder.identity])
    found = groups_of(encoder, tmp_path)
    assert found.measured == "linear-classification on hospital, split test: 90 images of 80 patients"
    assert found.tested == 3 and found.notes == ["Few patients."]
    assert [(each.by, each.metric) for each in found.flagged] == [("age", "FNR"), ("sex", "FNR")]  # the largest first
    assert found.flagged[1].said == "F 0.400, M 0.100, gap 0.300 (0.100 to 0.500)"
    assert Service(service.predictor, groups=found).about.groups is found


def test_an_audit_of_another_model_is_not(service, tmp_path, caplog):
    write(tmp_path, ["another"])
    with caplog.at_level(logging.WARNING):
        assert groups_of(service.predictor.encoder, tmp_path) is None
    assert "of another model" in caplog.text
    (tmp_path / FILE).write_text(json.dumps({"kind": "audit"}))
    with pytest.raises(UserError, match=FILE):
        groups_of(service.predictor.encoder, tmp_path)
