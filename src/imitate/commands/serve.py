"""``imitate serve``: a web page over a trained model, and the HTTP API beneath it; the web framework's one door."""

import ipaddress
import logging
import os
import socket
from importlib.util import find_spec
from pathlib import Path

from imitate.errors import UserError

log = logging.getLogger(__name__)
PASSWORD = "IMITATE_PASSWORD"


def serve(
    *,
    model: str,
    index: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str = "auto",
    revision: str | None = None,
) -> None:
    """Look at radiographs with a trained model in a browser; programs find the same at /openapi.json.

    Images stay in this machine's memory, and nothing is sent elsewhere. Where the environment variable
    IMITATE_PASSWORD is set, it is asked for, under any user name. Research software, not a medical device.

    Args:
        model: A run folder, an exported folder or a hub id.
        index: A prepared folder, whose reports are shown beside an image that they may fit.
        host: Other than this machine's own only with a password, and behind a proxy that speaks HTTPS.
        port: 0 takes any free one.
        device: cpu, cuda, ...; auto takes a GPU if there is one.
        revision: Of a hub id.
    """
    if not (find_spec("fastapi") and find_spec("uvicorn")):
        raise UserError('imitate serve needs packages that are not here: pip install "imitate-cxr[serve]"')
    password, local = os.environ.get(PASSWORD) or None, is_loopback(host)
    if password is None and not local:
        raise UserError(f"--host {host} lets others in: set the environment variable {PASSWORD}, or leave --host out")
    with _listen(host, port) as listener:
        from imitate.data.prepared import Prepared
        from imitate.inference.predictor import load
        from imitate.serve.server import create, web_server
        from imitate.serve.service import Service

        predictor = load(model, revision=revision, device=device)
        prepared = None if index is None else Prepared.open(index, size=predictor.encoder.preprocessing.prepared_size)
        app = create(Service(predictor, prepared), password=password, local=local)
        shown = f"[{host}]" if ":" in host else host
        log.info("the viewer is at http://%s:%d (Ctrl-C ends it)", shown, listener.getsockname()[1])
        web_server(app).run(sockets=[listener])


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name
        return False


def _listen(host: str, port: int) -> socket.socket:
    """Taken before the model is read: what can't be served shall not be waited for."""
    if not 0 <= port < 2**16:
        raise UserError(f"--port {port} is no port: give one of 0 to 65535")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UserError(f"cannot listen at {host}, port {port}: {error.strerror}; give another --port") from error
