"""What it saves to keep freed memory between training steps (``training/fit.py``), and what that costs in memory.

Run: python benchmarks/freed_memory.py [--rounds 2] [--steps 12] [--batch-size 8]

B6's network on whole tracks of 30 s, one thread. A process that keeps what it frees and one that does not take turns;
each prints the CPU seconds of a step (the kernel's part in brackets), how much memory it holds between steps, after a
third of them and after all, after giving it back, and at most within a step. The best round of each side counts.
Linux with glibc only.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

SHAPE = (128, 2584)
N_CLASSES = 8


def held_mb() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def one_side(keep: bool, steps: int, batch_size: int) -> dict[str, float]:
    """Train here for some steps."""
    import torch

    from musicgenre.models.registry import create_model
    from musicgenre.training._memory import keeping_freed_memory
    from musicgenre.training.fit import as_channels_last

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = as_channels_last(create_model("cnn2d", SHAPE, N_CLASSES))
    optimiser = torch.optim.Adam(network.parameters(), 1e-4, fused=True)
    marks, held = [], []
    with keeping_freed_memory() if keep else nullcontext():
        for _ in range(steps):
            x, labels = torch.randn(batch_size, *SHAPE), torch.randint(N_CLASSES, (batch_size,))
            before = os.times()
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network(x), labels).backward()
            optimiser.step()
            after = os.times()
            marks.append((after.user - before.user, after.system - before.system))
            held.append(held_mb())
    timed = sorted(marks[1:], key=sum)[: max(1, len(marks) // 2)]  # the quicker half: other work disturbs the rest
    user, system = (sum(mark[part] for mark in timed) / len(timed) for part in (0, 1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    steps_held = {"third": held[steps // 3], "end": held[-1], "after": held_mb(), "peak": peak}
    return {"step": user + system, "system": system, **steps_held}


def measured(keep: bool, options: argparse.Namespace) -> dict[str, float]:
    """Train in a process of its own."""
    words = [sys.executable, __file__, "--side", "keep" if keep else "plain"]
    words += ["--steps", str(options.steps), "--batch-size", str(options.batch_size)]
    found: dict[str, float] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> int:
    """Compare both sides."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--side", choices=["keep", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(one_side(options.side == "keep", options.steps, options.batch_size)))
        return 0
    best: dict[bool, dict[str, float]] = {}
    for _ in range(options.rounds):
        for keep in (False, True):
            found = measured(keep, options)
            if keep not in best or found["step"] < best[keep]["step"]:
                best[keep] = found
    for keep, found in best.items():
        print(
            f"{'kept' if keep else 'as it is':9} {found['step']:.2f} s of CPU a step (kernel {found['system']:.2f}); "
            f"holds {found['third']:.0f} MB after a third of the steps, {found['end']:.0f} after all, "
            f"{found['after']:.0f} at the end, {found['peak']:.0f} at most"
        )
    print(f"kept memory: {best[False]['step'] / best[True]['step']:.2f} times as fast")
    return 0


if __name__ == "__main__":
    sys.exit(main())
