"""Three sections of docs/results.md: models on other tracks, one recipe under four protocols, what searches gained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _results_rows import FOLDER
from musicgenre.evaluation.metrics import p_in_words

ELSEWHERE, LEAKS, SEARCHED = (FOLDER / f"{name}.jsonl" for name in ("elsewhere", "leaks", "searched"))
_KEPT = ("name", "systems", "data", "leaky", "n_tracks", "unmapped", "dropped", "warnings")
_KEPT_OF_LABELS = ("accuracy", "shared_accuracy", "expected_calibration_error")
_KEPT_OF_TAGS = ("task", "roc_auc", "pr_auc", "tags")

_COLUMNS = (
    *("model", "tracks of", "all its labels, 95 %", "their labels alone, 95 %", "macro F1", "tracks"),
    *("learnt from, left out", "calibration error"),
)
_PLAIN = ("segment-leaky", "track", "artist", "fault-filtered")

_HEAD = """## On other tracks than their own

`musicgenre evaluate MODEL --data MANIFEST`: tracks that a model learnt from (by name, content and, unless the
row says `kept`, artist) are left out; labels are matched by name. The table of 1,000 tracks was computed by
others, so that models meet features of another hand: 53 of 57 columns agree on the three tracks that were held
against each other. First all labels of the model are allowed, then those that the tracks have; of a tagger the
likeliest of the tags that stand for a label counts. There is no sound of MagnaTagATune here: its vocabulary is
met through the published network that was trained on it. Of the default model nothing is left to score: its
head was fitted on all 100 tracks of gtzan-mini. `gtzan-table-rest.csv` is `gtzan-table.csv` without the 100
tracks of `gtzan-mini.csv`.
"""

_LEAK_HEAD = """## One model, four protocols

`musicgenre leak-report`: how much of a score is a leak. Accuracy of whole tracks with its 95 % interval; under
segment-leaky of single segments, as reports that deal segments count. No data set here gives all four: of the
sound of GTZAN there are 100 tracks, of too few artists to keep them apart, and the table has one row a track.
"""

_SEARCHED_HEAD = """## Before and after a search

`scripts/nested_search.py`: artists are dealt to outer folds; the recipe is trained on the others as it stands, and
searched on them, the trial chosen by cross-validation in which artists stand apart too. Both are scored on the fold
that neither they nor what was chosen ever met. `inner` is what chose the trials, mean over the outer folds: it
flatters. Of the sound of GTZAN only four genres have artists enough for this: `gtzan-mini-4.csv` has the rows of
`gtzan-mini.csv` for country, disco, hip hop and metal (40 tracks, so a difference would have to be large to show).
"""


def add_elsewhere(path: Path, commands: Sequence[str]) -> str:
    """Write the record of a report that `musicgenre evaluate --data` left as JSON; give its name."""
    report = json.loads(path.read_text(encoding="utf-8"))
    if "learnt_from" not in report:
        raise SystemExit(f"{path} is no report of 'musicgenre evaluate --data'")
    left_out = {likeness: len(names) for likeness, names in report["learnt_from"].items()}
    names_tags = "task" in report
    kept = (*_KEPT, *(_KEPT_OF_TAGS if names_tags else _KEPT_OF_LABELS))
    record = {name: report[name] for name in kept}
    record |= {
        "learnt_from": left_out,
        "left_out": report["kinds_left_out" if names_tags else "left_out"],
        "macro_f1": None if names_tags else report["macro"]["f1"],
        "commands": list(commands),
    }
    _write(ELSEWHERE, [*(one for one in _read(ELSEWHERE) if one["commands"] != record["commands"]), record])
    return str(record["name"])


def add_leaks(path: Path, command: str) -> str:
    """Write the record of a `leak-report.json`; give its recipe."""
    report = json.loads(path.read_text(encoding="utf-8"))
    record = {"recipe": report["recipe"], "data": report["data"], "rows": report["rows"], "command": command}
    _write(LEAKS, [*(one for one in _read(LEAKS) if one["command"] != command), record])
    return str(record["recipe"])


def add_searched(path: Path, command: str) -> str:
    """Write the record of a `searched.json`; give its recipe."""
    found = json.loads(path.read_text(encoding="utf-8"))
    kept = {side: {name: found[side][name] for name in ("accuracy", "n_tracks")} for side in ("before", "after")}
    difference = {name: found["difference"][name] for name in ("difference", "low", "high", "p_value", "test")}
    winners = [{name: winner[name] for name in ("values", "best", "n_trials")} for winner in found["winners"]]
    record = {**found, **kept, "difference": difference, "winners": winners, "command": command}
    _write(SEARCHED, [*(one for one in _read(SEARCHED) if one["command"] != command), record])
    return str(record["recipe"])


def sections() -> list[str]:
    """All sections, as far as there are records."""
    parts = []
    if records := _read(ELSEWHERE):
        head = (
            "model",
            "tracks of",
            "all its labels, 95 %",
            "their labels alone, 95 %",
            "macro F1",
            "tracks",
            "left out",
        )
        lines = ["| " + " | ".join((*head, "calibration error")) + " |", "|" + " --- |" * (len(head) + 1)]
        lines += [f"| {' | '.join(_elsewhere_cells(record))} |" for record in records]
        commands = [f"- `{'`, then `'.join(record['commands'])}`" for record in records]
        parts.append("\n".join([_HEAD, *lines, "", *commands, ""]))

    if records := _read(LEAKS):
        lines = ["| recipe | data | segment-leaky | track | artist | fault-filtered |", "|" + " --- |" * 6]
        lines += [f"| {' | '.join(_leak_cells(record))} |" for record in records]
        parts.append("\n".join([_LEAK_HEAD, *lines, "", *(f"- `{record['command']}`" for record in records), ""]))

    if records := _read(SEARCHED):
        head = (
            "recipe",
            "tracks of",
            "outer folds, trials in each",
            "inner",
            "as it stands",
            "searched",
            "difference",
        )
        lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
        lines += [f"| {' | '.join(_searched_cells(record))} |" for record in records]
        parts.append("\n".join([_SEARCHED_HEAD, *lines, "", *(f"- `{record['command']}`" for record in records), ""]))
    return parts


def _elsewhere_cells(record: Mapping[str, Any]) -> list[str]:
    learnt = []
    for likeness, n_tracks in record["learnt_from"].items():
        what = "" if likeness in record["left_out"] else " (kept)"
        learnt.append(f"{likeness} {n_tracks}{what}")
    if record["unmapped"]:
        n_unmapped = sum(record["unmapped"].values())
        without = f"{len(record['unmapped'])} tags" if "task" in record else n_unmapped  # a track has several tags
        learnt.append(f"no label for {without} ({', '.join(record['unmapped'])})")
    marked = "**LEAKY** " if record["leaky"] else ""
    if "task" in record:
        areas = f"ROC-AUC {_interval(record['roc_auc'])}, PR-AUC {_interval(record['pr_auc'])}"
        what = f"{marked}{areas}, mean over {len(record['tags'])} tags"
        return [record["name"], record["data"], what, "", "", str(record["n_tracks"]), "; ".join(learnt), ""]

    error, shared = record["expected_calibration_error"], record["shared_accuracy"]
    accuracy = _interval(record["accuracy"])
    return [
        record["name"],
        record["data"],
        f"{marked}{accuracy}" if marked else f"**{accuracy}**",
        "" if shared is None else _interval(shared),
        f"{record['macro_f1']:.3f}",
        str(record["n_tracks"]),
        "; ".join(learnt),
        "" if error is None else f"{error:.3f}",
    ]


def _leak_cells(record: Mapping[str, Any]) -> list[str]:
    cells = [record["recipe"], record["data"]]
    for row in record["rows"]:
        if row["accuracy"] is None:
            cells.append(f"not to be had: {row['reason']}")
            continue
        found = row["segment_accuracy"] if row["protocol"] == "segment-leaky" else row["accuracy"]
        named = (
            "" if row["protocol"] in ("segment-leaky", "track", "artist", "fault-filtered") else f", {row['protocol']}"
        )
        cells.append(f"**{_interval(found)}** ({row['n_test']} tracks{named})")
    return cells


def _searched_cells(record: Mapping[str, Any]) -> list[str]:
    inner, difference = record["inner"], record["difference"]
    scores = [winner["best"] for winner in record["winners"]]
    found = f"{difference['difference']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"
    return [
        f"`{record['recipe']}`",
        f"{record['data']} ({record['before']['n_tracks']})",
        f"{record['folds']}, {record['winners'][0]['n_trials']} by {inner['folds']} inner folds",
        f"{sum(scores) / len(scores):.3f}",
        f"**{_interval(record['before']['accuracy'])}**",
        f"**{_interval(record['after']['accuracy'])}**",
        f"{found}, {p_in_words(difference['p_value'])} ({difference['test']})",
    ]


def _interval(estimate: Mapping[str, Any]) -> str:
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def _read(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines]


def _write(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    from musicgenre._files import write_text_atomic

    lines = [json.dumps(record, ensure_ascii=False, separators=(",", ":")) for record in records]
    write_text_atomic(path, "\n".join(lines) + "\n")
