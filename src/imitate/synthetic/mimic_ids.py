"""The ids that MIMIC-CXR would give a case."""

from imitate.synthetic.cases import Case
from imitate.synthetic.files import Row


def mimic_ids(case: Case) -> Row:
    """Eight digits for patient and study, spread over p10 to p19; five groups of hexadecimal digits for the image."""
    spread = 6_180_339  # coprime to the prime below, so that no two numbers meet
    words = case.generator(f"dicom id {case.image}").integers(1 << 32, size=5)
    return {
        "dicom_id": "-".join(f"{word:08x}" for word in words),
        "subject_id": 10_000_000 + (case.patient + 1) * spread % 9_999_991,
        "study_id": 50_000_000 + (3 * case.patient + case.study + 1) * spread % 9_999_991,
    }
