"""Start the server: who may reach it, on which port, with which model."""

import ipaddress
import logging
import os
import re
import secrets
import socket
from pathlib import Path

from imitate.errors import UserError

log = logging.getLogger(__name__)
PASSWORD, TOKEN = "IMITATE_PASSWORD", "IMITATE_TOKEN"


def launch(model: str, index: Path | None, *, host: str, port: int, device: str = "auto") -> None:
    """Listen, then read the model, then serve until Ctrl-C; ``imitate serve`` has the details."""
    password, local = os.environ.get(PASSWORD) or None, is_loopback(host)
    chosen = None if password else _chosen_token()
    if not (password or chosen or local):
        raise UserError(
            f"--host {host} makes the viewer reachable from elsewhere: set {PASSWORD} or {TOKEN}, or omit --host"
        )
    with _listen(host, port) as listener:
        from imitate.data.corpus import Corpus
        from imitate.inference.predictor import load
        from imitate.models.hub import local_folder
        from imitate.serve.groups import groups_of
        from imitate.serve.server import create, web_server
        from imitate.serve.service import Service

        predictor = load(model, device=device)
        prepared = None if index is None else Corpus.open(index, size=predictor.encoder.preprocessing.prepared_size)
        service = Service(predictor, prepared, groups_of(predictor.encoder, local_folder(model)))
        token = None if password else chosen or secrets.token_urlsafe(16)
        app = create(service, password=password, token=token, local=local)
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}/"
        shown = f"${TOKEN}" if chosen else token  # a log may be read by others, who do not know it yet
        log.info("the viewer is at %s (Ctrl-C stops it)", f"{address}#token={shown}" if token else address)
        web_server(app).run(sockets=[listener])


def _chosen_token() -> str | None:
    """Of the environment, where a container or a service starts the viewer and nobody reads what it prints."""
    token = os.environ.get(TOKEN) or None
    if token and not re.fullmatch(r"[A-Za-z0-9_-]{16,}", token):
        raise UserError(f"the environment variable {TOKEN} must have 16 or more letters, digits, - or _")
    return token


def is_loopback(host: str) -> bool:
    """Whether a name or an address, of version 6 in brackets or not, is this machine's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(re.sub(r"^\[(.*)\]$", r"\1", host)).is_loopback
    except ValueError:  # another name
        return False


def _listen(host: str, port: int) -> socket.socket:
    """Taken before the model is read: what can't be served shall not be waited for."""
    if not 0 <= port < 2**16:
        raise UserError(f"--port {port} is not a port: give a number from 0 to 65535")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UserError(f"cannot listen at {host}, port {port}: {error.strerror}; give another --port") from error
