"""Decoding in processes of their own: a file that no decoder survives costs one error, and the rest goes on."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from musicgenre import audio
from musicgenre._parallel import one_thread_each
from musicgenre.audio import workers
from musicgenre.errors import AudioError
from musicgenre.listening.batch import Failure, hear_many
from tests.cli import run
from tests.limits import GUARD_S
from tests.quick_processes import START_ANEW
from tests.sounds import music, write
from tests.toy import save_toy

RATE_HZ = 16_000
SERVE = workers._serve  # a copy of this process finds `serve_badly` in its place
CRASH, HANG, FAULT, GREED = (word * 200 for word in (b"CRASH", b"HANG", b"FAULT", b"GREED"))


@pytest.fixture
def really_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start workers as in use, not as copies of a process that has their packages."""
    monkeypatch.setattr(multiprocessing, "get_context", START_ANEW)


@pytest.fixture(scope="module")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("tracks")
    return [write(folder / name, music(4.0, seed=n)) for n, name in enumerate(("a.wav", "b.mp3", "c.ogg", "d.flac"))]


def serve_badly(connection: object) -> None:
    """A worker whose decoder dies, hangs, fails or takes much memory at files that ask for it."""
    from musicgenre.audio import _decoder

    choose = _decoder.Decoder._choose

    def chosen(self: _decoder.Decoder) -> object:
        head = self._input.head
        if head.startswith(b"CRASH"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if head.startswith(b"HANG"):
            threading.Event().wait()
        if head.startswith(b"GREED"):
            bytearray(3_000_000_000)
        if head.startswith(b"FAULT"):
            raise ZeroDivisionError("no error of ours")
        return choose(self)

    _decoder.Decoder._choose = chosen  # type: ignore[method-assign,assignment]
    SERVE(connection)  # type: ignore[arg-type]


@pytest.mark.usefixtures("really_anew")
def test_workers_give_the_same_as_this_process(tracks: list[Path]) -> None:
    for path in tracks:
        spans = [(30_000, 8_000), (1_000, 5_000), (100_000, 500)]
        here = audio.load(path, RATE_HZ), audio.load_spans(path, RATE_HZ, spans), audio.probe(path)
        blocks = list(audio.stream(path, RATE_HZ, block_s=1.0))
        with audio.decoding_apart():
            there = audio.load(path, RATE_HZ), audio.load_spans(path, RATE_HZ, spans), audio.probe(path)
            distant = list(audio.stream(path, RATE_HZ, block_s=1.0))
        assert np.array_equal(here[0].waveform, there[0].waveform)
        assert here[0].warnings == there[0].warnings
        assert all(np.array_equal(a, b) for a, b in zip(here[1].waveforms, there[1].waveforms, strict=True))
        assert here[2] == there[2]
        assert len(blocks) == len(distant)
        assert np.array_equal(np.concatenate(blocks), np.concatenate(distant))
        there[0].waveform[0] = 1.0  # it can be written to


def test_errors_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(b"no sound at all" * 100)
    for path in (tmp_path / "a.mp3", tmp_path / "none.wav", tmp_path):
        with pytest.raises(AudioError) as here:
            audio.load(path, RATE_HZ)
        with audio.decoding_apart(), pytest.raises(AudioError) as there:
            audio.load(path, RATE_HZ)
        assert str(here.value) == str(there.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(
            CRASH,
            r"makes its decoder fail: it crashed \(SIGSEGV\)",
            marks=pytest.mark.skipif(os.name != "posix", reason="signals of POSIX"),
        ),
        (HANG, "makes its decoder fail: it gave no sound for 8 s"),
        (FAULT, "cannot be decoded|cannot be heard"),
    ],
)
def test_a_file_that_no_decoder_survives_is_one_error(
    tmp_path: Path, tracks: list[Path], monkeypatch: pytest.MonkeyPatch, content: bytes, reason: str
) -> None:
    bad = tmp_path / "bad.mp3"
    bad.write_bytes(content)
    monkeypatch.setattr(workers, "_serve", serve_badly)

    # Who waits for one that hangs waits no longer than must be; the good ones speak in time on any machine.
    answer, patience = workers._Worker.answer, threading.local()

    def answer_in_time(worker: workers._Worker, silence_s: float) -> tuple[bool, object]:
        return answer(worker, silence_s if patience.is_short else GUARD_S)

    def hear(path: Path) -> int | str:
        patience.is_short = path == bad and content is HANG
        try:
            return len(audio.load(path, RATE_HZ).waveform)
        except AudioError as error:
            return str(error)

    monkeypatch.setattr(workers._Worker, "answer", answer_in_time)
    with audio.decoding_apart(silence_s=8.0), ThreadPoolExecutor(2) as pool:
        results = list(pool.map(hear, [tracks[0], bad, tracks[1], bad, *tracks]))
    expected = [len(audio.load(path, RATE_HZ).waveform) for path in tracks]
    assert [results[0], results[2], *results[4:]] == [expected[0], expected[1], *expected]
    for text in (results[1], results[3]):
        with pytest.raises(AudioError, match=rf"bad\.mp3.*({reason})"):
            raise AudioError(str(text))


def test_a_single_track_starts_no_process(tracks: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_Worker", None)
    with audio.decoding_apart(1):
        assert len(audio.load(tracks[0], RATE_HZ).waveform) == 4 * RATE_HZ
    monkeypatch.undo()
    monkeypatch.setattr(workers._Pool, "take", None)
    with audio.decoding_apart():
        assert len(audio.load(io.BytesIO(tracks[0].read_bytes()), RATE_HZ).waveform) == 4 * RATE_HZ


def test_workers_start_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    class Starting:
        def __init__(self, **_: object) -> None:
            variables.append(os.environ.get("OPENBLAS_NUM_THREADS"))
            with one_thread_each():
                threading.Event().wait(0.05)

        def is_there(self, _: float) -> bool:
            return True

        def kill(self) -> None:
            raise AssertionError("nobody ends it")

    variables: list[str | None] = []
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setattr(workers, "_Worker", Starting)
    pool = workers._Pool(2.0, None)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: pool.take("a song.wav"), range(4)))
    assert [*variables, os.environ.get("OPENBLAS_NUM_THREADS")] == [None] * 5


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_worker_that_was_ended_between_two_files_is_no_fault_of_the_next(tracks: list[Path]) -> None:
    with audio.decoding_apart():
        n_samples = len(audio.load(tracks[0], RATE_HZ).waveform)
        assert workers._pool is not None
        idle = list(workers._pool._idle)
        for worker in idle:
            os.kill(worker._process.pid, signal.SIGKILL)
        before = audio.decoders_replaced()
        assert len(audio.load(tracks[0], RATE_HZ).waveform) == n_samples
        assert audio.decoders_replaced() - before == len(idle) >= 1


def never_serve(connection: object) -> None:
    """A worker that ends before it says its first word."""
    sys.exit(3)


@pytest.mark.usefixtures("really_anew")
def test_a_worker_that_cannot_begin_is_no_fault_of_the_file(
    tracks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_serve", never_serve)
    with audio.decoding_apart(), pytest.raises(AudioError) as caught:
        audio.load(tracks[0], RATE_HZ)
    assert "a.wav was not heard: the process to decode it in ended (exit code 3) before it began" in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.usefixtures("really_anew")
def test_ctrl_c_ends_no_worker_that_is_still_starting(tracks: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_serve", serve_after_ctrl_c)
    with audio.decoding_apart():
        assert len(audio.load(tracks[0], RATE_HZ).waveform) == 4 * RATE_HZ


def serve_after_ctrl_c(connection: object) -> None:
    """A worker that Ctrl-C reaches before its first step."""
    os.kill(os.getpid(), signal.SIGINT)
    SERVE(connection)  # type: ignore[arg-type]


def test_what_was_broken_off_is_not_taken_for_the_next_answer(
    tracks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(*_: object, **__: object) -> None:
        raise MemoryError

    spans = [(0, 4_000), (8_000, 4_000)]
    with audio.decoding_apart():
        expected = audio.load_spans(tracks[1], RATE_HZ, spans).waveforms
        with monkeypatch.context() as patch:
            patch.setattr(workers.np, "empty", too_much)
            with pytest.raises(MemoryError):
                audio.load_spans(tracks[0], RATE_HZ, spans)
        again = audio.load_spans(tracks[1], RATE_HZ, spans).waveforms
    assert all(np.array_equal(a, b) for a, b in zip(expected, again, strict=True))


def test_an_open_source_is_asked_and_then_heard(tracks: list[Path]) -> None:
    with audio.decoding_apart(), audio.open_source(tracks[1]) as opened:
        assert opened.info.duration_s == pytest.approx(4.0, abs=0.05)
        assert len(audio.load(opened, RATE_HZ).waveform) == 4 * RATE_HZ
        assert len(audio.load(opened, 8_000).waveform) == 4 * 8_000


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_crash_in_this_process_names_the_file(tmp_path: Path) -> None:
    code = (
        "import faulthandler, os, signal; from musicgenre import audio; faulthandler.enable()\n"
        "audio.naming('a song.m4a', lambda: os.kill(os.getpid(), signal.SIGSEGV))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGSEGV
    assert 'File "while hearing a song.m4a"' in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_batch_goes_on_over_a_file_that_no_decoder_survives(
    tmp_path: Path, tracks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.mp3").write_bytes(CRASH)
    monkeypatch.setattr(workers, "_serve", serve_badly)
    paths = [str(path) for path in (tracks[0], tmp_path / "bad.mp3", *tracks)]
    with audio.decoding_apart(len(paths)):
        results = list(hear_many(paths, lambda path: len(audio.load(path, RATE_HZ).waveform), jobs=2))
    failures = [result for result in results if isinstance(result, Failure)]
    assert [failure.path for failure in failures] == [str(tmp_path / "bad.mp3")]
    assert "bad.mp3 makes its decoder fail: it crashed (SIGSEGV)" in failures[0].error
    assert len(results) == len(paths)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_resuming_ends_normally_over_a_file_that_no_decoder_survives(
    tmp_path: Path, tracks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out, bad = save_toy(tmp_path / "toy.onnx"), tmp_path / "out.jsonl", tmp_path / "bad.mp3"
    bad.write_bytes(CRASH)
    monkeypatch.setattr(workers, "_serve", serve_badly)
    command = ("classify", "--model", model, "--output", out)

    # A run that was killed at the file wrote nothing of it; the next one, with that file alone to do, goes on over it.
    assert run(*command, tracks[0]).returncode == 0
    for paths in ([tracks[0], bad], [tracks[0], bad, tracks[1]], [bad]):
        done = run(*command, "--resume", *paths)
        assert done.returncode == 1
        assert b"bad.mp3 makes its decoder fail: it crashed (SIGSEGV)" in done.stderr

    records = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    told = [(Path(record["path"]).name, record["error"] is None) for record in records if "path" in record]
    assert sorted(told) == [("a.wav", True), ("b.mp3", True), ("bad.mp3", False)]
