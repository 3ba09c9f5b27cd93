"""Attack every kind, or some, and print how the inputs ended; exit code 1 if any ended in a traceback or a crash."""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.attack.base import make_input
from tests.attack.kinds import KINDS, targets_of
from tests.attack.process import MOST_MB, MOST_S, Count, attack_kind

_COLUMNS = ("kind", "inputs", "answers", "our errors", "tracebacks and crashes", "worst memory (MB)", "worst time (s)")


def main() -> None:
    """Read the command line, attack, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all kinds together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", action="append", choices=[*KINDS], help="may be repeated; all by default")
    parser.add_argument("--jobs", type=int, default=2, help="kinds at a time")
    parser.add_argument("--keep", type=Path, help="folder for inputs that end in a fault; a temporary one by default")
    parser.add_argument("--number", type=int, help="make and use this input alone, here, and show what happens")
    chosen = parser.parse_args()
    kinds = chosen.kind or [*KINDS]

    if chosen.number is not None:
        for kind in kinds:
            _repeat(kind, chosen.seed, chosen.number)
        return

    kept = chosen.keep or Path(tempfile.mkdtemp(prefix="attack-"))
    seconds = chosen.minutes * 60 * min(chosen.jobs, len(kinds)) / len(kinds)
    with ThreadPoolExecutor(chosen.jobs) as pool:
        counts = list(pool.map(lambda kind: attack_kind(kind, chosen.seed, seconds, kept), kinds))
    sys.stdout.write(_table(counts, chosen.seed))
    if any(count.faults for count in counts):
        sys.stdout.write(f"\nInputs that ended in a fault lie in {kept}\n")
        sys.exit(1)


def _repeat(kind: str, seed: int, number: int) -> None:
    """Use one input in this process."""
    with tempfile.TemporaryDirectory() as name:
        given = make_input(targets_of(kind, Path(name)), seed, number)
        path = given.write(Path(name) / "input")
        sys.stdout.write(f"{kind} {number} of seed {seed}: {given.target.name}, {given.file}, {given.mutation}\n")
        try:
            given.target.use(path)
        except Exception:  # noqa: BLE001 - it is shown
            traceback.print_exc(file=sys.stdout)
        else:
            sys.stdout.write("answered\n")


def _table(counts: Sequence[Count], seed: int) -> str:
    """The table in Markdown, and what went wrong behind it."""
    lines = [
        f"Seed {seed}; {MOST_MB:,} MB and {MOST_S:g} s for each input.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---" + "|---:" * (len(_COLUMNS) - 1) + "|",
    ]
    for count in counts:
        refused = f"{count.n_refused:,}"
        if count.n_decoder_crashes:
            refused += f" ({count.n_decoder_crashes} of a decoder's crash)"
        cells = [f"{count.n_inputs:,}", f"{count.n_answers:,}", refused, f"{count.faults.total():,}"]
        lines.append(f"| {count.kind} | {' | '.join(cells)} | {_worst(count)} |")
    totals = [
        sum(count.n_inputs for count in counts),
        sum(count.n_answers for count in counts),
        sum(count.n_refused for count in counts),
        sum(count.faults.total() for count in counts),
    ]
    lines.append(f"| all | {' | '.join(f'{n:,}' for n in totals)} | | |")

    for count in counts:
        for where, n_times in count.faults.most_common():
            lines.append(f"\n{count.kind}: {where}, {n_times} times, first {count.examples[where]}")
    return "\n".join(lines) + "\n"


def _worst(count: Count) -> str:
    """The most that one input needed, each with the number of that input."""
    return f"{count.peak_mb:,.0f} (#{count.hungriest}) | {count.wall_s:.1f} (#{count.slowest})"


if __name__ == "__main__":
    main()
