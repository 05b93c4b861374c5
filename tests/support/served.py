"""A model that nobody trained, and a real server over it on a free port of the loopback."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from folders import in_memory, write_folder
from processes import HANG, until
from recipes import TINY_MODEL

from imitate.data.corpus import Corpus
from imitate.data.text_cache import corpus
from imitate.inference.calibration import (
    Calibration,
    ClassCalibration,
    OperatingPoint,
    Rate,
    preprocessing_digest,
)
from imitate.inference.encoder import ImitateEncoder
from imitate.inference.predictor import Predictor
from imitate.models.imitate import freeze_all, seeded_model
from imitate.models.text import fit_or_load
from imitate.serve.guard import Guard
from imitate.serve.server import web_server

WORDS = "small left pleural effusion. the heart is enlarged. the lungs are clear. no pneumothorax."
MARKUP = "<script>document.title = 'run'</script><b>left</b> effusion"


def untrained(root: Path) -> tuple[Predictor, Corpus]:
    """A predictor, and a folder in which a report has markup."""
    data = in_memory(Corpus.open(write_folder(root / "data")))
    data.table.loc[:5, "findings"] = MARKUP
    text = fit_or_load("lsa-8", [*corpus(data), *WORDS.split(".")])
    config = TINY_MODEL.model_copy(update={"text_width": text.width})
    model = seeded_model(config, pretrained=False, seed=0)
    freeze_all(model)
    return Predictor(ImitateEncoder(str(root / "run"), model, text)), data


def calibrated(predictor: Predictor) -> tuple[Predictor, str]:
    """The same with a calibration of one class, whose name is the other."""
    name = "Pleural Effusion"
    one = ClassCalibration(
        method="platt",
        slope=9.0,
        intercept=-1.0,
        positives=30,
        negatives=50,
        prompts=predictor.scorer({name: "left effusion"}).prompts[name],
        operating=OperatingPoint(
            aim="sensitivity",
            at=0.9,
            threshold=-0.01,
            achieved={"sensitivity": Rate(value=0.9, low=0.8, high=0.95)},
        ),
    )
    calibration = Calibration(
        task="zero-shot",
        method="platt",
        date="2026-01-02",
        branch="both",
        classes={name: one},
        data={"name": "first", "split": "val", "images": 80, "patients": 70},
        weights=predictor.encoder.digest(),
        preprocessing=preprocessing_digest(predictor.encoder),
    )
    return Predictor(predictor.encoder, calibration=calibration), name


@contextmanager
def serving(app: Guard) -> Iterator[str]:
    """Its address, while it runs in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = web_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until(lambda: server.started, alive=thread.is_alive, what="the server starts")
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(HANG)
        listener.close()
        assert not thread.is_alive(), "the server has not stopped"
