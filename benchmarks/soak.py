"""Parallel clients against `imitate serve` on the loopback for a while: errors, latencies (seconds), growth of memory.

Every client uploads a synthetic radiograph of its own, a bad file now and then, and asks everything there is to ask,
without a pause. The server is a process of its own, over the model that is given, or over one that nobody trained.
Clients have loopback addresses of their own, as the server's limits are by address. The exit status is 1 after an
unexpected response, where memory grew, or where the 99th percentile of an operation is above the limit.

    python benchmarks/soak.py --seconds 300 --clients 8 --out docs/results/reliability/soak_viewer.json
"""

import argparse
import io
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from PIL import Image

from imitate.synthetic.cases import draw_case
from imitate.synthetic.phantom import render

Seen = dict[str, list[float]]
PATIENCE = 180  # seconds for the server to start
EXPECTED = {200, 204, 422}  # 204 of a closed image, 422 of the bad file
GROWTH = 32  # MB after a third of the time that are no growth


def untrained(root: Path) -> list[str]:
    """The options of a server over random weights and 200 drawn studies."""
    from imitate.commands.prepare import prepare
    from imitate.config import ImitateConfig
    from imitate.data.corpus import Corpus
    from imitate.data.text_cache import corpus
    from imitate.models.imitate import seeded_model
    from imitate.models.text import fit_or_load, save_text_encoder

    prepare("synthetic", n=200, out=root / "data", size=256)
    text = fit_or_load("lsa-64", corpus(Corpus.open(root / "data")))
    config = ImitateConfig(backbone="resnet18", text_width=text.width)
    seeded_model(config, pretrained=False, seed=0).save(root / "run" / "model")
    save_text_encoder(text, root / "run" / "text")
    return ["--model", str(root / "run"), "--index", str(root / "data")]


@contextmanager
def server(options: list[str], log: Path) -> Iterator[tuple[str, int]]:
    """Its address with the token, and its process id."""
    command = [sys.executable, "-m", "imitate", "serve", *options, "--port", "0"]
    with log.open("w") as errors, subprocess.Popen(command, stderr=errors) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while not (found := re.search(r"http://\S+", log.read_text())):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield found[0], process.pid
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def connect(address: str, **options: Any) -> httpx.Client:
    base, _, token = address.partition("#token=")
    return httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=60, **options)


def client(number: int, address: str, until: float, seen: Seen, codes: Counter[str]) -> None:
    picture = io.BytesIO()
    Image.fromarray(render(draw_case(number, 0), 1024, 900).image).save(picture, "PNG")
    transport = httpx.HTTPTransport(local_address=f"127.0.0.{number + 2}")
    with connect(address, transport=transport) as http:

        def ask(name: str, path: str, method: str = "POST", **body: Any) -> httpx.Response | None:
            start = time.perf_counter()
            try:
                response = http.request(method, path, **body)
            except httpx.HTTPError as error:
                codes[f"{name} {type(error).__name__}"] += 1
                return None
            seen[name].append(time.perf_counter() - start)
            code = response.status_code
            codes[str(code) if code in EXPECTED else f"{name} {code}"] += 1
            return response if code == 200 else None

        while time.monotonic() < until:
            ask("bad file", "/api/images", content=b"no radiograph")
            if opened := ask("upload", "/api/images", content=picture.getvalue()):
                image = f"/api/images/{opened.json()['id']}"
                ask("pixels", f"{image}/pixels", "GET")
                for branch in ("both", "findings", "impression"):
                    ask("classify", f"{image}/classify", json={"branch": branch})
                    ask("heatmap", f"{image}/heatmap", json={"phrase": "pleural effusion", "branch": branch})
                    ask("reports", f"{image}/reports", json={"branch": branch})
                if number % 2:  # the images of the other clients are dropped for newer ones
                    ask("close", image, "DELETE")
            ask("texts", "/api/texts/embedding", json={"texts": ["No pleural effusion."]})


def memory(process: int) -> int:
    """Resident bytes of a process, as Linux reports them."""
    pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    return int(pages) * 4096


def soak(address: str, process: int, arguments: argparse.Namespace) -> dict[str, Any]:
    seen: Seen = defaultdict(list)
    codes: Counter[str] = Counter()
    until = time.monotonic() + arguments.seconds
    threads = [
        threading.Thread(target=client, args=(number, address, until, seen, codes))
        for number in range(arguments.clients)
    ]
    for thread in threads:
        thread.start()
    idle, sizes = [], []
    with connect(address) as http:
        while any(thread.is_alive() for thread in threads):
            start = time.perf_counter()
            http.get("/api/about").raise_for_status()  # served by the loop, whatever the worker does
            idle.append(time.perf_counter() - start)
            sizes.append(memory(process))
            time.sleep(0.5)
    seen["about, meanwhile"] = idle
    third = len(sizes) // 3
    return {
        "requests": sum(codes.values()),
        "codes": dict(sorted(codes.items())),
        "unexpected": sum(count for code, count in codes.items() if not code.isdigit()),
        "latency": {name: percentiles(times) for name, times in sorted(seen.items())},
        "memory_mb": {"after_a_third": round(sizes[third] / 2**20), "last": round(sizes[-1] / 2**20)},
    }


def percentiles(times: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100, method="inclusive") if len(times) > 1 else times * 99
    return {"n": len(times), **{f"p{p}": round(cuts[p - 1], 4) for p in (50, 95, 99)}, "max": round(max(times), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--model", help="a run folder; default: random weights, of the size that real ones have")
    parser.add_argument("--index", help="a prepared folder for --model")
    parser.add_argument("--limit", type=float, default=1.0, help="seconds, of each operation's 99th percentile")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        root = Path(folder)
        index = ["--index", arguments.index] if arguments.index else []
        options = ["--model", arguments.model, *index] if arguments.model else untrained(root)
        with server(options, root / "log") as (address, process):
            found = soak(address, process, arguments)
    settings: dict[str, Any] = {
        "clients": arguments.clients,
        "seconds": arguments.seconds,
        "model": arguments.model or "random resnet18",
    }
    settings["cores"], settings["load"] = os.cpu_count(), round(os.getloadavg()[0], 1)  # of others, too
    text = json.dumps({"machine": platform.processor() or platform.machine(), **settings, **found}, indent=1)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n")
    sys.exit("; ".join(faults(found, arguments.limit)) or 0)


def faults(found: dict[str, Any], limit: float) -> list[str]:
    memory, slow = found["memory_mb"], {name: each["p99"] for name, each in found["latency"].items()}
    said = [f"{found['unexpected']} unexpected responses"] if found["unexpected"] else []
    if memory["last"] - memory["after_a_third"] > GROWTH:
        said.append(f"memory grew from {memory['after_a_third']} to {memory['last']} MB")
    return said + [f"{name}: p99 {value:.2f} s" for name, value in slow.items() if value > limit]


if __name__ == "__main__":
    main()
