"""``imitate serve``: a web page over a trained model, and the HTTP API beneath it."""

from imitate.names import AnyPath


def serve(
    *,
    model: str,
    index: AnyPath | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str = "auto",
) -> None:
    """Look at radiographs with a trained model in a browser; programs find the same at /openapi.json.

    Images stay in this machine's memory, and nothing is sent elsewhere. Where the environment variable
    IMITATE_PASSWORD is set, it is asked for, under any user name. Research software, not a medical device.

    Args:
        model: A run folder, an exported folder or hf-hub:OWNER/NAME@REVISION.
        index: A prepared folder, whose reports are shown beside an image that they may fit.
        host: Other than this machine's own only with a password, and behind a proxy that speaks HTTPS.
        port: 0 takes any free one.
        device: cpu, cuda, ...; auto takes a GPU if there is one.
    """
    from pathlib import Path

    from imitate.serve.launch import launch

    folder = None if index is None else Path(index)
    launch(model, folder, host=host, port=port, device=device)
