"""Compute features on a cluster: actors put rows into a cache that all nodes share, as processes of one machine do.

The store is then written by `musicgenre.features.prepare` as ever, so that `train` finds what it knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from musicgenre._files import writing_to
from musicgenre._json import json_sha256
from musicgenre.audio import decoding_apart
from musicgenre.cluster.actors import in_actors
from musicgenre.cluster.connect import Cluster
from musicgenre.features.base import Representation
from musicgenre.features.jobs import Job, Outcome, Shared, make_rows, run_batched
from musicgenre.features.prepare import Runner


@dataclass(frozen=True)
class Rows:
    """How each actor puts rows of files into the cache: it is sent to them."""

    shared: Shared

    def __call__(self) -> Callable[[list[Job]], list[Outcome]]:
        """Load what the representation needs; give the function that takes some files."""
        representation = self.shared[0]
        representation.make_ready()
        life = ExitStack()
        life.enter_context(decoding_apart())
        return partial(_rows_of, life, self.shared)


def runner_on(cluster: Cluster, *, n_actors: int | None = None) -> Runner:
    """Let `musicgenre.features.prepare.prepare` compute on a cluster.

    Parameters
    ----------
    cluster : Cluster
        Where to work.
    n_actors : int, optional
        Files at a time; by default one a core of the cluster.

    Returns
    -------
    Runner
        Raises a DataError where a node does not see the folder of the cache, and an error that names the node where it
        has other weights, or none.
    """

    def run(shared: Shared, files: Sequence[Job]) -> Iterator[tuple[int, Outcome | None]]:
        representation, _, cache = shared
        question = partial(_settings_of, representation)
        cluster.check_nodes(question, question(), f"the representation {representation.name}")
        cluster.check_shared(cache.folder, next_step="Give it with --cache, or MUSICGENRE_CACHE on every node")
        there = [Job(file.path.absolute(), file.sha256) for file in files]
        placed = (representation, shared[1], type(cache)(cache.folder.absolute()))
        yield from in_actors(cluster, Rows(placed), there, n_actors=n_actors)

    return run


def _rows_of(_apart: ExitStack, shared: Shared, files: list[Job]) -> list[Outcome]:
    """Compute the rows of some files on one thread."""
    representation, _, cache = shared
    with writing_to(cache.folder):
        if representation.hears_many:
            found = dict(run_batched(shared, files, 1))
            return [found[index] for index in range(len(files))]
        return [make_rows(shared, file) for file in files]


def _settings_of(representation: Representation) -> str:
    """Checksum of all that decides the rows, the weights of a network on this node among it."""
    return json_sha256(representation.settings())
