"""A source for the archive of a clinic: one table, 16-bit PNG files in numbered folders, Spanish reports.

The table has a report and a list of labels. Its reports are not split into sections, so they are used as findings.
"""

from collections.abc import Iterator

from pydantic import Field

from imitate.data.records import Excluded, Record
from imitate.data.tables import hashed_split, present, read_table
from imitate.errors import UserError
from imitate.sources import Options, Source, Traits

CLASSES = ("cardiomegaly", "pleural effusion", "pneumonia", "atelectasis", "pneumothorax", "nodule")
PROJECTIONS = {"PA": "PA", "AP": "AP", "AP_horizontal": "AP", "L": "LATERAL", "COSTAL": "COSTAL"}
COLUMNS = ["ImageID", "ImageDir", "StudyID", "PatientID", "Projection", "Report", "Labels"]


class ClinicOptions(Options):
    """The flags of `imitate prepare clinic`."""

    physicians_only: bool = Field(False, description="only reports that physicians labelled (MethodLabel)")


def records(options: ClinicOptions) -> Iterator[Record | Excluded]:
    """One record for each row of the table."""
    tables = sorted(options.raw.glob("exams_*.csv*"))
    if len(tables) != 1:
        raise UserError(f"{options.raw} holds {len(tables)} tables exams_*.csv, not one: --raw is their folder")
    table = read_table(tables[0], COLUMNS, optional=["MethodLabel"], text=True).fillna("")
    for row in table.to_dict("records"):
        if options.physicians_only and row.get("MethodLabel") != "Physician":
            yield Excluded(row["ImageID"], "not labelled by a physician")
            continue
        labels = row["Labels"].lower()
        record = Record(
            image_id=row["ImageID"],
            image=options.raw / row["ImageDir"] / row["ImageID"],
            patient=row["PatientID"],
            study=row["StudyID"],
            split=hashed_split(row["PatientID"]),
            projection=PROJECTIONS.get(row["Projection"], row["Projection"].upper()),
            findings=row["Report"].strip() or None,
            language="es",
            labels={name: float(f"'{name}'" in labels) for name in CLASSES},
        )
        yield present(record, root=options.raw)


TRAITS = Traits(projections=("PA", "AP"), uncertainty="suspected findings count as absent")
SOURCE = Source(records, ClinicOptions, CLASSES, signs=(("exams_*.csv*",),), traits=TRAITS)
