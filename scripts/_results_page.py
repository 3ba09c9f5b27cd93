"""The text of docs/results.md, made of rows and their records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from _results_findings import section as findings_section
from _results_judged import sections as judged_sections
from _results_reject import section as reject_section
from _results_rows import FOLDER, Row

HEAD = """# Results

What each published system claimed, and what we measured. `scripts/results.py` writes this page: every row comes from a
record in `docs/results/`, which was written from a run folder; a row without a record fails the check unless it says
why it was not measured.

How to read it:

- **Measured** is accuracy of whole tracks, segments of a track scored together, with its 95 % interval: Wilson's where
  every track was answered once (folds pooled), else a bootstrap over tracks; the unit is the track, never the segment.
- **Seeds** is the mean over seeds and the standard deviation between them.
- **Segments** is the accuracy of single segments, where there are several a track; it is not the headline.
- A **LEAKY** row repeats a published mistake on purpose. It says nothing about new tracks.
- **Agreement** is how near a model comes to another model's answers; it is never accuracy.
- Claimed and measured numbers differ in data and protocol; where that is so, the difference says little. Intervals
  on 80 or 100 tracks are wide: two rows whose intervals overlap may well be equal. `musicgenre compare` tests pairs.
"""


def render(content: Mapping[str, Any], rows: Sequence[Row], records: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the page."""
    parts = [HEAD]
    # what scripts of their own write; the list of every piece is long and comes last of them
    for name in ("front.md", "", "essentia.md", "speed.md", "wide.md"):
        if not name:
            parts.append(reject_section())
        elif (FOLDER / name).is_file():
            parts.append((FOLDER / name).read_text(encoding="utf-8").strip() + "\n")
    for key, section in content["section"].items():
        own = [row for row in rows if row.section == key]
        titles = [content["data"][name]["title"] for name in dict.fromkeys(row.data for row in own)]
        parts.append(f"## {section['title']}\n\n{section['text']}\n\nData: {'; '.join(titles)}.\n")
        parts.append(_table(own, records, tags=section.get("task") == "multi_label"))
    parts += judged_sections()
    is_open = {row.record_name for row in rows if row.still_open}
    parts.append(findings_section(content.get("finding", ()), records, is_open))
    parts.append(_still_open(rows, records))
    parts.append("## Commands\n\n" + _commands(rows, records))
    return "\n".join(parts)


def _table(rows: Sequence[Row], records: Mapping[str, Mapping[str, Any]], *, tags: bool) -> str:
    """One section's table, and under it why rows have no figures; recomputed claims appear where there are any."""
    without = [row.unmeasured for row in rows if row.unmeasured and row.record_name not in records]
    reasons = tuple(dict.fromkeys(without))
    lines = [_cells(row, records.get(row.record_name), reasons, tags=tags) for row in rows]
    shown = [
        name
        for name in (_TAG_COLUMNS if tags else _COLUMNS)
        if name != _RECOMPUTED or any(row.recomputed for row in rows)
    ]
    head = ["| " + " | ".join(shown) + " |", "|" + " --- |" * len(shown)]
    body = ["| " + " | ".join(line[name] for name in shown) + " |" for line in lines]
    notes = [f"({number}) Not measured: {reason}." for number, reason in enumerate(reasons, start=1)]
    return "\n\n".join(["\n".join([*head, *body]), *notes]) + "\n"


_RECOMPUTED = "from its tables"
_COLUMNS = (
    "row",
    "system",
    "claimed",
    _RECOMPUTED,
    "measured, 95 % interval",
    "seeds",
    "segments",
    "macro F1",
    "training",
    "protocol",
    "tracks",
)


_TAG_COLUMNS = (
    *_COLUMNS[:4],
    "agreement: Pearson, 95 % interval",
    "mean absolute error (always each tag's mean)",
    "mean ROC-AUC, 95 % interval",
    "mean PR-AUC, 95 % interval (a random order)",
    "right, or agreeing, decisions (never naming a tag)",
    "seeds",
    "training",
    "protocol",
    "tracks",
    "tags",
)


def _cells(row: Row, record: Mapping[str, Any] | None, reasons: Sequence[str], *, tags: bool) -> dict[str, str]:
    claimed = " ".join(part for part in (row.claimed or "none", f"({row.note})" if row.note else "") if part)
    cells = [row.code, row.system, claimed, row.recomputed]
    columns = _TAG_COLUMNS if tags else _COLUMNS
    if record is None:
        cells.append(f"not measured ({1 + reasons.index(row.unmeasured)})" if row.unmeasured else "no record")
        cells += [row.protocol if name == "protocol" else "" for name in columns[len(cells) :]]
    else:
        cells += _tags_measured(record) if tags else _measured(record)
    return dict(zip(columns, cells, strict=True))


def _measured(record: Mapping[str, Any]) -> list[str]:
    seeds = str(len(record["seeds"]))
    if record["accuracy_sd"] is not None:
        seeds = f"{record['accuracy']['value']:.3f} ± {record['accuracy_sd']:.3f} ({seeds})"
    several = record["n_segments"] > record["n_tracks"]
    return [
        f"**{interval(record['accuracy'])}**",
        seeds,
        interval(record["segment_accuracy"]) if several else "",
        f"{record['macro_f1']:.3f}",
        _training(record),
        _protocol(record),
        str(record["n_tracks"]),
    ]


def _tags_measured(record: Mapping[str, Any]) -> list[str]:
    agreement, decisions = record["agreement"], record["decisions"]
    near = ["", ""]
    if agreement is not None:
        error = f"{interval(agreement['mean_absolute_error'])} ({agreement['baseline_error']:.3f})"
        near = [f"**{interval(agreement['pearson'])}**", error]
    roc = interval(record["roc_auc"])
    spread = "" if record["roc_auc_sd"] is None else f" ± {record['roc_auc_sd']:.3f} in ROC-AUC"
    return [
        *near,
        roc if agreement else f"**{roc}**",
        f"{interval(record['pr_auc'])} ({record['chance_pr_auc']:.3f})",
        f"{decisions['accuracy']:.4f} ({decisions['zeros_accuracy']:.4f})",
        f"{len(record['seeds'])}{spread}",
        _training(record),
        _protocol(record),
        str(record["n_tracks"]),
        f"{len(record['tags']) - len(record['left_out'])} of {len(record['tags'])}",
    ]


def _training(record: Mapping[str, Any]) -> str:
    """Epochs that were trained and kept, and why training ended; empty where nothing is trained in epochs."""
    training = record.get("training")
    if not training:
        return "" if "training" in record else "not recorded"
    epochs, best = training["epochs"], training["best_epochs"]
    ended = f"all {training['limit']} epochs"
    if min(epochs) < training["limit"]:
        ended = f"{_span(epochs)} of {training['limit']} epochs (patience {training['patience']})"
    threads = f", threads {training['threads']}" if training["threads"] else ""
    return f"{ended}, kept {_span(best)} by {training['monitor'].replace('_', ' ')}{threads}"


def _span(numbers: Sequence[int]) -> str:
    return str(min(numbers)) if min(numbers) == max(numbers) else f"{min(numbers)} to {max(numbers)}"


def _still_open(rows: Sequence[Row], records: Mapping[str, Mapping[str, Any]]) -> str:
    """What is not measured yet, and what is to be measured again, by reason."""
    reasons: dict[str, list[Row]] = {}
    for row in rows:
        reason = row.still_open or ("" if row.record_name in records or row.elsewhere else row.unmeasured)
        if reason:
            reasons.setdefault(reason, []).append(row)
    lines = [
        "## Still open",
        "",
        "`python scripts/results.py make` trains these, what has most value first. Hours are of one core, about: the "
        "measured time of an epoch by all epochs, folds and seeds.",
        "",
    ]
    for reason, own in reasons.items():
        listed = []
        for row in own:
            hours = f" ({row.hours:g} h)" if row.hours else ""
            listed.append(f"{row.code} {row.recipe}, {row.protocol}{hours}")
        lines.append(f"- {reason[:1].upper()}{reason[1:]}: {'; '.join(dict.fromkeys(listed))}.")
    return "\n".join(lines) + "\n"


def _protocol(record: Mapping[str, Any]) -> str:
    name = f"**LEAKY** {record['protocol']}" if record["leaky"] else str(record["protocol"])
    return name + (f", {record['n_folds']} folds" if record["n_folds"] > 1 else "")


def interval(estimate: Mapping[str, Any]) -> str:
    """Write an estimate with its interval."""
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def _commands(rows: Sequence[Row], records: Mapping[str, Mapping[str, Any]]) -> str:
    measured = [(row, records[row.record_name]) for row in rows if row.record_name in records]
    lines = [
        "How the manifests came about; `DATA` is a folder that you fill with the data sets:",
        "",
        "- `gtzan-mini/genres`: `musicgenre data get gtzan-mini`, or those 100 tracks of a copy of GTZAN",
        "- `gtzan-tables/features_30_sec.csv`: the table of Kaggle's data set "
        "andradaolteanu/gtzan-dataset-music-genre-classification",
        "- `gtzan-tables/artists.csv`: `track_id,artist_group`, from Sturm's index of 2012 and GTZAN-Bind. Where you "
        "have none leave `--artists` out: the splits of `track` and `kfold` are the same, those of `artist` need it",
        "- `gtzan-spectrogram-png`: a folder of pictures per genre; `gtzan-musicnn-tags`: what "
        "jordipons/sklearn-audio-transfer-learning publishes",
        "",
        "The manifests:",
        "",
    ]
    lines += dict.fromkeys(f"- `{row.source['manifest']}`: {_made(row.source)}" for row, _ in measured)
    lines += [
        "",
        "The run behind each row, with its test tracks and the day it ended. Where a key is set twice, the last value "
        "counts; an ensemble names the run folders of its members, `RECIPE--MANIFEST--PROTOCOL`. The figures come out "
        "again to the last digit with the versions of `constraints.txt`, on a machine of the same kind, with the "
        "threads that the row's training names (`--threads 1`). Networks whose training is not recorded were trained "
        "with a number of threads that nobody noted and may come out otherwise, within their intervals:",
        "",
    ]
    for row, record in measured:
        facts = f"{record['n_tracks']:,} tracks, {record['date']}"
        lines.append(f"- {row.code}, {row.system}, {row.protocol}: `{record['command']}` ({facts})")
    return "\n".join(lines) + "\n"


def _made(source: Mapping[str, Any]) -> str:
    """The commands that make a manifest, or where it comes from."""
    if "origin" in source:
        return str(source["origin"])
    index = source["index"] + ("" if "--output" in source["index"] else f" --output {source['manifest']}")
    commands = [command.format(source="DATA", root=".") for command in (index, *source.get("then", ()))]
    return ", then ".join(f"`{command.replace('./scripts', 'scripts')}`" for command in commands)
