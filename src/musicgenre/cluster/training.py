"""One training shared by processes on the nodes of a cluster, through Ray Train with Lightning."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import ray.train
from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment
from ray.train.torch import TorchConfig, TorchTrainer

from musicgenre.cluster.connect import Cluster, own_error
from musicgenre.errors import RunError, UsageError
from musicgenre.runs.folder import RunFolder
from musicgenre.training.fit import Fitting

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
            The cluster has too few cores or GPUs, or a node does not see the run's folder.
        RunError
            A process of the training failed, or was lost.
        """
        hardware, folder = fitting.hardware, fitting.folder.folder.absolute()
        each = {"GPU": 1} if hardware.wants_gpu else {"CPU": hardware.threads or 1}
        self._check_room(hardware.devices, each)

        fitting = replace(fitting, folder=RunFolder(folder), watch=None)
        trainer = TorchTrainer(
            _train,
            train_loop_config={"fitting": fitting},
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

    def _check_room(self, n_workers: int, each: dict[str, int]) -> None:
        """Refuse what the cluster has no room for: Ray would wait for a new node."""
        [(what, share)] = each.items()
        there = int(ray.cluster_resources().get(what, 0))
        if there < n_workers * share:
            raise UsageError(
                f"--jobs {n_workers} need {n_workers * share} {what}s, and the cluster has {there}",
                next_step="Take fewer --jobs, or add nodes",
            )


def _train(config: dict[str, Any]) -> None:
    """Train as one of several processes. It runs on a node."""
    fitting: Fitting = config["fitting"]
    if not fitting.folder.description.is_file():
        raise UsageError(
            f"this node does not see {fitting.folder.folder}",
            next_step="Give an --output in a folder that all nodes share under the same path",
        )
    fitting.run(devices="auto", strategy=RayDDPStrategy(), plugins=[RayLightningEnvironment()])


def _as_told(error: Exception) -> Exception:
    """Find what went wrong in the process of the training that failed first."""
    for failure in getattr(error, "worker_failures", {}).values():
        own = own_error(failure)
        if own is not None:
            return own
    reason = " ".join(str(error).split())[-_SHOWN_CHARACTERS:]
    return RunError(f"a process of the training was lost ({reason})", next_step="Go on with --resume")
