"""What `cdal serve` does under load: right masks, times, memory, refusals, and what kills leave.

    python benchmarks/serve_load.py MODEL IMAGE... [--requests 200] [--clients 16] [--memory 1000]
        [--kills 20] [--queue 16] [--votes N] [--seed 0]

Every mask that the server sends is compared, byte for byte, with that of a plain prediction of the
same file. `--memory` is the number of requests between two looks at the memory of the process,
after a tenth as many to warm up. `--kills` ends the server that often by SIGKILL, at a random
moment while clients ask; after each, the results on disk have to be whole, and the next server has
to take up the work. The table is Markdown.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from serving import server

from cdal.inference.load import load
from cdal.inference.predict import predict
from cdal.inference.sampling import Sampling
from cdal.runtime.execution.processes import terminated_is_interrupted
from cdal.runtime.files import digest_of

MOST_WAIT = 600.0


@dataclass
class Told:
    """What clients have seen.

    Attributes:
        seconds: time of each request that was answered with a mask, refusals included.
        statuses: number of replies by status.
        wrong: replies whose mask is not that of a plain prediction.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0


class Load:
    """Images with their masks, and servers to ask for them.

    Args:
        options: options of the command line.
        folder: folder for everything that is written.
    """

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.images = [Path(image) for image in options.images]
        sampling = Sampling(votes=options.votes)
        written = predict(load(options.model, sampling), self.images, folder / "plain")
        if written.failed:
            raise SystemExit("\n".join(written.failed.values()))
        masks = {row["input"]: row["mask"] for row in written.done}
        self.names = [masks[str(image)] for image in self.images]
        self.masks = [(folder / "plain" / name).read_bytes() for name in self.names]

    @contextmanager
    def server(self, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """A server as a process of its own, and its address."""
        votes = [] if self.options.votes is None else ["--votes", str(self.options.votes)]
        words = (self.options.model, "--queue", str(self.options.queue), *votes, *words)
        with server(self.folder, *words) as (self._process, address):
            yield self._process, address

    def ask(self, client: httpx.Client, model: str, number: int, told: Told) -> None:
        """Ask for one mask until it comes, and compare it."""
        which = number % len(self.images)
        image, began = self.images[which], time.perf_counter()
        while time.perf_counter() - began < MOST_WAIT:
            files = {"file": (image.name, image.read_bytes())}
            reply = client.post(f"v1/predict/{model}", files=files)
            told.statuses[reply.status_code] += 1
            if reply.status_code != 429:
                break
            time.sleep(random.uniform(0.1, 1) * float(reply.headers["retry-after"]))
        told.seconds.append(time.perf_counter() - began)
        told.wrong += reply.status_code != 200 or reply.content != self.masks[which]

    def ask_often(self, address: str, count: int, clients: int) -> Told:
        """Ask for many masks by several clients at the same time."""
        told = Told()
        with httpx.Client(base_url=address, timeout=MOST_WAIT) as client:
            model = client.get("v1/models").json()["models"][0]["name"]
            with ThreadPoolExecutor(clients) as pool:
                try:
                    list(pool.map(lambda k: self.ask(client, model, k, told), range(count)))
                except KeyboardInterrupt:  # nobody waits for the other answers
                    pool.shutdown(wait=False, cancel_futures=True)
                    self._process.kill()
                    raise
        return told


def memory(address: str) -> float:
    """MiB that a server holds, as it says itself."""
    lines = httpx.get(f"{address}metrics").text.splitlines()
    (line,) = [line for line in lines if line.startswith("cdal_memory_bytes ")]
    return float(line.split()[1]) / 2**20


def overflow(load_: Load, address: str) -> tuple[int, int]:
    """Fill the queue; returns the jobs that were taken, and the requests that were refused."""
    image = load_.images[0]
    with httpx.Client(base_url=address, timeout=MOST_WAIT) as client:
        model = client.get("v1/models").json()["models"][0]["name"]
        taken, refused = [], 0
        for _ in range(2 * load_.options.queue + 4):
            files = {"file": (image.name, image.read_bytes())}
            reply = client.post(f"v1/predict/{model}?wait=false", files=files)
            refused += reply.status_code == 429 and int(reply.headers["retry-after"]) > 0
            if reply.status_code == 202:
                taken.append(reply.json()["case"])
        for case in taken:
            client.delete(f"v1/cases/{case}")
    return len(taken), refused


def kill_often(load_: Load, data: Path, out: Path) -> list[str]:
    """Kill servers while clients ask; returns what was wrong afterwards."""
    faults = []
    drawn = random.Random(load_.options.seed)
    for number in range(load_.options.kills):
        with load_.server("--data", str(data), "--out", str(out)) as (process, address):
            stop = threading.Event()

            def bother(address: str = address, stop: threading.Event = stop) -> None:
                wanted = (httpx.HTTPError, KeyError, IndexError, ValueError)  # of a dying server
                with suppress(*wanted), httpx.Client(base_url=address, timeout=30) as client:
                    model = client.get("v1/models").json()["models"][0]["name"]
                    while not stop.is_set():
                        for case in client.get("v1/cases").json()["cases"]:
                            asked = {"model": model, "save": ["mask"]}
                            client.post(f"v1/cases/{case['id']}/predict", json=asked)
                        load_.ask(client, model, 0, Told())

            threads = [threading.Thread(target=bother) for _ in range(4)]
            for thread in threads:
                thread.start()
            time.sleep(drawn.uniform(0.3, 4))
            process.send_signal(signal.SIGKILL)
            process.wait()
            stop.set()
            for thread in threads:
                thread.join()
        faults += [f"kill {number}: {fault}" for fault in _faults(load_, out)]
    with load_.server("--data", str(data), "--out", str(out)) as (process, address):
        told = load_.ask_often(address, len(load_.images), 2)
        faults += ["the last server answers wrongly"] * bool(told.wrong)
        process.send_signal(signal.SIGTERM)
        if process.wait(60) != 0:
            faults.append(f"SIGTERM: the exit code is {process.returncode}")
    left = [path.name for path in (load_.folder / "tmp").glob("cdal-serve-*/*")]
    left += [str(path) for path in out.rglob(".cdal-*")]
    return faults + [f"left behind: {name}" for name in left]


def _faults(load_: Load, out: Path) -> list[str]:
    """What is wrong with the results on disk: each file has to be whole."""
    record, faults = out / "predictions.json", []
    if record.exists():
        try:
            json.loads(record.read_text())
        except ValueError:
            faults.append("predictions.json is cut off")
    for path in out.glob("*_mask*"):
        expected = load_.folder / "plain" / path.name
        if digest_of(path) != digest_of(expected):
            faults.append(f"{path.name} is not whole")
    return faults


def row(name: str, *values: object) -> str:
    """A row of the table."""
    return f"| {name} | {' | '.join(map(str, values))} |"


def at(seconds: Sequence[float], share: float) -> float:
    """A quantile of times."""
    return statistics.quantiles(seconds, n=100, method="inclusive")[round(100 * share) - 1]


def main() -> None:
    """Ask, count and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("images", nargs="+")
    for name, value in (("requests", 200), ("clients", 16), ("memory", 1000), ("kills", 20)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--queue", type=int, default=16)
    parser.add_argument("--votes", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with terminated_is_interrupted(), tempfile.TemporaryDirectory() as folder:
        load_ = Load(options, Path(folder))
        print("| what | result |\n|---|---|")
        with load_.server() as (process, address):
            told = load_.ask_often(address, options.requests, options.clients)
            print(row("requests, clients", f"{options.requests}, {options.clients}"))
            print(row("wrong masks", told.wrong))
            print(row("replies by status", dict(told.statuses)))
            print(
                row("p50, p95 in s", f"{at(told.seconds, 0.5):.2f}, {at(told.seconds, 0.95):.2f}")
            )
            taken, refused = overflow(load_, address)
            asked = 2 * options.queue + 4
            print(
                row(f"of {asked} at once, queue {options.queue}", f"{taken} taken, {refused} 429")
            )
            load_.ask_often(address, max(1, options.memory // 10), options.clients)
            before = memory(address)
            wrong = load_.ask_often(address, options.memory, options.clients).wrong
            after = memory(address)
            change = f"{before:.0f} to {after:.0f} MiB ({after / before - 1:+.1%})"
            print(row(f"memory over {options.memory} requests", f"{change}, {wrong} wrong masks"))
            process.send_signal(signal.SIGTERM)
            print(row("exit code after SIGTERM", process.wait(60)))
        data, out = Path(folder) / "data", Path(folder) / "results"
        data.mkdir()
        for image in load_.images:
            (data / image.name).symlink_to(image.resolve())
        faults = kill_often(load_, data, out)
        print(row(f"faults after {options.kills} kills", "; ".join(faults) or "none"))


if __name__ == "__main__":
    main()
