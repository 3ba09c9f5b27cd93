"""What two runs must share before their answers can be held against each other."""

from __future__ import annotations

from musicgenre.errors import RunError
from musicgenre.runs.runs import Run


def check_same_question(first: Run, second: Run) -> None:
    """Check that two runs stand under one protocol and answer one task with the same labels or tags.

    Raises
    ------
    RunError
        They differ; the message names in what.
    """
    for word, one, other in (
        ("tasks", _task(first), _task(second)),
        ("protocols", first.protocol, second.protocol),
        ("tags" if first.is_tagging else "labels", _listed(first.labels), _listed(second.labels)),
    ):
        if one != other:
            raise RunError(
                f"the two runs have different {word}: {one} against {other}",
                valid=f"runs that share their {word}",
                next_step="Train both on the same manifest",
            )


def _task(run: Run) -> str:
    return "multi_label" if run.is_tagging else "single_label"


def _listed(labels: tuple[str, ...]) -> str:
    return ", ".join(sorted(labels))
