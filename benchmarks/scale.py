"""How fast, how heavy and how dear hearing many tracks is: one process, two, and Ray with one, two and four actors.

Run: python benchmarks/scale.py stages|speed|all [--tracks 2000] [--rounds 4] [--music FOLDER] [--into FILE]

- stages: processor seconds of one track, by what is done with it: read, decode, front end, network, the
  checksum by which `--resume` knows its sound again, answer and write.
- speed: tracks a second of `classify` in every way. The ways take turns, each hears `--tracks` in `--rounds` runs. A
  run of a tenth of the tracks goes before each, so that what starting costs can be told apart, and whether memory
  grows: the largest share of it (PSS) of the command, and of all that it starts. Beside the clock stand processor
  seconds a track, of all processes that a run starts: other work on the machine disturbs these less.

Every run is the command itself in a process of its own, Ray's workers at the same priority as the others (Ray's own
choice is a lower one, which would measure what else runs). `--music` names a folder of real WAV files, which are heard
several times under other names where there are fewer than `--tracks`; without it the music is synthetic. Figures are
merged into `--into`, with the load of the machine beside them; `scripts/scale_tables.py` makes the tables of
docs/scale.md of them. Ray is left out where it is not installed, and the output says so. Linux alone.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

WAYS = {
    "jobs-1": ["--jobs", "1", "--threads", "1"],
    "jobs-2": ["--jobs", "2", "--threads", "1"],
    "ray-1": ["--ray", "--jobs", "1"],
    "ray-2": ["--ray", "--jobs", "2"],
    "ray-4": ["--ray", "--jobs", "4"],
}
_TENFOLD = 10
_LOOK_EVERY_S = 1.0
_REPEATS = 3
_LENGTHS_S = (90, 150, 200, 240, 300, 420)
_TO_REAP_ORPHANS = 36  # prctl: PR_SET_CHILD_SUBREAPER


# What one track costs.


def stages(music: Path | None, folder: Path) -> dict[str, Any]:
    """Processor seconds of one track by stage, of real WAV files of 30 s (or synthetic ones), MP3 and FLAC."""
    from musicgenre import Classifier
    from tests.sounds import music as tune
    from tests.sounds import write

    kinds: dict[str, list[Path]] = {"wav": some_wavs(music, folder, 24), "mp3": [], "flac": []}
    for number, length_s in enumerate(_LENGTHS_S):
        samples = tune(length_s, seed=number)
        kinds["mp3"].append(write(folder / f"{length_s}.mp3", samples))
        kinds["flac"].append(write(folder / f"{length_s}.flac", samples))

    classifier = Classifier(threads=1)
    front_end = front_end_of_default()
    found = {}
    for kind, paths in kinds.items():
        rows = [stages_of(path, classifier, front_end) for path in paths]
        found[kind] = {
            "files": len(paths),
            "bytes": statistics.mean(path.stat().st_size for path in paths),
            **{name: statistics.mean(row[name] for row in rows) for name in rows[0]},
            "task_s": [round(sum(row.values()), 4) for row in rows],
        }
        print(kind, {name: value for name, value in found[kind].items() if name != "task_s"}, flush=True)
    return found


def stages_of(path: Path, classifier: Any, front_end: Callable[[Any], object]) -> dict[str, float]:
    """Processor seconds of one track by stage, the best of some repeats each."""
    from musicgenre.filetags.music_file import sound_key
    from musicgenre.listening.results import format_line, record_of

    ear, listener = classifier._ear, classifier._listener
    network, rows, said = ear._run_rows, [], []

    def note(batch: Any) -> Any:
        rows.append(batch)
        said.append(network(batch))
        return said[-1]

    ear._run_rows = note
    heard = ear.hear(str(path))
    replies = iter(())
    ear._run_rows = lambda batch: next(replies)

    def decode() -> None:
        nonlocal replies
        replies = iter(said)
        ear.hear(str(path))

    def write_down() -> None:
        answer = listener.answer(str(path), heard, reject=True)
        record = record_of(answer, top=3, timeline=False, names_tags=False)
        io.StringIO().write(format_line(record, "json"))

    try:
        read_s = processor_s(path.read_bytes)
        decode_s = processor_s(decode)
    finally:
        ear._run_rows = network
    front_s = processor_s(lambda: [front_end(row) for batch in rows for row in batch])
    network_s = processor_s(lambda: [network(batch) for batch in rows])
    return {
        "read": read_s,
        "decode": max(decode_s - read_s, 0.0),
        "front_end": front_s,
        "network": max(network_s - front_s, 0.0),
        "identify": processor_s(lambda: sound_key(path)),
        "write": processor_s(write_down),
    }


def front_end_of_default() -> Callable[[Any], object]:
    """Cut the default model's graph behind its logarithm, where the mel spectrogram is whole."""
    import numpy as np
    import onnx
    import onnx.utils

    from musicgenre._onnxruntime import open_session, run_session
    from musicgenre.bundle.store import ensure_bundle

    model = onnx.shape_inference.infer_shapes(onnx.load(ensure_bundle("msd-musicnn")))
    [logarithm] = [node.output[0] for node in model.graph.node if node.op_type == "Log"]
    names = [given.name for given in model.graph.input]
    session = open_session(onnx.utils.Extractor(model).extract_model(names, [logarithm]).SerializeToString())
    padding = np.zeros((), dtype=np.int64)
    return lambda row: run_session(session, [logarithm], {"waveform": row[None], "padding": padding})


def processor_s(work: Callable[[], object]) -> float:
    """Processor seconds of this process for some work, the least of some repeats after a first run."""
    work()
    found = []
    for _ in range(_REPEATS):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


# Whole commands.


def speed(paths: list[Path], ways: list[str], rounds: int, folder: Path) -> dict[str, Any]:
    """Tracks a second, processor seconds a track, seconds to start and memory, of every way in turns."""
    n_many = len(paths) // rounds
    n_few = n_many // _TENFOLD
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for number in range(rounds):
        some = paths[number * n_many : (number + 1) * n_many]
        for way in ways if number % 2 == 0 else reversed(ways):  # none always comes first
            few = one_run(way, some[:n_few], folder)
            many = one_run(way, some, folder)
            n_more = n_many - n_few
            runs[way].append(
                {
                    "few": n_few,
                    "tracks": n_many,
                    "tracks_per_s": n_more / (many["clock_s"] - few["clock_s"]),
                    "processor_s_per_track": (many["processor_s"] - few["processor_s"]) / n_more,
                    "start_processor_s": few["processor_s"] - n_few * few_s(few, many, n_more, "processor_s"),
                    "start_s": few["clock_s"] - n_few * few_s(few, many, n_more, "clock_s"),
                    "bytes_per_track": many["bytes"] / n_many,
                    "load": os.getloadavg()[0],
                    **{f"few_{name}": few[name] for name in ("driver_mb", "others_mb")},
                    **{name: many[name] for name in ("driver_mb", "others_mb")},
                }
            )
            print(way, {name: round(value, 4) for name, value in runs[way][-1].items()}, flush=True)

    found: dict[str, Any] = {}
    for way, of_way in runs.items():
        middle = {name: statistics.median(run[name] for run in of_way) for name in of_way[0]}
        found[way] = {**middle, "rounds": of_way}
    return found


def few_s(few: dict[str, float], many: dict[str, float], n_more: int, what: str) -> float:
    """Seconds of each further track."""
    return (many[what] - few[what]) / n_more


def names_bytes() -> float:
    """Memory that the command keeps of a track's name on a cluster, as in `musicgenre.cluster.hearing`."""
    import tracemalloc

    from musicgenre.listening.results import storable

    count = 100_000
    tracemalloc.start()
    paths = [
        f"s3://bucket/music/{number % 997:03d}/{number:010d}-a-song-of-some-length.mp3" for number in range(count)
    ]
    spelled = {str(storable(path)): path for path in paths}
    missing = list(spelled.values())
    n_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return n_bytes / len(missing)


def one_run(way: str, paths: list[Path], folder: Path) -> dict[str, float]:
    """Hear tracks by the command: seconds on the clock and of processors, most memory, bytes of the results."""
    listed, output = folder / "list.txt", folder / "result"
    listed.write_text("".join(f"{path}\n" for path in paths), "utf-8")
    if output.is_dir():
        shutil.rmtree(output)
    output.unlink(missing_ok=True)
    command = [sys.executable, "-m", "musicgenre", "classify", "-", "--quiet", "--output", str(output), *WAYS[way]]

    begin = time.perf_counter()
    with listed.open() as names, (folder / "log.txt").open("w") as log:
        environment = {**os.environ, "RAY_worker_niceness": "0"}
        process = subprocess.Popen(command, stdin=names, stdout=log, stderr=log, env=environment)
    clock_s = processor_s_all = 0.0
    most = {"driver_mb": 0.0, "others_mb": 0.0}
    looked = 0.0
    while True:  # until what it started is gone as well
        try:
            process_id, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if process_id == 0:
            if time.perf_counter() - looked > _LOOK_EVERY_S:
                looked = time.perf_counter()
                driver_mb, others_mb = memory_mb(process.pid)
                most = {
                    "driver_mb": max(most["driver_mb"], driver_mb),
                    "others_mb": max(most["others_mb"], others_mb),
                }
            time.sleep(0.01)
            continue
        processor_s_all += usage.ru_utime + usage.ru_stime
        if process_id == process.pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            clock_s = time.perf_counter() - begin
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{(folder / 'log.txt').read_text()}")
    n_bytes = sum(path.stat().st_size for path in [output, *output.rglob("*")] if path.is_file())
    return {"clock_s": clock_s, "processor_s": processor_s_all, "bytes": n_bytes, **most}


def memory_mb(driver: int) -> tuple[float, float]:
    """PSS of a process, and of all others below this one: shared pages count in part, so that they can be summed."""
    sizes = {}
    for process_id in below(os.getpid()):
        try:
            for line in Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    sizes[process_id] = int(line.split()[1]) / 1024
        except OSError:  # it ended meanwhile
            continue
    own = sizes.pop(driver, 0.0)
    return own, sum(sizes.values())


def below(process_id: int) -> Iterator[int]:
    """All processes that a process has started, and those that these have."""
    for task in Path(f"/proc/{process_id}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            yield child
            yield from below(child)


# Tracks to hear.


def some_wavs(music: Path | None, folder: Path, count: int) -> list[Path]:
    """WAV files of 30 s: real ones where there are some, else synthetic ones."""
    if music is not None:
        found = sorted(music.rglob("*.wav"))
        return found[:: max(len(found) // count, 1)][:count]
    from tests.sounds import music as tune
    from tests.sounds import write

    return [write(folder / f"{number}.wav", tune(30, 22_050, 1, number), 22_050) for number in range(count)]


def many_tracks(music: Path | None, folder: Path, count: int) -> list[Path]:
    """So many names of tracks; each file stands under several."""
    originals = []
    for number, path in enumerate(some_wavs(music, folder, 100)):
        originals.append(shutil.copy(path, folder / f"original-{number}.wav"))
    names = [folder / f"track-{number:06d}.wav" for number in range(count)]
    for number, name in enumerate(names):
        os.link(originals[number % len(originals)], name)
    return names


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("stages", "speed", "all"))
    parser.add_argument("--tracks", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--music", type=Path)
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=list(WAYS))
    parser.add_argument("--into", type=Path, default=Path("docs/scale.json"))
    asked = parser.parse_args()

    ways = asked.ways
    if importlib.util.find_spec("ray") is None:
        ways = [way for way in ways if not way.startswith("ray")]
        print("Ray is not installed: its ways are left out")
    ctypes.CDLL(None).prctl(_TO_REAP_ORPHANS, 1, 0, 0, 0)

    measured: dict[str, Any] = json.loads(asked.into.read_text("utf-8")) if asked.into.is_file() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.what in ("stages", "all"):
            measured["stages"] = {"cores": len(os.sched_getaffinity(0)), **stages(asked.music, folder)}
        if asked.what in ("speed", "all"):
            paths = many_tracks(asked.music, folder, asked.tracks)
            measured.setdefault("speed", {}).update(speed(paths, ways, asked.rounds, folder))
            measured["names_bytes"] = names_bytes()
    asked.into.write_text(json.dumps(measured, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
