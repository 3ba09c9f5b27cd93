"""Write docs/results.md: one row a system, each from a record that was written from a run folder.

Run: python scripts/results.py                      writes the page from docs/results/
     python scripts/results.py --check              fails where a row has neither a record nor a reason why it is
                                                    not measured, or the page is out of date
     python scripts/results.py add RUN DATA         writes the record of a run folder (DATA: a key of rows.toml)
     python scripts/results.py elsewhere REPORT COMMAND ...
                                                    writes the record of a report of 'musicgenre evaluate --data'
     python scripts/results.py leaks REPORT COMMAND writes the record of a leak-report.json
     python scripts/results.py paired WORK          holds rows that findings name against each other track by track,
                                                    where their runs lie in the folder WORK of 'make'
     python scripts/results.py missing              prints the commands that would make the missing records
     python scripts/results.py make WORK --source FOLDER [--only REGEX] [--jobs N] [--extra="--accelerator gpu"]
                                                    runs them and those that are open in the folder WORK, one thread
                                                    each, and writes the records; can be interrupted and goes on
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from _results_findings import add_paired
from _results_judged import add_elsewhere, add_leaks, add_searched
from _results_page import interval, render
from _results_rows import (
    FOLDER,
    ROOT,
    Row,
    name_of,
    read_records,
    read_rows,
    record_of,
    records_at_hand,
    write_records,
)

PAGE = ROOT / "docs" / "results.md"
_TRAINED = (0, 1)  # exit codes of a training that ended; 1: some tracks were skipped


def _add(run: Path, data: str, command: str | None, rows: Sequence[Row]) -> int:
    record = record_of(run, data, command)
    name = name_of(record)
    if name not in {row.record_name for row in rows}:
        print(f"no row of rows.toml has the record {name}", file=sys.stderr)
        return 1
    write_records({**records_at_hand(), name: record})
    print(f"wrote the record {name}: {interval(record['roc_auc' if 'task' in record else 'accuracy'])}")
    return 0


def _make(work: Path, source: Path, only: str, extra: Sequence[str], rows: Sequence[Row], jobs: int) -> int:
    """Train every row that has no record or is open, what has most value first, and write the records.

    Trainings run beside each other, each with one thread; what was begun is gone on with.
    """
    work.mkdir(parents=True, exist_ok=True)
    measured = records_at_hand()
    wanted = []
    for row in rows:
        is_done = row.elsewhere or (row.record_name in measured and not row.still_open)
        if not is_done and any(re.search(only, name) for name in _names(row)):
            wanted.append(row)
    wanted.sort(key=lambda row: -row.value)
    for row in wanted:
        _write_manifest(row, work, source)

    # a study's variants are one training, and the members of an ensemble come before it
    trainings: dict[str, Row] = {}
    for row in wanted:
        for needed in (*(other for other in rows if other.run_name in row.command.split()), row):
            trainings.setdefault(needed.run_name, needed)
    alone = {name: row for name, row in trainings.items() if not row.members}
    with ThreadPoolExecutor(jobs) as pool:
        ended = dict(zip(alone, pool.map(lambda row: _run(row, work, extra), alone.values()), strict=True))
    for row in trainings.values():
        if row.members:
            ended[row.run_name] = _run(row, work, extra)

    failed = [row.run_name for row in wanted if not ended[row.run_name]]
    for row in wanted:
        if ended[row.run_name] and _add(row.run_folder(work), row.data, row.command, rows):
            failed.append(row.record_name)
    for name in dict.fromkeys(failed):
        print(f"failed: {name}", file=sys.stderr)
    return 1 if failed else 0


def _names(row: Row) -> list[str]:
    """The name of a row's record, and those that it had while its recipe had another name."""
    from musicgenre.training.recipe_names import former_names

    formerly = [old for old, name in former_names().items() if name == row.trained]
    return [row.record_name, *(old + row.record_name.removeprefix(row.trained) for old in formerly)]


def _write_manifest(row: Row, work: Path, source: Path) -> None:
    if (work / row.source["manifest"]).is_file():
        return
    index = row.source["index"].format(source=source.resolve(), root=ROOT)
    subprocess.run([*shlex.split(index), "--output", row.source["manifest"]], cwd=work, check=True)
    for command in row.source.get("then", ()):
        subprocess.run(shlex.split(command.format(source=source.resolve())), cwd=work, check=True)


def _run(row: Row, work: Path, extra: Sequence[str]) -> bool:
    """Run the command of a row, going on with what was begun; whether it ended well."""
    begun = ["--resume"] if (work / row.run_name).exists() else []
    if row.members and begun:
        return True
    further = [] if row.members else [*begun, *extra]
    words = [*shlex.split(row.command), "--output", row.run_name, *further]
    print(f"== {shlex.join(words)}", flush=True)
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=work, check=False, env=one_thread).returncode in _TRAINED


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
    elsewhere = actions.add_parser("elsewhere", help="write the record of a report on other tracks")
    elsewhere.add_argument("report", type=Path, help="what 'musicgenre evaluate --data' wrote as JSON")
    elsewhere.add_argument("words", nargs="+", help="the commands that made model and report")
    leaks = actions.add_parser("leaks", help="write the record of a leak report")
    leaks.add_argument("report", type=Path, help="leak-report.json")
    leaks.add_argument("words", help="the command that made it")
    searched = actions.add_parser("searched", help="write the record of a search in folds of artists")
    searched.add_argument("report", type=Path, help="searched.json, which scripts/nested_search.py wrote")
    searched.add_argument("words", help="the command that made it")
    paired = actions.add_parser("paired", help="compare the runs that findings name, track by track")
    paired.add_argument("work", type=Path, help="the folder that 'make' trained in")
    actions.add_parser("missing", help="print the commands of rows without a record")
    make = actions.add_parser("make", help="train the rows without a record and write their records")
    make.add_argument("work", type=Path, help="folder for manifests and runs")
    make.add_argument("--source", type=Path, required=True, help="folder with the research data")
    make.add_argument("--only", default="", help="regular expression on RECIPE--DATA--PROTOCOL, new names or old")
    make.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trainings beside each other")
    make.add_argument("--extra", default="", help="further arguments of 'musicgenre train', in one text")
    chosen = parser.parse_args(arguments)
    content, rows = read_rows(FOLDER / "rows.toml")
    if chosen.action == "add":
        return _add(chosen.run, chosen.data, chosen.words, rows)
    if chosen.action == "elsewhere":
        print(f"wrote the record of {add_elsewhere(chosen.report, chosen.words)}")
        return 0
    if chosen.action == "leaks":
        print(f"wrote the record of {add_leaks(chosen.report, chosen.words)}")
        return 0
    if chosen.action == "searched":
        print(f"wrote the record of {add_searched(chosen.report, chosen.words)}")
        return 0
    if chosen.action == "paired":
        compared = add_paired(content.get("finding", ()), rows, records_at_hand(), chosen.work)
        print("\n".join(compared))
        return 0
    if chosen.action == "missing":
        measured = records_at_hand()
        wanted = []
        for row in sorted(rows, key=lambda row: -row.value):
            if not row.elsewhere and (row.still_open or row.record_name not in measured):
                wanted.append(row.command)
        print("\n".join(dict.fromkeys(wanted)))
        return 0
    if chosen.action == "make":
        return _make(chosen.work, chosen.source, chosen.only, shlex.split(chosen.extra), rows, chosen.jobs)
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
