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
