"""Numbered pieces of work as tasks of a running Dask cluster, whose workers see the same folders."""

from collections.abc import Callable, Iterator, Sequence

from imitate.errors import UserError

RETRIES = 3
CONNECT_LIMIT = 30.0  # seconds


def on_cluster(function: Callable[[int], int], numbers: Sequence[int], address: str) -> Iterator[int]:
    """Yields what ``function``, which can be pickled, returns for each number, in the order of completion."""
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise UserError("--cluster needs Dask: pip install 'imitate-cxr[cluster]'") from error
    try:
        client = Client(address, timeout=CONNECT_LIMIT)
    except (OSError, ValueError) as error:  # nobody there; no address
        raise UserError(f"no Dask scheduler responds at {address} ({error}): start one, or omit --cluster") from error
    with client:
        tasks = [client.submit(function, number, retries=RETRIES, pure=False) for number in numbers]
        for task in as_completed(tasks):
            yield task.result()
