"""Make the tables of docs/scale.md from docs/scale.json, which `benchmarks/scale.py` wrote; check or write the page.

Run: python scripts/scale_tables.py [--write]

Besides what was measured it computes what more tracks would need, at the prices that stand in PRICES, and simulates
slow and lost nodes, seeded, with the measured times of tracks. Without `--write` it says whether the page holds just
these tables, and exits with 1 if not.
"""

from __future__ import annotations

import argparse
import bisect
import heapq
import json
import random
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1] / "docs"
SIZES = (1_000_000, 100_000_000, 10_000_000_000)  # tracks
STAGES = ("read", "decode", "front_end", "network", "identify", "write")
KINDS = {"wav": "WAV, 30 s", "mp3": "MP3, 90 to 420 s", "flac": "FLAC, 90 to 420 s"}
WAYS = {
    "jobs-1": "`--jobs 1`",
    "jobs-2": "`--jobs 2`",
    "ray-1": "`--ray --jobs 1`",
    "ray-2": "`--ray --jobs 2`",
    "ray-4": "`--ray --jobs 4`, two a core",
}

# Named, not offered: see the page for where they come from.
PRICES = {"core_h": 0.0425, "spot_core_h": 0.0225, "get_1000": 0.0004, "put_1000": 0.005, "gb_month": 0.023}
GETS_A_PREFIX_S = 5_500
NAMES_A_LISTING = 1_000
ROWS_A_PARTITION = 1_000
TRACKS_A_TASK = 4
GOAL = 0.9
MOST_LOAD_A_CORE = 2.0  # above it the clock measures what else runs

# The simulated cluster.
N_NODES, CORES_A_NODE = 4, 4
N_TRACKS = 200_000
SLOW_FACTOR = 3.0
RESTART_S = 120.0
MOST_LOSSES = 1_000  # of a node
SEED = 17


def stages(measured: dict[str, Any]) -> list[str]:
    """Milliseconds of a core that one track takes, by stage."""
    rows = []
    for kind, words in KINDS.items():
        of_kind = measured["stages"][kind]
        cells = [f"{of_kind[stage] * 1e3:.2f}" for stage in STAGES]
        rows.append([words, f"{of_kind['bytes'] / 1e6:.1f}", *cells, f"{cost_s(of_kind) * 1e3:.1f}"])
    names = [stage.replace("_", " ") for stage in STAGES]
    return table(["track", "MB", *names, "all, ms"], rows)


def speed(measured: dict[str, Any]) -> list[str]:
    """What every way costs a track, and by the clock where the machine was free enough to tell."""
    cores = measured["stages"]["cores"]
    base = measured["speed"]["jobs-2"]
    rows = []
    for way, words in WAYS.items():
        if way not in measured["speed"]:
            continue
        of_way = measured["speed"][way]
        loads = [run["load"] for run in of_way["rounds"]]
        is_free = max(loads) <= MOST_LOAD_A_CORE * cores
        rows.append(
            [
                words,
                f"{of_way['tracks'] * len(of_way['rounds']):,.0f} in {len(of_way['rounds'])}",
                f"{of_way['processor_s_per_track'] * 1e3:.0f}",
                f"{base['processor_s_per_track'] / of_way['processor_s_per_track']:.2f}",
                f"{of_way['start_processor_s']:.1f}",
                f"{of_way['tracks_per_s']:.1f}" if is_free else "not told",
                f"{of_way['start_s']:.1f}" if is_free else "not told",
                f"{min(loads):.0f} to {max(loads):.0f}",
            ]
        )
    head = ["", "tracks, in runs", "core ms a track", "`--jobs 2` / this", "core s to start"]
    lines = table([*head, "tracks a second", "s to start", "load"], rows)

    reached = base["processor_s_per_track"] / measured["speed"]["ray-2"]["processor_s_per_track"]
    verdict = "reached" if reached >= GOAL else "missed"
    told = f"The goal, {GOAL} of `--jobs 2` at two actors, is {verdict} by processor time: {reached:.2f}."
    return [*lines, "", f"{told} Of each track Ray takes {overhead_s(measured) * 1e3:.0f} ms of a core."]


def memory(measured: dict[str, Any]) -> list[str]:
    """Most memory with a tenth of the tracks and with all."""
    rows = []
    for way, words in WAYS.items():
        if way not in measured["speed"]:
            continue
        of_way = measured["speed"][way]
        for count, prefix in ((of_way["few"], "few_"), (of_way["tracks"], "")):
            driver_mb, others_mb = of_way[f"{prefix}driver_mb"], of_way[f"{prefix}others_mb"]
            rows.append([words, f"{count:,.0f}", f"{driver_mb:.0f}", f"{others_mb:.0f}"])
    return table(["", "tracks", "command, MB", "all that it started, MB"], rows)


def sizes(measured: dict[str, Any]) -> list[str]:
    """What more tracks would need: MP3 files as measured, in an object store."""
    track = measured["stages"]["mp3"]
    each_s = cost_s(track) + overhead_s(measured)
    rows = []
    for n_tracks in SIZES:
        core_h = n_tracks * each_s / 3600
        n_gets = n_tracks
        n_puts = n_tracks / ROWS_A_PARTITION + n_tracks / NAMES_A_LISTING  # a listing costs as much as a write
        stored_gb = n_tracks * measured["speed"]["ray-2"]["bytes_per_track"] / 1e9
        rows.append(
            [
                f"{n_tracks:,}",
                f"{core_h:,.0f}",
                *(hours_of(core_h / cores) for cores in (16, 256, 4096)),
                f"{n_tracks * track['bytes'] / 1e12:,.1f}",
                money(core_h * PRICES["core_h"]),
                money(core_h * PRICES["spot_core_h"]),
                money(n_gets / 1000 * PRICES["get_1000"] + n_puts / 1000 * PRICES["put_1000"]),
                money(stored_gb * PRICES["gb_month"]),
                f"{n_tracks / ROWS_A_PARTITION:,.0f}",
            ]
        )
    head = ["tracks", "core hours", "on 16 cores", "256", "4,096", "TB read", "cores, $", "pre-emptible, $"]
    return table([*head, "requests, $", "results a month, $", "partitions"], rows)


def limits(measured: dict[str, Any]) -> list[str]:
    """Where the bottleneck moves."""
    track = measured["stages"]["mp3"]
    each_s = cost_s(track) + overhead_s(measured)
    cores_a_prefix = GETS_A_PREFIX_S * each_s
    names_bytes = measured["names_bytes"]
    rows = [
        ["one core", f"{1 / each_s:.1f} tracks a second; decoding is {share(track, 'decode')} of it, "
         f"the network with its front end {share(track, 'front_end', 'network')}"],
        ["network of a node with 16 cores", f"{16 / each_s * track['bytes'] * 8 / 1e9:.1f} Gbit/s"],
        [f"{GETS_A_PREFIX_S:,} GET a second of one prefix", f"reached by {cores_a_prefix:,.0f} cores"],
        ["names in the command's memory", ", ".join(f"{n * names_bytes / 1e9:,.1f} GB for {n:,}" for n in SIZES)],
        ["result files", ", ".join(f"{n / ROWS_A_PARTITION:,.0f} for {n:,}" for n in SIZES)],
        ["listing the results, a request after another of 0.1 s",
         ", ".join(hours_of(n / ROWS_A_PARTITION / NAMES_A_LISTING * 0.1 / 3600) for n in SIZES)],
    ]  # fmt: skip
    return table(["limit", "met at"], rows)


def simulation(measured: dict[str, Any]) -> list[str]:
    """Slow nodes and lost ones, by how many tracks a task holds."""
    times_s = [each for kind in KINDS for each in measured["stages"][kind]["task_s"]]
    work_s = N_TRACKS * statistics.mean(times_s)
    rows = []
    for words, n_slow, lost_every_s in (
        ("all nodes alike", 0, 0.0),
        ("one node three times slower", 1, 0.0),
        ("each node lost every hour", 0, 3300.0),
        ("each node lost every five minutes", 0, 300.0),
        ("one slow, and all lost every five minutes", 1, 300.0),
    ):
        ideal_s = work_s / (CORES_A_NODE * (N_NODES - n_slow + n_slow / SLOW_FACTOR))
        for tracks_a_task in (TRACKS_A_TASK, 100, 4_000):
            took_s, again = simulate(times_s, tracks_a_task, n_slow, lost_every_s)
            rows.append(
                [words, f"{tracks_a_task:,}", f"{took_s:,.0f}", f"{took_s / ideal_s:.2f}", f"{again / N_TRACKS:.2%}"]
            )
    return table(["cluster", "tracks a task", "s", "against ideal", "heard again"], rows)


def simulate(times_s: Sequence[float], tracks_a_task: int, n_slow: int, lost_every_s: float) -> tuple[float, int]:
    """Seconds until the simulated cluster has heard all tracks, and how many it heard for nothing.

    A node that is lost loses the tasks that its cores are at, which others take from then on; it is back after
    `RESTART_S`. The times between losses are exponential.
    """
    draws = random.Random(SEED)
    losses = [losses_of_node(draws, lost_every_s) for _ in range(N_NODES)]
    waiting = [0.0] * (N_TRACKS // tracks_a_task)  # since when each task may be taken
    free = [(0.0, core) for core in range(N_NODES * CORES_A_NODE)]
    ended_s, n_again = 0.0, 0

    while waiting:
        now_s, core = heapq.heappop(free)
        if waiting[0] > now_s:
            heapq.heappush(free, (waiting[0], core))
            continue
        heapq.heappop(waiting)

        node = core // CORES_A_NODE
        needed_s = sum(draws.choices(times_s, k=tracks_a_task)) * (SLOW_FACTOR if node < n_slow else 1.0)
        lost_s = losses[node][bisect.bisect_right(losses[node], now_s)]
        if now_s + needed_s <= lost_s:
            ended_s = max(ended_s, now_s + needed_s)
            heapq.heappush(free, (now_s + needed_s, core))
        else:
            n_again += int(tracks_a_task * (lost_s - now_s) / needed_s)
            heapq.heappush(waiting, lost_s)
            heapq.heappush(free, (lost_s + RESTART_S, core))
    return ended_s, n_again


def losses_of_node(draws: random.Random, every_s: float) -> list[float]:
    """Draw when a node is lost; the last entry is never."""
    losses: list[float] = []
    now_s = 0.0
    while every_s and len(losses) < MOST_LOSSES:
        now_s += draws.expovariate(1 / every_s)
        losses.append(now_s)
        now_s += RESTART_S
    return [*losses, float("inf")]


def cost_s(of_kind: dict[str, Any]) -> float:
    """Processor seconds of one track in all stages."""
    return float(sum(of_kind[stage] for stage in STAGES))


def overhead_s(measured: dict[str, Any]) -> float:
    """Processor seconds a track that two actors of Ray cost beside what two jobs cost."""
    with_ray, without = (measured["speed"][way]["processor_s_per_track"] for way in ("ray-2", "jobs-2"))
    return max(float(with_ray) - float(without), 0.0)


def share(of_kind: dict[str, Any], *names: str) -> str:
    """Share that some stages have of all."""
    return f"{sum(of_kind[name] for name in names) / cost_s(of_kind):.0%}"


def hours_of(hours: float) -> str:
    """Hours, or days where there are many."""
    if hours < 1:
        return f"{hours * 60:.1f} min"
    return f"{hours:,.1f} h" if hours < 100 else f"{hours / 24:,.0f} days"


def money(dollars: float) -> str:
    """Dollars, without cents where there are many."""
    return f"{dollars:,.2f}" if dollars < 100 else f"{dollars:,.0f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows)]


TABLES: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "stages": stages,
    "speed": speed,
    "memory": memory,
    "sizes": sizes,
    "limits": limits,
    "simulation": simulation,
}


def page_with(text: str, measured: dict[str, Any]) -> str:
    """Put every table into its place in the page."""
    for name, make in TABLES.items():
        block = f"<!-- {name} -->\n\n" + "\n".join(make(measured)) + f"\n\n<!-- end of {name} -->"
        text, count = re.subn(
            rf"<!-- {name} -->.*?<!-- end of {name} -->", lambda _, b=block: b, text, flags=re.DOTALL
        )
        if count != 1:
            raise SystemExit(f"the page has {count} places for {name}")
    return text


def main() -> None:
    """Check the page, or write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true")
    page = DOCS / "scale.md"
    before = page.read_text("utf-8")
    after = page_with(before, json.loads((DOCS / "scale.json").read_text("utf-8")))
    if parser.parse_args().write:
        page.write_text(after, "utf-8")
    elif before != after:
        sys.exit(f"{page.name} does not hold what scale.json says: python scripts/scale_tables.py --write")


if __name__ == "__main__":
    main()
