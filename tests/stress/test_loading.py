"""What comes from outside is read, never run: no source unpickles, and hostile files end in one line."""

import ast
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import results_files
import torch
from folders import write_folder

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.models.reference import read_state
from imitate.sources import mimic_cxr, open_i
from imitate.tasks.results import read_predictions, read_results
from imitate.training.checkpoint import LAST, load_checkpoint

SOURCES = sorted((Path(__file__).parents[2] / "src").rglob("*.py"))
# They start processes of this program: the first two exchange pickles with theirs, the last prints what torch sees
WORKERS = {"pool.py", "worker.py", "installation.py"}
RESTRICTED = Path(__file__).parents[2] / "src/imitate/models/peers/files.py"  # has the unpickler that calls nothing
FORBIDDEN = {"pickle", "dill", "joblib", "marshal", "shelve", "xml.sax", "xml.dom", "xml.dom.minidom", "subprocess"}


class Calls(ast.NodeVisitor):
    """Calls by dotted name, with their keywords; and what is imported."""

    def __init__(self, source: str) -> None:
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.imports: set[str] = set()
        self.visit(ast.parse(source))

    def visit_Call(self, node: ast.Call) -> None:
        self.calls.append((ast.unparse(node.func), {word.arg or "": ast.unparse(word.value) for word in node.keywords}))
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.imports |= {name.name for name in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.imports.add(node.module or "")


def test_no_source_can_run_what_it_reads():
    every = [(path, Calls(path.read_text(encoding="utf-8"))) for path in SOURCES]
    assert (
        len(every) > 50
        and not set().union(
            *(found.imports for path, found in every if path.name not in WORKERS and path != RESTRICTED)
        )
        & FORBIDDEN
    )
    for path, name, words in ((path, name, words) for path, found in every for name, words in found.calls):
        last = name.rsplit(".", 1)[-1]
        assert name not in {"eval", "exec", "os.system", "yaml.load_all", "yaml.safe_load"}
        assert last not in {"extractall", "read_pickle", "unsafe_load", "full_load"}
        restricted = path == RESTRICTED and "pickle_module" in words
        assert name != "torch.load" or words.get("weights_only") == "True" or restricted
        assert not name.startswith("pickle.") or path.name in WORKERS or name == "pickle.Unpickler"
        assert name not in {"np.load", "np.save"} or words.get("allow_pickle") == "False"
        assert name != "yaml.load" or path.name == "files.py"
        if last == "from_pretrained" and path.name == "hugging_face.py":
            assert ("revision" in words or words.get("") == "options") and "trust_remote_code" not in words


class Trap:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_pickle_in_any_file_is_not_run(tmp_path):
    mark, trap = tmp_path / "sprung", Trap(tmp_path / "sprung")
    torch.save({"model": trap}, tmp_path / "model.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(trap))
    for name in ("model.pth", "bare.pth"):
        with pytest.raises(UserError, match="is not a checkpoint of plain tensors"):
            read_state(tmp_path / name)
    torch.save({"step": trap}, tmp_path / LAST)
    with pytest.raises(UserError, match="no intact checkpoint left"):
        load_checkpoint(tmp_path)
    folder = write_folder(tmp_path / "data")
    path = folder / "shards" / "00000.npy"
    size = path.stat().st_size
    np.save(path, np.array([trap], dtype=object), allow_pickle=True)
    with path.open("ab") as file:
        file.truncate(size)
    with pytest.raises(UserError, match="holds object 1, not uint8 16 x 36 x 36"):
        Corpus.open(folder).images[0]
    assert not mark.exists()
    pickle.loads(pickle.dumps(trap))
    assert mark.exists()  # the trap is one


def test_archives_are_read_in_place_whatever_their_members_are_called(tmp_path):
    outside = tmp_path / "outside"
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "CXR1_1_IM-0001.png").touch()
    report = b'<eCitation><uId id="CXR1"/><AbstractText Label="FINDINGS">Clear.</AbstractText><parentImage id="CXR1_1_IM-0001"/></eCitation>'
    laughs = (
        b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "' + b"&a;" * 99 + b'">]><eCitation><uId id="CXR2"/>&b;</eCitation>'
    )
    file = b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><eCitation><uId id="CXR3"/>&a;</eCitation>'
    with tarfile.open(raw / "NLMCXR_reports.tgz", "w:gz") as archive:
        for name, data in (("../../outside/a.xml", report), ("/outside/b.xml", laughs), ("c.xml", file)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("d.xml")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    found = list(open_i.SOURCE.records(open_i.SOURCE.Options(raw=raw)))
    assert [getattr(each, "reason", each.image_id if hasattr(each, "image_id") else "") for each in found].count(
        "report unreadable"
    ) == 2
    assert sorted(tmp_path.rglob("*")) == before and not outside.exists()


def test_a_zip_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("files/p10/p10000001/s50000001.txt", " " * (mimic_cxr.REPORT_LIMIT + 1))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive, pytest.raises(zipfile.BadZipFile, match="oversized"):
        mimic_cxr._read_member(archive, "files/", "p10/p10000001/s50000001.txt")


def test_results_cannot_name_a_file_elsewhere(tmp_path):

    path = results_files.retrieval(tmp_path / "results.json")
    values = json.loads(path.read_text())
    values["predictions"] = "../../etc/passwd"
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match="the predictions passwd of .* are missing"):
        read_predictions(read_results(path), path)
