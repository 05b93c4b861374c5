"""What an audit of the model found of groups of patients, which lies beside its weights."""

import logging
from pathlib import Path

from imitate.inference.base import BaseEncoder
from imitate.inference.calibration import beside
from imitate.serve.schema import Flagged, Groups
from imitate.tasks.audit_model import read_audit, said, title
from imitate.tasks.base import extent

log = logging.getLogger(__name__)
FILE = "audit.json"


def groups_of(encoder: BaseEncoder, folder: Path) -> Groups | None:
    """None where there is no audit, and with a warning where it is of another model."""
    path = beside(folder).with_name(FILE)
    if not path.is_file():
        return None
    found = read_audit(path)
    if found.weights and encoder.identity not in found.weights:
        log.warning("%s is not used: it is of another model, with other weights; audit this model or delete it", path)
        return None
    flagged = sorted((gap for gap in found.gaps if gap.flagged), key=lambda gap: -gap.gap)
    return Groups(
        measured=f"{found.task} on {found.data['name']}, split {found.data['split']}: {extent(found.data)}",
        threshold=found.threshold,
        tested=len(found.gaps),
        flagged=[
            Flagged(name=gap.label, metric=title(gap.metric, gap.label), by=gap.by, said=said(gap)) for gap in flagged
        ],
        notes=found.notes,
    )
