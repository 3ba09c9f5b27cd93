"""One training shared by processes on the nodes of a cluster, through Ray Train with Lightning."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment
from ray.train.torch import TorchConfig, TorchTrainer

from musicgenre._files import place_advice
from musicgenre.cluster.connect import Cluster, enter_folder, naming_node, own_error, this_node
from musicgenre.errors import RunError, UsageError
from musicgenre.runs.folder import RunFolder
from musicgenre.training.fit import Fitting, Hardware

_RAY = ".ray"  # what Ray Train itself keeps while it runs; nothing is read from it
_SHOWN_CHARACTERS = 300


class RayTraining:
    """Trains a network in one process for each of `hardware.devices`: see `musicgenre.training.fit.train_here`.

    They talk by gloo where they compute on CPUs, by NCCL on GPUs. The first of them writes curves, weights and state
    into the run's folder, which all nodes see under the same path, like the features.

    Parameters
    ----------
    cluster : Cluster
        Where they run.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def __call__(self, fitting: Fitting) -> None:
        """Train.

        Raises
        ------
        UsageError
            The cluster has too few cores or GPUs, or a node does not see the features.
        DataError
            A node does not see the run's folder, or may not write there.
        RunError
            A process of the training failed, or was lost.
        """
        hardware, folder = fitting.hardware, fitting.folder.folder.absolute()
        self.check_nodes(hardware)
        self._cluster.check_shared(folder, next_step="Give an --output in a folder that all nodes share")
        what, share = _needs(hardware)

        with fitting.watched_from_outside() as unwatched:
            self._run(replace(unwatched, folder=RunFolder(folder)), {what: share})

    def check_nodes(self, hardware: Hardware) -> None:
        """Refuse, before anything is prepared, what the cluster has no room for, and nodes with other packages."""
        self._cluster.check_room(hardware.devices, *_needs(hardware))
        self._cluster.check_packages("torch", "lightning")

    def _run(self, fitting: Fitting, each: dict[str, int]) -> None:
        """Let Ray Train run it, in processes that each have so much of the cluster."""
        hardware, folder = fitting.hardware, fitting.folder.folder
        trainer = TorchTrainer(
            _train,
            train_loop_config={"fitting": fitting, "called_from": str(Path.cwd())},
            torch_config=TorchConfig(backend="nccl" if hardware.wants_gpu else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=hardware.devices, use_gpu=hardware.wants_gpu, resources_per_worker=each
            ),
            run_config=ray.train.RunConfig(name=_RAY, storage_path=str(folder)),
        )
        try:
            trainer.fit()
        except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
            raise _as_told(error) from error
        finally:
            shutil.rmtree(folder / _RAY, ignore_errors=True)


def _needs(hardware: Hardware) -> tuple[str, int]:
    """What each process needs of a node, and how many of it."""
    if hardware.wants_gpu:
        return "GPU", 1
    return "CPU", hardware.threads or 1


def _train(config: dict[str, Any]) -> None:
    """Train as one of several processes. It runs on a node."""
    fitting: Fitting = config["fitting"]
    enter_folder(config["called_from"])
    with naming_node(this_node()):
        _check_features(fitting)
    try:
        fitting.run(devices="auto", strategy=RayDDPStrategy(), plugins=[RayLightningEnvironment()])
    except OSError as error:  # no place is left, most often
        where = "" if error.filename is None else f"{error.filename}: "
        raise RunError(
            f"on the node {this_node()}, the training broke off: {where}{error.strerror or error}",
            next_step=f"{place_advice(error) or 'Mend that'}, then go on with --resume",
        ) from error


def _check_features(fitting: Fitting) -> None:
    """Refuse to begin on a node that does not see the features, each file of which would fail later on."""
    read = [fitting.data.parts.validation]
    if fitting.data.shards is None:
        read.append(fitting.data.parts.train)
    for part in read:
        file_of, _ = part.features.places
        for number in np.unique(file_of):
            file = part.features.files[number]
            if not file.is_file():
                raise UsageError(
                    f"there are no features: {file} is not there",
                    valid="Features in a folder that all nodes share under one name",
                    next_step="Give it with --store, or MUSICGENRE_CACHE on every node",
                )


def _as_told(error: Exception) -> Exception:
    """Find what went wrong in the process of the training that failed first."""
    for failure in getattr(error, "worker_failures", {}).values():
        own = own_error(failure)
        if own is not None:
            return own
    reason = " ".join(str(error).split())[-_SHOWN_CHARACTERS:]
    return RunError(f"a process of the training was lost ({reason})", next_step="Go on with --resume")
