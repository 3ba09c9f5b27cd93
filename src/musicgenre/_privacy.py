"""Telemetry of the packages we stand on, off before any of them is imported.

`musicgenre/__init__.py` imports this first of all, so that it holds for the library as for every command, for packages
that import each other (torch's exporter loads ONNX Runtime by itself), and for the processes that we start.
"""

from __future__ import annotations

import os

TELEMETRY_OFF = {
    # ONNX Runtime tells its maker's host what runs on which machine, and keeps a queue of it in the home folder.
    "ORT_DISABLE_TELEMETRY": "1",
    # The Hugging Face hub, and the libraries on top of it.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # Ray, by `--ray` or in programs that use it: its usage statistics.
    "RAY_USAGE_STATS_ENABLED": "0",
    # What further packages have agreed upon.
    "DO_NOT_TRACK": "1",
}
"""Environment variables by which these packages ask, with the values that say no, whatever they were before."""

os.environ.update(TELEMETRY_OFF)
