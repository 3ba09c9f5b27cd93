"""ONNX Runtime for all rooms: the one place that imports it, with its telemetry off.

It loads for a while, so this is imported inside the functions that need it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _states

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

_FATAL_ONLY = 4  # the level of its log: errors are raised, and told once


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


def providers() -> list[str]:
    """Names of the kinds of hardware that this build of it could use."""
    return list(onnxruntime.get_available_providers())
