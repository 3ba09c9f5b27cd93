"""Speed of the server: p50 and p99 of a 30 s MP3 at 1, 4 and 16 clients, and requests a second.

Run: python benchmarks/serve.py [--seconds 10] [--jobs N] [--model NAME]

Side by side in one run, on the same file and with as many jobs: (a) `Classifier` in this process, one track after
another and many at a time as `musicgenre classify --jobs N` hears them, and (b) a plain FastAPI handler that reads the
upload whole and loads the model in the request. The sound is synthetic; its content does not matter for speed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from classify import tune, write_mp3

TRACK_S = 30.0
CLIENTS = (1, 4, 16)
ROUNDS = 3  # in turns, so that what else the machine does falls on all alike
PLAIN = """
import socket, sys, tempfile
import uvicorn
from fastapi import FastAPI, File, UploadFile
from musicgenre import Classifier

app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False})

@app.post("/v1/classify")
def classify(file: UploadFile = File()) -> dict:
    with tempfile.NamedTemporaryFile(suffix=".mp3") as stream:
        stream.write(file.file.read())
        stream.flush()
        return Classifier(sys.argv[1]).classify(stream.name).as_dict(top=3)

listener = socket.create_server(("127.0.0.1", 0))
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listener.detach())
print(f"listening at http://127.0.0.1:{listener.getsockname()[1]}", file=sys.stderr, flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
"""


@contextmanager
def server(*command: str) -> Iterator[str]:
    """Run a server; yield its address."""
    process = subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"listening at (http://\S+)", line):
                yield found[1]
                break
        else:
            sys.exit(f"{' '.join(command[:4])} does not start")
    finally:
        process.terminate()
        process.wait()


class Load:
    """Clients that send one file again and again, each on a connection of its own.

    Parameters
    ----------
    address : str
        The server.
    track : Path
        The file.
    path : str
        Where it is sent to.
    status : int
        What must come back.
    """

    def __init__(self, address: str, track: Path, path: str = "/v1/classify", status: int = 200) -> None:
        self._place = urlsplit(address)
        self._path, self._status = path, status
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n'
        self._body = head + track.read_bytes() + b"\r\n--b--\r\n"

    def run(self, n_clients: int, seconds: float) -> tuple[list[float], float]:
        """Seconds of every request, and requests a second."""
        times: list[float] = []
        ends_s = time.perf_counter() + seconds

        def ask() -> None:
            line = http.client.HTTPConnection(str(self._place.hostname), self._place.port, timeout=600)
            while time.perf_counter() < ends_s:
                began_s = time.perf_counter()
                line.request("POST", self._path, self._body, {"Content-Type": "multipart/form-data; boundary=b"})
                answer = line.getresponse()
                content = answer.read()
                assert answer.status == self._status, content[:500]
                times.append(time.perf_counter() - began_s)

        began_s = time.perf_counter()
        threads = [threading.Thread(target=ask) for _ in range(n_clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return times, len(times) / (time.perf_counter() - began_s)


def in_this_process(
    track: Path, model: str, jobs: int, seconds: float
) -> tuple[Callable[[], list[float]], Callable[[], float]]:
    """Two measures of the Classifier itself: seconds of single tracks, and tracks a second, `jobs` at a time."""
    from musicgenre import Classifier
    from musicgenre.audio import decoding_apart
    from musicgenre.listening.batch import hear_many

    classifier = Classifier(model, threads=max(1, len(os.sched_getaffinity(0)) // jobs))
    classifier.classify(track)

    def single() -> list[float]:
        times = []
        ends_s = time.perf_counter() + seconds / 2
        while time.perf_counter() < ends_s:
            began_s = time.perf_counter()
            classifier.classify(track)
            times.append(time.perf_counter() - began_s)
        return times

    def many() -> float:
        def paths() -> Iterator[str]:
            while time.perf_counter() < ends_s:
                yield str(track)

        with decoding_apart():
            list(hear_many([str(track)] * jobs * 2, classifier.classify, jobs=jobs))  # the decoders are there now
            began_s = time.perf_counter()
            ends_s = began_s + seconds
            n_tracks = sum(1 for _ in hear_many(paths(), classifier.classify, jobs=jobs))
            return n_tracks / (time.perf_counter() - began_s)

    return single, many


def percentile(times: list[float], share: float) -> float:
    """The time that this share of all stays below, in milliseconds."""
    return sorted(times)[min(len(times) - 1, int(share * len(times)))] * 1e3


def main() -> None:
    """Measure in turns, print a table and the two ratios, and the numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measure in each round")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--model", default="default")
    chosen = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        track = Path(folder) / "a.mp3"
        write_mp3(track, tune(TRACK_S))
        plain = Path(folder) / "plain.py"
        plain.write_text(PLAIN)
        single, many = in_this_process(track, chosen.model, chosen.jobs, chosen.seconds)
        ours = ("-m", "musicgenre", "serve", "--port", "0", "--model", chosen.model, "--jobs", str(chosen.jobs))

        alone: list[float] = []
        uploads: list[float] = []
        rates: list[float] = []
        found: dict[tuple[str, int], list[tuple[list[float], float]]] = {}
        with server(*ours) as address, server(str(plain), chosen.model) as plain_address:
            loads = {"musicgenre serve": Load(address, track), "plain handler": Load(plain_address, track)}
            upload = Load(address, track, "/v1/nothing", 404)  # the body is read, and nothing done with it
            for load in loads.values():
                load.run(4, 2.0)
            for _ in range(ROUNDS):
                alone += single()
                uploads += upload.run(1, 1.0)[0]
                for n_clients in CLIENTS:
                    for name, load in loads.items():
                        found.setdefault((name, n_clients), []).append(load.run(n_clients, chosen.seconds))
                rates.append(many())

    report(chosen.jobs, track_times=alone, uploads=uploads, rates=rates, found=found)


def report(
    jobs: int,
    *,
    track_times: list[float],
    uploads: list[float],
    rates: list[float],
    found: dict[tuple[str, int], list[tuple[list[float], float]]],
) -> None:
    """Print what was measured, and the two ratios that are promised."""
    print(f"{jobs} jobs, an MP3 of {TRACK_S:g} s; {ROUNDS} rounds, medians of rounds for rates")
    print(f"{'':<28}{'p50 ms':>9}{'p99 ms':>9}{'a second':>10}")
    print(
        f"{'Classifier, one at a time':<28}{percentile(track_times, 0.5):>9.1f}{percentile(track_times, 0.99):>9.1f}"
    )
    print(f"{f'classify --jobs {jobs}':<28}{'':>9}{'':>9}{statistics.median(rates):>10.1f}")
    print(f"{'upload alone':<28}{percentile(uploads, 0.5):>9.1f}{percentile(uploads, 0.99):>9.1f}")

    numbers = {}
    for (name, n_clients), rounds in sorted(found.items()):
        times = [seconds for part, _ in rounds for seconds in part]
        rate = statistics.median(rate for _, rate in rounds)
        p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
        label = f"{name}, {n_clients} client{'s' if n_clients > 1 else ''}"
        print(f"{label:<28}{p50:>9.1f}{p99:>9.1f}{rate:>10.1f}")
        numbers[label] = {"p50_ms": p50, "p99_ms": p99, "requests_a_second": rate}

    served_ms = numbers["musicgenre serve, 1 client"]["p50_ms"]
    overhead_ms = served_ms - percentile(track_times, 0.5) - percentile(uploads, 0.5)
    best = max(numbers[f"musicgenre serve, {n} client{'s' if n > 1 else ''}"]["requests_a_second"] for n in CLIENTS)
    share = best / statistics.median(rates)
    print(f"overhead at p50, the upload left out: {overhead_ms:.1f} ms (promised: below 10)")
    print(f"throughput, of classify --jobs {jobs}: {share:.2f} (promised: 0.9 at least)")
    print(json.dumps({**numbers, "overhead_ms": overhead_ms, "throughput_share": share}))


if __name__ == "__main__":
    main()
