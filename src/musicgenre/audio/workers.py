"""Decode in processes of their own: a file that no decoder survives costs one line, not the run.

Native code ends its process at some files (a segmentation fault, an abort), and may hang at others. Where many files
are heard, each is decoded and resampled in one of a few worker processes. One that dies or shows no sign of life is
replaced, and its file is an `AudioError` like any other. Who asks for nothing decodes in the own process.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

import numpy as np

from musicgenre import _debug
from musicgenre._parallel import die_with_parent, one_thread_each, start_method, usable_cores
from musicgenre._running import ending_with_work
from musicgenre._text import printable
from musicgenre.audio._decoder import Decoder
from musicgenre.audio._readers import DecodeFailure, as_decode_failure
from musicgenre.audio.sound import MAX_DURATION_S, AudioInfo, Float32, Source
from musicgenre.errors import AudioError

# A decoder gives a sign of life every few seconds of sound; after so long without one it hangs.
SILENCE_S = 120.0
# A new process may have to wait for a busy disk before it says its first word.
_START_S = 600.0
_SIGN_EVERY_S = 1.0
_END_S = 5.0
_MOST_STARTS = 2  # new workers in a row that may end before they answer
_END, _CALL = "end", "call"
_WHILE_WORKING = 4  # times as much memory as between files
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
# Packages whose threads a copy of the process would lack.
_WITH_THREADS = frozenset({"onnxruntime", "torch"})

Result = TypeVar("Result")

_pool: _Pool | None = None
_n_replaced = 0


@contextmanager
def decoding_apart(
    n_tracks: int | None = None, *, silence_s: float = SILENCE_S, most_mb: int | None = None
) -> Iterator[None]:
    """Let all paths that are opened in the block, from any thread, be decoded in worker processes.

    Parameters
    ----------
    n_tracks : int, optional
        How many tracks are to be heard: for one alone no process is started.
    silence_s : float
        Seconds without a sign of life after which a worker is taken to hang.
    most_mb : int, optional
        Millions of bytes that a worker may keep between files; one that keeps more is replaced, and none may take more
        than four times as many while it works. For programs that decode for long, on Linux; by default no limit.

    Notes
    -----
    Workers are copies of this process where that is safe: on Linux, before there are threads (begin the block before a
    model is loaded). That takes some milliseconds. Elsewhere, and in the place of those that died, they start anew,
    each when it is first needed (0.4 s, 60 MB). As many work as sources are open at a time. File objects and processes
    that are copied from this one decode where they are. Every worker must answer before it is given a file: one that
    was ended between two files, or never began, is no fault of the next.
    """
    global _pool  # noqa: PLW0603 - what is opened deep below must find it
    if n_tracks == 1 or _pool is not None:
        yield
        return

    _pool = pool = _Pool(silence_s, most_mb)
    try:
        if start_method() == "fork" and not _WITH_THREADS.intersection(sys.modules):
            pool.copy_process(usable_cores() if n_tracks is None else min(n_tracks, usable_cores()))
        yield
    finally:
        _pool = None
        pool.close()


def decoders_replaced() -> int:
    """How many workers of this process died, hung or grew so far."""
    return _n_replaced


def open_decoder(source: Source, max_duration_s: float = MAX_DURATION_S) -> Decoder:
    """Open a source, in a worker process where `decoding_apart` asks for that; parameters are those of `open_source`.

    Raises
    ------
    AudioError
        When the source cannot be opened or decoded.
    """
    pool = _pool
    if pool is None or pool.process_id != os.getpid() or not isinstance(source, (str, os.PathLike)):
        return Decoder(source, max_duration_s=max_duration_s)
    return _DistantDecoder(source, pool, max_duration_s)


def naming(path: str, function: Callable[[], Result]) -> Result:
    """Call a function so that the report of a crash (`faulthandler`) names a file beside the lines of code.

    Parameters
    ----------
    path : str
        The file that is heard.
    function : callable
        What is done with it.
    """
    named = _call.__code__.replace(co_filename=f"while hearing {printable(path)}")
    result: Result = FunctionType(named, globals())(function)
    return result


def _call(function: Callable[[], Result]) -> Result:
    return function()


class _DistantDecoder(Decoder):
    """A `Decoder` whose work is done by a worker."""

    def __init__(self, source: str | os.PathLike[str], pool: _Pool, max_duration_s: float) -> None:
        self.source = source
        self.max_duration_s = max_duration_s
        self.name = printable(os.fspath(source))
        self.is_closed = False
        self._pool = pool
        self._worker = pool.take(self.name)
        self.info: AudioInfo = self._ask("open", os.fspath(source), max_duration_s)

    def pieces(self, rate_hz: int, spans: Sequence[tuple[int, int | None]]) -> list[Float32]:
        with self._losing_worker():
            lengths: list[int] = self._ask("pieces", rate_hz, list(spans))
            return [self._receive(length) for length in lengths]

    def resampled(self, rate_hz: int, stop: int | None = None) -> Iterator[Float32]:
        self._ask("begin", rate_hz, stop)
        while (length := self._ask("next")) is not None:
            yield self._receive(length)

    def measure(self) -> tuple[float, tuple[str, ...]]:
        duration_s, notes = self._ask("measure")
        self.close()
        return duration_s, notes

    def finish(self) -> tuple[str, ...]:
        notes: tuple[str, ...] = self._ask("finish")
        self.close()
        return notes

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._pool.give_back(self._worker)

    def _ask(self, task: str, *values: object) -> Any:
        """Let the worker do something; its errors are raised here, and so is its death."""
        with self._losing_worker():
            self._worker.connection.send((task, values))
            is_error, answer = self._worker.answer(self._pool.silence_s)
        if is_error:
            self.close()
            raise answer
        return answer

    def _receive(self, length: int) -> Float32:
        with self._losing_worker():
            waveform = np.empty(length, dtype=np.float32)
            if length:  # a pipe cannot carry nothing
                self._worker.connection.recv_bytes_into(waveform.view(np.uint8).data)
        return waveform

    @contextmanager
    def _losing_worker(self) -> Iterator[None]:
        """Give the worker up where it dies or hangs, and say so in the name of the file."""
        try:
            with ending_with_work(self._worker.kill):
                yield
        except (EOFError, OSError) as error:  # the pipe ends with the process
            self.is_closed = True
            _count_replaced()
            is_hung = isinstance(error, TimeoutError)
            reason = self._worker.end(is_hung=is_hung)
            if is_hung:
                reason = f"gave no sound for {self._pool.silence_s:g} s"
            raise AudioError(
                f"{self.name} makes its decoder fail: it {reason}",
                valid="A file that the decoder survives",
                next_step="Save it again as WAV or FLAC with another program, or leave it out",
            ) from error
        except BaseException:
            # Broken off amid an answer (memory, Ctrl-C): its rest would be taken for the answer about the next file.
            if not self.is_closed:
                self.is_closed = True
                _count_replaced()
                self._worker.end(is_hung=True)
            raise


class _Worker:
    """One process that decodes, and the line to it; `method` is how it starts."""

    def __init__(self, method: str = "spawn", most_mb: int | None = None) -> None:
        self.is_killed = False
        context: Any = multiprocessing.get_context(method)
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with one_thread_each(), _deaf_to_ctrl_c(method):  # the workers share the cores among themselves
            self._process.start()
        theirs.close()
        self._is_ready = False
        if most_mb is not None and sys.platform == "linux":
            import resource

            most_bytes = _WHILE_WORKING * most_mb * 1_000_000
            with suppress(OSError):  # a lower limit holds already, or it is gone: then the first file tells
                resource.prlimit(self._process.pid or 0, resource.RLIMIT_DATA, (most_bytes, most_bytes))

    def answer(self, silence_s: float) -> tuple[bool, Any]:
        """Wait for an answer, as long as there are signs of life.

        Raises
        ------
        TimeoutError
            There were none for `silence_s`.
        EOFError
            The process died.
        """
        while True:
            limit_s = silence_s if self._is_ready else max(_START_S, silence_s)
            if not self.connection.poll(limit_s):
                raise TimeoutError
            kind, value = self.connection.recv()
            self._is_ready = True
            if kind != "alive":
                return kind == "error", value

    def is_there(self, silence_s: float) -> bool:
        """Whether the process answers when it is called."""
        try:
            self.connection.send((_CALL, ()))
            self.answer(silence_s)
        except (EOFError, OSError):
            return False
        return True

    def kill(self) -> None:
        """Let the process die; who waits for its answer is told at once."""
        self.is_killed = True
        self._process.kill()

    def held_mb(self) -> float:
        """Millions of bytes in memory that are its own; 0 where the system does not tell."""
        try:
            pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()
        except OSError:
            return 0.0
        return (int(pages[1]) - int(pages[2])) * _PAGE_BYTES / 1e6

    def end(self, *, is_hung: bool = False) -> str:
        """End the process; say how it had ended, if it had."""
        with suppress(OSError):  # it may be gone
            self.connection.send(_END)  # closing the line is not enough where a later copy of us holds it open
        self.connection.close()
        if is_hung:
            self._process.kill()
        self._process.join(_END_S)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            self._process.join()
        if code is None:
            return "crashed"
        if code >= 0:
            return f"ended (exit code {code})"
        return f"crashed ({signal.Signals(-code).name})"


class _Pool:
    """Workers that wait for files; one more is started where none is free."""

    def __init__(self, silence_s: float, most_mb: int | None = None) -> None:
        self.silence_s = silence_s
        self._most_mb = most_mb
        self.process_id = os.getpid()
        self._idle: list[_Worker] = []
        self._is_closed = False
        self._lock = threading.Lock()

        # A process without standard streams would take their numbers for its lines to us.
        for number in range(3):
            try:
                os.set_inheritable(number, True)
            except OSError:
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)

    def copy_process(self, n_workers: int) -> None:
        """Start workers as copies of this process, which has loaded what they need."""
        import av  # noqa: F401
        import soundfile  # noqa: F401
        import soxr  # noqa: F401

        self._idle += [_Worker("fork", self._most_mb) for _ in range(n_workers)]

    def take(self, name: str) -> _Worker:
        """Take a worker that answers, for the file of that name; one that does not is replaced.

        Raises
        ------
        AudioError
            None can be started, or it was ended with the work of this thread.
        """
        n_started, reason = 0, ""
        while n_started < _MOST_STARTS:
            with self._lock:  # also while one starts: the environment that it is given belongs to all threads
                is_new = not self._idle
                worker = _Worker(most_mb=self._most_mb) if is_new else self._idle.pop()
            with ending_with_work(worker.kill):
                if worker.is_there(self.silence_s):
                    return worker
            _count_replaced()
            n_started += is_new
            reason = worker.end()
            if worker.is_killed:
                break
        raise AudioError(
            f"{name} was not heard: the process to decode it in {reason} before it began",
            next_step="A script must begin below `if __name__ == '__main__':`; else look for a want of memory",
        )

    def give_back(self, worker: _Worker) -> None:
        """Take a worker back for the next file, unless it was killed in the last moment, or grew."""
        is_fit = not worker.is_killed and (self._most_mb is None or worker.held_mb() <= self._most_mb)
        if not is_fit:
            _count_replaced()
        with self._lock:
            if is_fit and not self._is_closed:
                self._idle.append(worker)
                return
        worker.end()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()


@contextmanager
def _deaf_to_ctrl_c(method: str) -> Iterator[None]:
    """Let processes that start in the block never hear Ctrl-C, not even before they can say so themselves."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    if method == "spawn":
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()  # it would begin with the first of them, and let Ctrl-C in again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _count_replaced() -> None:
    global _n_replaced  # noqa: PLW0603 - of the process, whose pools come and go
    _n_replaced += 1


def _serve(connection: Connection) -> None:
    """Do what a parent asks for, until it closes the line. It runs in a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, who ends us
    _keep_quiet()
    threading.Thread(target=die_with_parent, daemon=True).start()
    connection.send(("alive", None))

    desk = _Desk(connection)
    with suppress(EOFError, OSError):  # the parent is done, or gone
        while True:
            if (order := connection.recv()) == _END:
                return
            task, values = order
            try:
                with as_decode_failure():
                    arrays, answer = desk.do(task, values)
                    arrays = [np.ascontiguousarray(array) for array in arrays]
            except (AudioError, MemoryError) as error:
                connection.send(("error", error))
            except DecodeFailure as error:
                reason = AudioError(
                    f"{desk.name} cannot be heard ({error})", next_step="Save it again, or leave it out"
                )
                connection.send(("error", reason))
            else:
                connection.send(("done", answer))
                for array in arrays:
                    if len(array):
                        connection.send_bytes(array.view(np.uint8).data)


def _keep_quiet() -> None:
    """Let nothing that native code writes, and writes as it dies, reach the streams of the parent."""
    _debug.lead_nowhere(0)
    _debug.lead_nowhere(1)
    if _debug.is_wanted():
        faulthandler.enable(2)
        return
    _debug.lead_nowhere(2)
    sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - that of a copy may lead elsewhere
    faulthandler.disable()


class _Desk:
    """What a worker has open: one source."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._decoder: Decoder | None = None
        self._blocks: Iterator[Float32] = iter(())
        self._last_sign = time.monotonic()
        self.name = ""

    def do(self, task: str, values: tuple[Any, ...]) -> tuple[list[Float32], Any]:
        """Do one task; return arrays to send, and the answer."""
        if task == _CALL:
            return [], None
        if task == "open":
            if self._decoder is not None:
                self._decoder.close()
                self._decoder = None
            self.name = printable(values[0])
            self._decoder = Decoder(values[0], alive=self._give_sign, max_duration_s=values[1])
            return [], self._decoder.info

        assert self._decoder is not None
        if task == "pieces":
            pieces = self._decoder.pieces(*values)
            return pieces, [len(piece) for piece in pieces]
        if task == "measure":
            return [], self._decoder.measure()
        if task == "begin":
            self._blocks = self._decoder.resampled(*values)
            return [], None
        if task == "next":
            block = next(self._blocks, None)
            return ([], None) if block is None else ([block], len(block))
        return [], self._decoder.finish()

    def _give_sign(self) -> None:
        """Tell the parent that work goes on, not too often."""
        now = time.monotonic()
        if now - self._last_sign >= _SIGN_EVERY_S:
            self._last_sign = now
            self._connection.send(("alive", None))
