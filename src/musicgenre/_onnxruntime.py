"""ONNX Runtime for all rooms: the one place that imports it, with its telemetry off.

It loads for a while, so this is imported inside the functions that need it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeAlias

import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as _states

from musicgenre._running import can_be_ended

# `musicgenre/__init__.py` has set the variable that keeps telemetry from being set up at all (`_privacy.py`). Where a
# program had imported it before us, that came too late; this ends what is sent from here on.
onnxruntime.disable_telemetry_events()

Session: TypeAlias = Any  # onnxruntime.InferenceSession, which comes without types
VERSION: str = onnxruntime.__version__

ERRORS: tuple[type[Exception], ...] = (
    _states.Fail,
    _states.InvalidGraph,
    _states.InvalidProtobuf,
    _states.InvalidArgument,
    _states.NotImplemented,
    _states.RuntimeException,
)
"""What its library in C++ raises; these share no base but Exception."""

LONGEST_RUN_S = 600.0
"""How long one run may take; MusiCNN takes some hundredths of a second for a segment."""

_FATAL_ONLY = 4  # the level of its log: errors are raised, and told once


class RunEndedError(Exception):
    """A run that took too long, or was ended with the process."""


RUN_ERRORS: tuple[type[Exception], ...] = (*ERRORS, RunEndedError)
"""What `run_session` raises."""


def open_session(graph: bytes) -> Session:
    """Load a graph to run on the CPU, with one thread inside: callers run whole rows side by side instead.

    Parameters
    ----------
    graph : bytes
        A serialised ONNX model.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    Exception
        One of `ERRORS`, when it is no graph that this version can run.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def run_session(
    session: Session, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]], *, longest_s: float = LONGEST_RUN_S
) -> list[NDArray[Any]]:
    """Run a graph, so that Ctrl-C and a limit of time end it.

    Called from the main thread it runs in one of its own, so that the main thread can be interrupted.

    Parameters
    ----------
    session : Session
        From `open_session`.
    outputs : sequence of str
        Outputs to compute.
    feeds : mapping of str to ndarray
        Inputs by name.
    longest_s : float
        Seconds it may take.

    Returns
    -------
    list of ndarray
        The outputs in their order.

    Raises
    ------
    Exception
        One of `RUN_ERRORS`.
    """
    options = onnxruntime.RunOptions()
    options.log_severity_level = _FATAL_ONLY

    def end() -> None:
        options.terminate = True

    def run() -> list[NDArray[Any]]:
        results: list[NDArray[Any]] = session.run(list(outputs), dict(feeds), options)
        return results

    try:
        with can_be_ended(end), _ending_later(end, longest_s):
            if threading.current_thread() is not threading.main_thread():
                return run()

            # Ctrl-C reaches the main thread alone, and only while it waits.
            with ThreadPoolExecutor(1, thread_name_prefix="onnxruntime") as pool:
                try:
                    return pool.submit(run).result()
                except BaseException:
                    end()
                    raise
    except ERRORS as error:
        if options.terminate:
            raise RunEndedError(f"it was ended, or takes longer than {longest_s:g} s") from error
        raise


@contextmanager
def _ending_later(end: Callable[[], None], after_s: float) -> Iterator[None]:
    """End what runs in the block when its time is over."""
    timer = threading.Timer(after_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def providers() -> list[str]:
    """Names of the kinds of hardware that this build of it could use."""
    return list(onnxruntime.get_available_providers())
