"""ONNX Runtime for all rooms: the one place that imports it, with its telemetry off.

It loads for a while, so this is imported inside the functions that need it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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

    It runs in a thread of its own: the one that waits for it can be interrupted.

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

    pool = ThreadPoolExecutor(1, thread_name_prefix="onnxruntime")
    try:
        with can_be_ended(end):
            results: list[NDArray[Any]] = pool.submit(session.run, list(outputs), dict(feeds), options).result(
                longest_s
            )
    except TimeoutError:
        raise RunEndedError(f"it takes longer than {longest_s:g} s") from None
    except ERRORS as error:
        if options.terminate:
            raise RunEndedError("it was ended") from error
        raise
    finally:  # whatever happened, Ctrl-C too, nothing runs on
        end()
        pool.shutdown(wait=True)
    return results


def providers() -> list[str]:
    """Names of the kinds of hardware that this build of it could use."""
    return list(onnxruntime.get_available_providers())
