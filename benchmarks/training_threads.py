"""How many threads a training should take: one, or all cores, on an idle machine and beside other work.

Run: python benchmarks/training_threads.py [--seconds 4] [--rounds 3]

Three networks are trained for a while with one thread and with all (`all passive`: threads that sleep while they wait
for each other, `OMP_WAIT_POLICY=PASSIVE`), each in a process of its own, in turns: first beside nothing, then beside
one process for each core that the benchmark starts itself and that computes without a break. Steps a second count, the
median of the rounds; the table says how many times as fast as one thread that is. What else runs on the machine is
told by its load at the beginning: a busy machine makes the first half look like the second.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from musicgenre._parallel import usable_cores

NETWORKS = {
    "table-mlp": ((57,), 16, {}),
    "mfcc-cnn": ((130, 13), 32, {}),
    "cnn2d": ((128, 173), 32, {}),
}
"""Name of the model, shape of what it reads, batch size, options."""

N_CLASSES = 8
WARM_UP = 3  # steps


def steps_a_second(name: str, threads: int, seconds: float) -> float:
    """Train a network here, as training does it on a CPU."""
    import torch

    from musicgenre.models.registry import create_model
    from musicgenre.training._memory import keeping_freed_memory
    from musicgenre.training.fit import as_channels_last

    shape, batch_size, options = NETWORKS[name]
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = as_channels_last(create_model(name, shape, N_CLASSES, **options))
    optimiser = torch.optim.Adam(network.parameters(), 1e-4, fused=True)
    x, labels = torch.randn(batch_size, *shape), torch.randint(N_CLASSES, (batch_size,))
    n_steps, begin = -WARM_UP, 0.0
    with keeping_freed_memory():
        while n_steps <= 0 or time.perf_counter() - begin < seconds:
            if n_steps == 0:
                begin = time.perf_counter()
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network(x), labels).backward()
            optimiser.step()
            n_steps += 1
    return n_steps / (time.perf_counter() - begin)


def measured(name: str, side: str, threads: int, seconds: float) -> float:
    """Train in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
    if side.endswith("passive"):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    words = [sys.executable, __file__, "--one", name, "--threads", str(threads), "--seconds", str(seconds)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    return float(json.loads(done.stdout))


def main() -> int:
    """Measure all sides."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=list(NETWORKS), help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(steps_a_second(options.one, options.threads, options.seconds)))
        return 0

    cores = usable_cores()
    sides = {"one": 1, "all": cores, "all passive": cores}
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f} at the beginning")
    for beside in (0, cores):
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(beside)]
        try:
            for name in NETWORKS:
                found: dict[str, list[float]] = {side: [] for side in sides}
                for _ in range(options.rounds):
                    for side, threads in sides.items():
                        found[side].append(measured(name, side, threads, options.seconds))
                steps = {side: statistics.median(values) for side, values in found.items()}
                words = ", ".join(
                    f"{side} {value:.3g} ({value / steps['one']:.2f} times)" for side, value in steps.items()
                )
                print(f"beside {beside} busy processes, {name}, steps a second: {words}", flush=True)
        finally:
            for process in busy:
                process.kill()
                process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
