"""Shards as tasks of a running Dask cluster, each on a worker of it that sees the raw archive and the folder."""

from collections.abc import Iterator, Sequence

from imitate.data.shards import Plan, write_one
from imitate.errors import UserError

RETRIES = 3
CONNECT_LIMIT = 30.0  # seconds


def write_on_cluster(plan: Plan, shards: Sequence[int], address: str) -> Iterator[int]:
    """Yields the number of each shard when it is complete."""
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise UserError("--cluster needs Dask: pip install 'imitate-cxr[cluster]'") from error
    try:
        client = Client(address, timeout=CONNECT_LIMIT)
    except (OSError, ValueError) as error:  # nobody there; no address
        raise UserError(f"no Dask scheduler answers at {address} ({error}): start one, or omit --cluster") from error
    with client:
        tasks = [client.submit(write_one, plan, shard, retries=RETRIES, pure=False) for shard in shards]
        for task in as_completed(tasks):
            yield task.result()
