"""Many items worked on by actors of a cluster, through Ray Data: streaming, and what a dead worker had is done again.

Ray Data hands a few items at a time to actors that loaded what they need once, starts another where one died, gives it
the items that the dead one had, and holds back while results are not taken.
"""

from __future__ import annotations

import logging
import pickle
import re
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, TypeVar

from musicgenre import _debug
from musicgenre._parallel import one_thread_each
from musicgenre.cluster.connect import EXTRA, Cluster, enter_folder, naming_node, this_node
from musicgenre.errors import DataError, MusicgenreError, UsageError, needing

Item = TypeVar("Item")
Result = TypeVar("Result")

ITEMS_A_TASK = 4
"""Items that an actor has at a time; as many wait for it. They go with a worker that dies, and are given out again."""

_ITEMS_A_WAVE = 100_000  # that Ray Data knows of at a time: what it keeps of each must not grow without end
_FAULT = re.compile(r"^(?!ray\.)[\w.]+(?:Error|Exception|Exit|Interrupt)\b.*$", re.MULTILINE)
_SHOWN_CHARACTERS = 300  # of what Ray says
_DEATHS = 3  # of workers with the same items, after which each of them is tried alone


def in_actors(
    cluster: Cluster,
    make: Callable[[], Callable[[list[Item]], list[Result]]],
    items: Sequence[Item],
    *,
    n_actors: int | None = None,
) -> Generator[tuple[int, Result | None], None, None]:
    """Yield (index, result) as results come in, in no fixed order, each index once.

    Parameters
    ----------
    cluster : Cluster
        Where to work.
    make : callable
        Called once in each actor, on one core: loads what it needs and returns the function of some items that gives a
        result for each. It is sent there: a class, a function of a module, or a `partial` of one.
    items : sequence
        Plain values; each is worked on once, and once more where its worker died.
    n_actors : int, optional
        How many work at a time; by default one on each core, which is also the most there may be.

    Yields
    ------
    index, result
        None for an item whose workers died of it, four times in company and four times alone.

    Raises
    ------
    MusicgenreError
        What `make` or its function raised in an actor.
    DataError
        The cluster itself is gone.
    """
    n_cpus = cluster.n_cpus
    if n_actors is not None and n_actors > n_cpus:
        raise UsageError(f"{n_actors} workers do not fit the cluster", valid=f"{n_cpus} at most: one a core")

    for start in range(0, len(items), _ITEMS_A_WAVE):
        waiting = set(range(start, min(start + _ITEMS_A_WAVE, len(items))))
        for items_a_task in (ITEMS_A_TASK, 1):
            streaming = _stream(make, items, sorted(waiting), n_actors or n_cpus, items_a_task)
            with closing(streaming) as results:
                for index, result in results:
                    if index in waiting:  # else Ray brings it again, of a worker that died
                        waiting.remove(index)
                        yield index, result
            if not waiting:
                break
        for index in sorted(waiting):
            yield index, None


def _stream(
    make: Callable[[], Callable[[list[Any]], list[Any]]],
    items: Sequence[Any],
    indices: Sequence[int],
    n_actors: int,
    items_a_task: int,
) -> Generator[tuple[int, Any], None, None]:
    """Let Ray Data work on some of the items; ends early, or leaves some out, where workers die again and again."""
    with needing("working with Ray", EXTRA):
        import ray.data
        from ray.exceptions import RayError, RayTaskError

    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = context.print_on_execution_start = _debug.is_wanted()
    # With others, an item that is no worker's fault must not be given up; alone, it is that of the item.
    context.max_errored_blocks = 0 if items_a_task > 1 else -1
    logging.getLogger("ray.data").setLevel(logging.INFO if _debug.is_wanted() else logging.CRITICAL)

    n_tasks = -(-len(indices) // items_a_task)
    rows = [{"index": index, "item": pickle.dumps(items[index])} for index in indices]
    with ray.data.DataContext.current(context):
        with warnings.catch_warnings():  # how retries are limited changes in a Ray that pyproject.toml does not allow
            warnings.simplefilter("ignore")
            results = ray.data.from_items(rows, override_num_blocks=n_tasks).map_batches(
                _Actor,
                batch_size=None,
                compute=ray.data.ActorPoolStrategy(size=min(n_actors, n_tasks), max_tasks_in_flight_per_actor=2),
                fn_constructor_args=(make, str(Path.cwd())),
                num_cpus=1,
                ray_remote_args_fn=lambda: {"max_task_retries": _DEATHS},
            )
        del rows
        try:
            for batch in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for row in batch.to_pylist():
                    result = pickle.loads(row["result"])
                    if isinstance(result, MusicgenreError):
                        raise result
                    yield row["index"], result
        except RayTaskError as error:  # a fault of ours
            faults = _FAULT.findall(str(error))
            raise RuntimeError(faults[-1] if faults else "a worker failed") from error
        except RayError as error:  # workers or nodes that died
            if items_a_task > 1:  # what is left is tried alone
                return
            raise DataError(
                f"the cluster does not work any more ({' '.join(str(error).split())[:_SHOWN_CHARACTERS]})",
                valid="What was written is whole",
                next_step="Look after its nodes, then run the same command again, with --resume where it has that",
            ) from error


class _Actor:
    """What Ray Data keeps in a process: loads once, then works on items."""

    def __init__(self, make: Callable[[], Callable[[list[Any]], list[Any]]], folder: str) -> None:
        enter_folder(folder)
        self._for_life = ExitStack()
        self._for_life.enter_context(one_thread_each())
        # An error in here would be lost, and Ray try again: it is told in the place of the first results.
        try:
            self._work = make()
        except MusicgenreError as error:
            self._work = _raising(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Work on a few items; an error of ours comes back as their results."""
        items = [pickle.loads(item) for item in batch["item"]]
        try:
            with naming_node(this_node()):
                results = self._work(items)
        except MusicgenreError as error:
            results = [error] * len(items)
        return {"index": batch["index"], "result": [pickle.dumps(result) for result in results]}


def _raising(error: MusicgenreError) -> Callable[[list[Any]], list[Any]]:
    """Make a function that raises an error, whatever it is given."""

    def fail(_: list[Any]) -> list[Any]:
        raise error

    return fail
