"""``imitate serve``: the viewer of a trained model, and its HTTP API."""

from imitate.names import AnyPath, Backend


def serve(
    *,
    model: str,
    index: AnyPath | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str = "auto",
    backend: Backend | None = None,
) -> None:
    """View radiographs with a trained model in a browser; /openapi.json describes the API for programs.

    Images stay in this machine's memory, and nothing is sent elsewhere. If the environment variable IMITATE_PASSWORD is
    set, the page asks for this password, with any user name. IMITATE_TOKEN replaces the token in the address
    that is printed. Research software, not a medical device.

    Args:
        model: A run, an exported folder (or ONNX), hf-hub:OWNER/NAME@REVISION or a published encoder (imitate models).
        index: A prepared folder in which to find the nearest reports of an image.
        host: Address to listen on. Any other than a loopback address needs a password or your own token; use an HTTPS
            proxy.
        port: Port to listen on; 0 chooses a free one.
        device: cpu, cuda, ...; auto uses a GPU if there is one.
        backend: onnx or torch; default: onnx for a folder of `imitate export --format onnx`, otherwise torch.
    """
    from pathlib import Path

    from imitate.inference.opening import check_backend
    from imitate.serve.launch import launch

    check_backend(model, backend)
    folder = None if index is None else Path(index)
    launch(model, folder, host=host, port=port, device=device)
