"""Write docs/results.md: one row a system, each from a record that was written from a run folder.

Run: python scripts/results.py                      writes the page from docs/results/
     python scripts/results.py --check              fails where a row has neither a record nor a reason why it is
                                                    not measured, or the page is out of date
     python scripts/results.py add RUN DATA         writes the record of a run folder (DATA: a key of rows.toml)
     python scripts/results.py missing              prints the commands that would make the missing records
     python scripts/results.py make WORK --source FOLDER [--only REGEX] [--extra="--accelerator gpu"]
                                                    runs them in the folder WORK and writes the records
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from musicgenre.evaluation.report import Report

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "results"
PAGE = ROOT / "docs" / "results.md"
RECORD_VERSION = 1
_FOLDS = 5
_TRAINED = (0, 1)  # exit codes of a training that ended; 1: some tracks were skipped

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


@dataclass(frozen=True)
class Row:
    """One line of the page: what is measured, on what, under which protocol, and what was claimed."""

    section: str
    code: str
    system: str
    recipe: str
    data: str
    protocol: str
    claimed: str
    recomputed: str
    note: str
    seeds: int
    folds: int
    settings: tuple[str, ...]
    unmeasured: str
    source: Mapping[str, Any]
    members: tuple[str, ...] = ()
    how: str = "mean"

    @property
    def record_path(self) -> Path:
        """Where its record lies."""
        return FOLDER / record_name(self.recipe, self.data, self.protocol, self.folds)

    @property
    def trained(self) -> str:
        """Name of the recipe to train; a study's variants come from one training."""
        return self.recipe.partition(".")[0]

    @property
    def run_name(self) -> str:
        """Folder of the training, inside the folder for all of them."""
        return record_name(self.trained, self.data, self.protocol, self.folds).removesuffix(".json")

    def run_folder(self, work: Path) -> Path:
        """Folder of this row's run."""
        variant = self.recipe.partition(".")[2]
        return work / self.run_name / variant if variant else work / self.run_name

    @property
    def command(self) -> str:
        """The command that trains it, or lets its members answer together."""
        if self.members:
            names = (record_name(member, self.data, self.protocol, self.folds) for member in self.members)
            runs = [name.removesuffix(".json") for name in names]
            return shlex.join(["musicgenre", "ensemble", *runs, "--how", self.how, "--name", self.recipe])
        folds = self.protocol.endswith("kfold")
        words = ["musicgenre", "train", self.trained, "--data", self.source["manifest"]]
        words += ["--folds", str(self.folds)] if folds else []
        words += ["--seeds", str(min(self.seeds, 3) if folds else self.seeds)] if self.seeds > 1 else []
        settings = [*self.source["settings"], *self.settings]
        if self.protocol not in ("kfold", "track", "segment-leaky"):  # those are in the recipes, or are --folds
            settings.append(f"protocol.name={self.protocol.removesuffix('-kfold')}")
        for setting in settings:
            words += ["--set", setting]
        return shlex.join(words)


def record_name(recipe: str, data: str, protocol: str, folds: int) -> str:
    """Name of a record; the number of folds is in it where it is not the usual one."""
    unusual = f"-{folds}" if protocol == "kfold" and folds != _FOLDS else ""
    return f"{recipe}--{data}--{protocol}{unusual}.json"


def read_rows(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """Read rows.toml; give its head and one row for every protocol of every entry."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    rows = [
        Row(
            section=entry["section"],
            code=entry["code"],
            system=entry["system"],
            recipe=entry["recipe"],
            data=entry["data"],
            protocol=protocol,
            claimed=entry.get("claimed", ""),
            recomputed=entry.get("recomputed", ""),
            note=entry.get("note", ""),
            seeds=entry.get("seeds", content["data"][entry["data"]]["seeds"]),
            folds=entry.get("folds", content["data"][entry["data"]].get("folds", _FOLDS)),
            settings=tuple(entry.get("settings", ())),
            unmeasured=entry.get("unmeasured", ""),
            source=content["data"][entry["data"]],
            members=tuple(entry.get("members", ())),
            how=entry.get("how", "mean"),
        )
        for entry in content["row"]
        for protocol in entry["protocols"]
    ]
    return content, rows


def record_of(run: Path, data: str, command: str | None = None) -> dict[str, Any]:
    """Everything the page needs of a run, from its folder alone."""
    from musicgenre.evaluation.run_reports import report_on
    from musicgenre.evaluation.runs import open_runs
    from musicgenre.evaluation.tags.report import TagReport

    report = report_on(run)
    first = open_runs(run)[0]
    kept = ("recipe", "systems", "protocol", "leaky", "how", "n_tracks", "n_segments", "n_folds", "parameter_count")
    plain = report.as_dict()
    return {
        "format_version": RECORD_VERSION,
        "data": data,
        **{name: plain[name] for name in kept},
        **(_tag_figures(plain) if isinstance(report, TagReport) else _label_figures(report, plain)),
        "command": command or str(first.info.get("command", "")),
        "date": str(first.info.get("finished") or "")[:10],
        "versions": first.info.get("versions", {}),
    }


def _label_figures(report: Report, plain: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "labels": list(report.labels),
        "seeds": [entry.seed for entry in report.seeds],
        "accuracy": plain["accuracy"],
        "accuracy_sd": report.accuracy_sd,
        "segment_accuracy": plain["segment_accuracy"],
        "macro_f1": report.macro.f1,
        "majority_share": report.majority_share,
        "confusion": plain["confusion"],
    }


def _tag_figures(plain: Mapping[str, Any]) -> dict[str, Any]:
    names = ("tags", "seeds", "roc_auc", "roc_auc_sd", "pr_auc", "pr_auc_sd", "chance_pr_auc", "left_out")
    return {"task": "multi_label", **{name: plain[name] for name in (*names, "decisions", "agreement", "scores")}}


def read_records(rows: Sequence[Row]) -> tuple[dict[Path, dict[str, Any]], list[str]]:
    """Read the record of every row; the second value lists what is missing or does not fit."""
    records, problems = {}, []
    for row in rows:
        name = row.record_path.name
        if not row.record_path.is_file():
            if row.unmeasured:
                continue
            problems.append(f"row {row.code} ({row.system}, {row.protocol}) has no record {name}")
            continue
        record = json.loads(row.record_path.read_text(encoding="utf-8"))
        for key in ("recipe", "data", "protocol"):
            if record[key] != getattr(row, key):
                problems.append(f"{name} says {key} {record[key]!r}, its row {getattr(row, key)!r}")
        if row.protocol == "kfold" and record["n_folds"] != row.folds:
            problems.append(f"{name} is of {record['n_folds']} folds, its row of {row.folds}")
        if row.code not in record["systems"]:
            problems.append(f"{name} is of {', '.join(record['systems'])}, its row of {row.code}")
        records[row.record_path] = record
    known = {row.record_path for row in rows}
    problems += [
        f"{row.record_path.name} is there, but rows.toml calls its row unmeasured"
        for row in rows
        if row.unmeasured and row.record_path in records
    ]
    problems += [f"{path.name} belongs to no row" for path in sorted(FOLDER.glob("*.json")) if path not in known]
    return records, problems


def render(content: Mapping[str, Any], rows: Sequence[Row], records: Mapping[Path, Mapping[str, Any]]) -> str:
    """Write the page."""
    parts = [HEAD]
    front = FOLDER / "front.md"
    if front.is_file():
        parts.append(front.read_text(encoding="utf-8").strip() + "\n")
    for key, section in content["section"].items():
        own = [row for row in rows if row.section == key]
        titles = [content["data"][name]["title"] for name in dict.fromkeys(row.data for row in own)]
        parts.append(f"## {section['title']}\n\n{section['text']}\n\nData: {'; '.join(titles)}.\n")
        parts.append(_table(own, records, tags=section.get("task") == "multi_label"))
    parts.append("## Commands\n\n" + _commands(rows, records))
    return "\n".join(parts)


def _table(rows: Sequence[Row], records: Mapping[Path, Mapping[str, Any]], *, tags: bool) -> str:
    """One section's table; the column of recomputed claims appears where there are any."""
    lines = [_cells(row, records.get(row.record_path), tags=tags) for row in rows]
    shown = [
        name
        for name in (_TAG_COLUMNS if tags else _COLUMNS)
        if name != _RECOMPUTED or any(row.recomputed for row in rows)
    ]
    head = ["| " + " | ".join(shown) + " |", "|" + " --- |" * len(shown)]
    return "\n".join([*head, *("| " + " | ".join(line[name] for name in shown) + " |" for line in lines)]) + "\n"


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
    "protocol",
    "tracks",
    "tags",
)


def _cells(row: Row, record: Mapping[str, Any] | None, *, tags: bool) -> dict[str, str]:
    claimed = " ".join(part for part in (row.claimed or "none", f"({row.note})" if row.note else "") if part)
    cells = [row.code, row.system, claimed, row.recomputed]
    columns = _TAG_COLUMNS if tags else _COLUMNS
    if record is None:
        cells.append(f"not measured: {row.unmeasured}" if row.unmeasured else "no record")
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
        f"**{_interval(record['accuracy'])}**",
        seeds,
        _interval(record["segment_accuracy"]) if several else "",
        f"{record['macro_f1']:.3f}",
        _protocol(record),
        str(record["n_tracks"]),
    ]


def _tags_measured(record: Mapping[str, Any]) -> list[str]:
    agreement, decisions = record["agreement"], record["decisions"]
    near = ["", ""]
    if agreement is not None:
        error = f"{_interval(agreement['mean_absolute_error'])} ({agreement['baseline_error']:.3f})"
        near = [f"**{_interval(agreement['pearson'])}**", error]
    roc = _interval(record["roc_auc"])
    spread = "" if record["roc_auc_sd"] is None else f" ± {record['roc_auc_sd']:.3f} in ROC-AUC"
    return [
        *near,
        roc if agreement else f"**{roc}**",
        f"{_interval(record['pr_auc'])} ({record['chance_pr_auc']:.3f})",
        f"{decisions['accuracy']:.4f} ({decisions['zeros_accuracy']:.4f})",
        f"{len(record['seeds'])}{spread}",
        _protocol(record),
        str(record["n_tracks"]),
        f"{len(record['tags']) - len(record['left_out'])} of {len(record['tags'])}",
    ]


def _protocol(record: Mapping[str, Any]) -> str:
    name = f"**LEAKY** {record['protocol']}" if record["leaky"] else str(record["protocol"])
    return name + (f", {record['n_folds']} folds" if record["n_folds"] > 1 else "")


def _interval(estimate: Mapping[str, Any]) -> str:
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def _commands(rows: Sequence[Row], records: Mapping[Path, Mapping[str, Any]]) -> str:
    lines = ["The run behind each row, with the day it ended:", ""]
    for row in rows:
        record = records.get(row.record_path)
        if record is not None:
            lines.append(f"- {row.code}, {row.system}, {row.protocol}: `{record['command']}` ({record['date']})")
    return "\n".join(lines) + "\n"


def _add(run: Path, data: str, command: str | None, rows: Sequence[Row]) -> int:
    from musicgenre._files import write_text_atomic

    record = record_of(run, data, command)
    path = FOLDER / record_name(record["recipe"], data, record["protocol"], record["n_folds"])
    if path not in {row.record_path for row in rows}:
        print(f"no row of rows.toml has the record {path.name}", file=sys.stderr)
        return 1
    write_text_atomic(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(f"wrote {path.relative_to(ROOT)}: {_interval(record['roc_auc' if 'task' in record else 'accuracy'])}")
    return 0


def _make(work: Path, source: Path, only: str, extra: Sequence[str], rows: Sequence[Row]) -> int:
    """Train every row that has no record, resuming what was begun, and write the records."""
    work.mkdir(parents=True, exist_ok=True)
    failed = []
    for row in rows:
        if row.record_path.is_file() or not re.search(only, row.record_path.stem):
            continue
        needed = [other for other in rows if other.run_name in row.command.split()]  # the members of an ensemble
        if not all(_run(one, work, source, extra) for one in (*needed, row)):
            failed.append(row.run_name)
        elif _add(row.run_folder(work), row.data, row.command, rows):
            failed.append(row.record_path.name)
    for name in dict.fromkeys(failed):
        print(f"failed: {name}", file=sys.stderr)
    return 1 if failed else 0


def _run(row: Row, work: Path, source: Path, extra: Sequence[str]) -> bool:
    """Run the command of a row, going on with what was begun; whether it ended well."""
    if not (work / row.source["manifest"]).is_file():
        index = row.source["index"].format(source=source.resolve(), root=ROOT)
        subprocess.run([*shlex.split(index), "--output", row.source["manifest"]], cwd=work, check=True)
        for command in row.source.get("then", ()):
            words = shlex.split(command.format(source=source.resolve()))
            subprocess.run(words, cwd=work, check=True)
    begun = ["--resume"] if (work / row.run_name).exists() else []
    if row.members and begun:
        return True
    further = [] if row.members else [*begun, *extra]
    words = [*shlex.split(row.command), "--output", row.run_name, *further]
    print(f"== {shlex.join(words)}", flush=True)
    return subprocess.run(words, cwd=work, check=False).returncode in _TRAINED


def _check(text: str, problems: Sequence[str]) -> int:
    found = list(problems)
    if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        found.append(f"{PAGE.name} is out of date: run python scripts/results.py")
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail for a missing record or a page out of date")
    actions = parser.add_subparsers(dest="action")
    add = actions.add_parser("add", help="write the record of a run folder")
    add.add_argument("run", type=Path)
    add.add_argument("data")
    add.add_argument("--command", dest="words", help="the command that made the run, where run.json does not say")
    actions.add_parser("missing", help="print the commands of rows without a record")
    make = actions.add_parser("make", help="train the rows without a record and write their records")
    make.add_argument("work", type=Path, help="folder for manifests and runs")
    make.add_argument("--source", type=Path, required=True, help="folder with the research data")
    make.add_argument("--only", default="", help="regular expression on RECIPE--DATA--PROTOCOL")
    make.add_argument("--extra", default="", help="further arguments of 'musicgenre train', in one text")
    chosen = parser.parse_args(arguments)
    content, rows = read_rows(FOLDER / "rows.toml")
    if chosen.action == "add":
        return _add(chosen.run, chosen.data, chosen.words, rows)
    if chosen.action == "missing":
        print("\n".join(dict.fromkeys(row.command for row in rows if not row.record_path.is_file())))
        return 0
    if chosen.action == "make":
        return _make(chosen.work, chosen.source, chosen.only, shlex.split(chosen.extra), rows)
    records, problems = read_records(rows)
    text = render(content, rows, records)
    if chosen.check:
        return _check(text, problems)
    from musicgenre._files import write_text_atomic

    write_text_atomic(PAGE, text)
    print(f"wrote {PAGE.relative_to(ROOT)}: {len(records)} of {len(rows)} rows have a record")
    return 0


if __name__ == "__main__":
    sys.exit(main())
