"""A section of docs/results.md: what the reports found, and whether the rows of the page find it too."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from _results_rows import FOLDER, Row

_PAIRED = "paired.jsonl"

_HEAD = """## Did the reports' findings hold?

Ours is the difference in accuracy of two rows of this page, with its 95 % interval. Where p stands with it, both
runs were held against each other track by track (`python scripts/results.py paired`): the interval is that of a
paired bootstrap over tracks, p of sign flips over tracks, or of McNemar's exact test where each has one seed; of
several findings against one and the same row it is corrected by Holm. Such a finding **held**, or **failed**, where
p is under 0.05. Elsewhere the interval is that of independent shares (Newcombe 1998, from their own intervals),
rather too wide than too narrow as the rows share their tracks; there a finding held where the whole interval is on
its side, and failed where it is on the other. Else these few tracks do not tell. A confusion held where it is the
most frequent one here too. **So far** is what rows tell that are to be trained again: what was unequal stands under
what is still open. What cannot be judged says why. The last column says what else should have been equal and was
not.

| finding | report | ours, 95 % interval | verdict | rows compared | beware |
| --- | --- | --- | --- | --- | --- |"""


def add_paired(
    findings: Sequence[Mapping[str, Any]], rows: Sequence[Row], records: Mapping[str, Mapping[str, Any]], work: Path
) -> list[str]:
    """Hold the runs of every finding against each other, where those behind both rows lie in a folder of `make`.

    Returns the names of what was compared.
    """
    from musicgenre._files import write_text_atomic
    from musicgenre.evaluation.compare import LabelComparison, compare

    trained = {row.record_name: row for row in rows if not row.still_open and row.run_folder(work).is_dir()}
    paired = _read_paired()
    compared = []
    for entry in findings:
        names = better, worse = entry.get("better"), entry.get("worse")
        if not all(name in records and name in trained for name in names):
            continue
        if trained[better].protocol != trained[worse].protocol:  # of a leak: other tracks
            continue
        found = compare(trained[worse].run_folder(work), trained[better].run_folder(work))
        assert isinstance(found, LabelComparison)  # of taggers there is no finding
        kept = ("first_accuracy", "second_accuracy", "difference", "low", "high", "p_value", "test", "n_tracks")
        paired[names] = {"better": better, "worse": worse, **{name: getattr(found, name) for name in kept}}
        compared.append(f"{better} against {worse}")

    lines = [json.dumps(paired[names], separators=(",", ":")) for names in sorted(paired)]
    write_text_atomic(FOLDER / _PAIRED, "\n".join(lines) + "\n")
    return compared


def section(
    findings: Sequence[Mapping[str, Any]], records: Mapping[str, Mapping[str, Any]], is_open: Collection[str]
) -> str:
    """Whether what a report found was found here: most are the difference of two rows, with an interval.

    Rows in `is_open` are to be trained again: what they tell is no verdict yet.
    """
    paired = _with_corrected_p(findings, records)
    lines = [_HEAD]
    for entry in findings:
        names: tuple[str, ...] = ()
        if "unjudged" in entry:
            ours, verdict = "", f"not judged: {entry['unjudged']}"
        elif "confusion_of" in entry:
            names = (entry["confusion_of"],)
            ours, verdict = _largest_confusion(entry, records)
        else:
            names = (entry["better"], entry["worse"])
            ours, verdict = _paired_cells(paired[names]) if names in paired else _held_against(names, records)
        if verdict != "open" and not is_open.isdisjoint(names):
            verdict = f"so far: {verdict.strip('*')}"
        compared = " against ".join(f"`{name}`" for name in names)
        cells = (entry["finding"], entry["report"], ours, verdict, compared, entry.get("beware", ""))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _read_paired() -> dict[tuple[str, str], dict[str, Any]]:
    """What was compared track by track, by the better and the worse row of a finding."""
    path = FOLDER / _PAIRED
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    pairs = [json.loads(line) for line in lines]
    return {(pair["better"], pair["worse"]): pair for pair in pairs}


def _with_corrected_p(
    findings: Sequence[Mapping[str, Any]], records: Mapping[str, Mapping[str, Any]]
) -> dict[tuple[str, str], dict[str, Any]]:
    """The pairs that findings ask for and that are of the runs on the page, p corrected for all against one row."""
    from musicgenre.evaluation.metrics import holm

    asked = {(entry.get("better"), entry.get("worse")) for entry in findings}
    pairs = {}
    for names, pair in _read_paired().items():
        compared = dict(zip(names, (pair["second_accuracy"], pair["first_accuracy"]), strict=True))
        if names in asked and all(_is_shown(name, records, accuracy) for name, accuracy in compared.items()):
            pairs[names] = pair

    corrected = {}
    for row in {worse for _, worse in pairs}:
        family = {names: pair for names, pair in pairs.items() if names[1] == row}
        p_values = holm([pair["p_value"] for pair in family.values()])
        for names, p_value in zip(family, p_values, strict=True):
            corrected[names] = {**family[names], "p_value": p_value, "n_tests": len(family)}
    return corrected


def _is_shown(name: str, records: Mapping[str, Mapping[str, Any]], accuracy: float) -> bool:
    return name in records and math.isclose(records[name]["accuracy"]["value"], accuracy, abs_tol=1e-9)


def _paired_cells(pair: Mapping[str, Any]) -> tuple[str, str]:
    """The paired difference, and the verdict by its p."""
    from musicgenre.evaluation.metrics import p_in_words
    from musicgenre.evaluation.paired_tests import LEVEL

    verdict = "not told"
    if pair["p_value"] < LEVEL:
        verdict = "**held**" if pair["difference"] > 0 else "**failed**"
    corrected = f", of {pair['n_tests']} tests" if pair["n_tests"] > 1 else ""
    interval = f"{pair['difference']:+.3f} [{pair['low']:+.3f}, {pair['high']:+.3f}]"
    return f"{interval}, {p_in_words(pair['p_value'])}{corrected}", verdict


def _held_against(names: tuple[str, str], records: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    """The difference between the row that should be better and the other as if of other tracks, and the verdict."""
    if not all(name in records for name in names):
        return "not measured", "open"
    value, low, high = _difference(*(records[name]["accuracy"] for name in names))
    verdict = "not told"
    if low > 0 or high < 0:
        verdict = "**held**" if low > 0 else "**failed**"
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]", verdict


def _largest_confusion(entry: Mapping[str, Any], records: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    """Whether one label is taken for another more often than any other pair of a row's confusion matrix."""
    name = entry["confusion_of"]
    if name not in records:
        return "not measured", "open"
    labels, counts = records[name]["labels"], records[name]["confusion"]
    wrong: dict[tuple[str, str], float] = {}
    for truth, row in zip(labels, counts, strict=True):
        wrong |= {(truth, answer): n for answer, n in zip(labels, row, strict=True) if answer != truth}

    asked = (entry["truth"], entry["answer"])
    n_tracks = sum(counts[labels.index(asked[0])])
    ours = f"{asked[0]} taken for {asked[1]}: {wrong[asked]:g} of {n_tracks:g} tracks"
    most = max(wrong.values())
    largest = [f"{truth} for {answer}" for (truth, answer), n in wrong.items() if n == most]
    verdict = "**held**" if wrong[asked] == most else "not told"
    return f"{ours}; most: {', '.join(largest)} ({most:g})", verdict


def _difference(first: Mapping[str, float], second: Mapping[str, float]) -> tuple[float, float, float]:
    """First minus second with Newcombe's interval, from the interval of each."""
    value = first["value"] - second["value"]
    below = math.hypot(first["value"] - first["low"], second["high"] - second["value"])
    above = math.hypot(first["high"] - first["value"], second["value"] - second["low"])
    return value, max(-1.0, value - below), min(1.0, value + above)
