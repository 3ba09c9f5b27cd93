"""The log of a pipeline: a line of JSON for everything that happened, by which a later call knows what is done."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from musicgenre._files import naming
from musicgenre._json import parsed_json
from musicgenre.runs.folder import timestamp

RAN, CACHED = "ran", "cached"
"""A step did its work, or had nothing to do as nothing it depends on has changed."""

REFUSED, FAILED, INTERRUPTED = "refused", "failed", "interrupted"
"""A step said no, broke off for an error, or was broken off."""


class PipelineLog:
    """A log that lines are added to; what is damaged in it counts as not said.

    Parameters
    ----------
    path : Path
        Where it lies; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._done: dict[str, Mapping[str, Any]] = {}
        self._is_torn = False
        if not path.is_file():
            return

        content = path.read_bytes()
        self._is_torn = bool(content) and not content.endswith(b"\n")  # a kill came between
        for line in content.splitlines():
            try:
                record = parsed_json(line)
            except ValueError:
                continue
            if not isinstance(record, dict):
                continue
            if record.get("state") == RAN and isinstance(record.get("step"), str):
                self._done[record["step"]] = record

    def done(self, step: str) -> Mapping[str, Any]:
        """What was written when a step last did its work; empty where it never did."""
        return self._done.get(step, {})

    def write(self, **record: Any) -> None:
        """Add a line, with its time."""
        told = {"time": timestamp(), **record}
        line = json.dumps(told, ensure_ascii=False) + "\n"
        with naming(self.path), self.path.open("ab") as stream:
            stream.write(("\n" if self._is_torn else "").encode() + line.encode("utf-8"))
            stream.flush()
            os.fsync(stream.fileno())
        self._is_torn = False
        if record.get("state") == RAN:
            self._done[record["step"]] = told
