"""Fit one model: networks by Lightning, classical models in one go."""

from __future__ import annotations

import logging
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from musicgenre.data.store import PartView
from musicgenre.errors import RunError, UsageError
from musicgenre.models.classical import ClassicalModel
from musicgenre.models.network import Network
from musicgenre.runs.folder import RunFolder
from musicgenre.training._lightning import L, TensorBoardLogger
from musicgenre.training._memory import keeping_freed_memory
from musicgenre.training.batches import Batches
from musicgenre.training.bookkeeper import CHATTER, Bookkeeper, Watch, arrays_of, hush, watching_from_outside
from musicgenre.training.checkpoint import read_safetensors, write_safetensors
from musicgenre.training.datamodule import StoreDataModule
from musicgenre.training.inputs import Normalise
from musicgenre.training.module import (
    MultiLabelModule,
    SingleLabelModule,
    TrainingModule,
    balanced_positive_weights,
    balanced_weights,
)
from musicgenre.training.parts import Parts
from musicgenre.training.recipes import TrainingSection

_PREDICTION_BATCH = 64  # rows

Activation = Literal["softmax", "sigmoid"]
"""What turns logits into probabilities."""

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
"""Weights are float32 in all of them: so they are stored, and so the normalisation computes."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """Where a network is trained.

    Parameters
    ----------
    accelerator : str
        `auto`, `cpu`, `gpu` or another name of Lightning's.
    devices : int
        How many of them.
    precision : {"32-true", "bf16-mixed", "16-mixed"}
        As Lightning names it.
    threads : int or None
        Threads of one training on the CPU; None: as PyTorch chooses. `musicgenre.training.train.train` takes the cores
        that other work leaves free instead.

    Raises
    ------
    UsageError
        If the precision is none of these.
    """

    accelerator: str = "cpu"
    devices: int = 1
    precision: str = "32-true"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"--precision {self.precision} is not known", valid=f"One of {', '.join(PRECISIONS)}")

    def generators(self) -> list[int]:
        """GPUs whose random numbers a training draws."""
        return list(range(torch.cuda.device_count())) if self.device().type == "cuda" else []

    @property
    def wants_gpu(self) -> bool:
        """Whether GPUs are asked for, in this machine or in another."""
        return self.accelerator in ("gpu", "cuda") or self.device().type == "cuda"

    def device(self) -> torch.device:
        """Device that computes the predictions."""
        if self.accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Fitting:
    """All that a process needs to train a network; it can be sent to others, which train together.

    Attributes
    ----------
    module : TrainingModule
        The network and what it learns by.
    data : StoreDataModule
        What it learns from.
    folder : RunFolder
        Where curves, weights and the state to resume from go.
    hardware : Hardware
        Where it is trained.
    state : Path or None
        What to go on from.
    watch : Watch or None
        Who is told how it goes; only in the process that was called.
    """

    module: TrainingModule
    data: StoreDataModule
    folder: RunFolder
    hardware: Hardware
    state: Path | None = None
    watch: Watch | None = None

    def run(self, *, devices: int | str, strategy: Any, plugins: Sequence[Any] = ()) -> None:
        """Train; how many devices there are, and how they share the work, is said as Lightning takes it."""
        memory = keeping_freed_memory() if self.hardware.device().type == "cpu" else nullcontext()
        with _quiet_and_repeatable(self.hardware.threads), memory:
            books = Bookkeeper(self.folder, self.data.settings, self.watch)
            trainer = _trainer(self, books, devices=devices, strategy=strategy, plugins=plugins)
            # weights_only: PyTorch reads plain values and tensors from the state and refuses everything else
            trainer.fit(self.module, datamodule=self.data, ckpt_path=self.state, weights_only=True)

    @contextmanager
    def watched_from_outside(self) -> Iterator[Fitting]:
        """Give what other processes can run, which cannot draw on this one's terminal; it is told here how they go."""
        with watching_from_outside(self.folder, self.data.settings, self.watch):
            yield replace(self, watch=None)


Launch = Callable[[Fitting], None]
"""Trains in this process or in others, and returns when the weights lie in the folder."""


def train_here(fitting: Fitting) -> None:
    """Train on this machine: in this process, or in one a device.

    Raises
    ------
    RunError
        Another process of the training failed.
    """
    n_devices = fitting.hardware.devices
    if n_devices == 1:
        fitting.run(devices=1, strategy="auto")
        return
    try:
        # spawned processes run this training alone, not the whole command once more
        with fitting.watched_from_outside() as unwatched:
            unwatched.run(devices=n_devices, strategy="ddp_spawn")
    except ProcessRaisedException as error:
        # the text is a whole traceback of the other process, whose last line says what happened
        raise RunError(f"a process of the training failed: {str(error).strip().splitlines()[-1]}") from error
    except ProcessExitedException as error:
        raise RunError(
            f"a process of the training ended ({error})",
            next_step="Go on with --resume; if it happens again, take fewer --devices",
        ) from error


def fit_network(
    network: Network,
    data: StoreDataModule,
    folder: RunFolder,
    hardware: Hardware,
    *,
    state: Path | None = None,
    watch: Watch | None = None,
    launch: Launch = train_here,
) -> dict[str, Any]:
    """Train `network` and leave it with its best weights.

    Parameters
    ----------
    network : Network
        Trained in place.
    data : StoreDataModule
        What it learns from, with the recipe's settings.
    folder : RunFolder
        Where curves, weights and the state to resume from go.
    hardware : Hardware
        Where it is trained.
    state : Path, optional
        What to go on from, if there is such a file.
    watch : Watch, optional
        Who is told how it goes.
    launch : callable
        What trains.

    Returns
    -------
    dict
        `best_epoch`, `epochs` and `threads`, for the run's description.

    Raises
    ------
    RunError
        If the loss becomes no number, a GPU's memory is too small, another process of the training fails, or the
        state is damaged.
    """
    settings, train = data.settings, data.parts.train

    # the task is that of the data's targets
    network = as_channels_last(network)
    module: TrainingModule
    if train.tags is not None:
        tag_weights = None
        if settings.positive_weights == "balanced":
            tag_weights = balanced_positive_weights(train.targets(), settings.positive_weight_cap)
        module = MultiLabelModule(network, settings, tag_weights)
    else:
        class_weights = None
        if settings.class_weights:
            class_weights = balanced_weights(torch.from_numpy(train.labels), data.parts.n_classes)
        module = SingleLabelModule(network, settings, class_weights)

    if state is not None and not state.is_file():
        state = None
    if state is not None:
        _check_state(state)
    try:
        launch(Fitting(module, data, folder, hardware, state, watch))
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"the memory of the GPU is too small ({str(error).split('. ')[0]})",
            next_step=f"Lower training.batch_size (now {settings.batch_size}), and go on with --resume or anew",
        ) from error

    # read back rather than kept: with several processes none of them is this one
    restore(network, read_safetensors(folder.weights)[0])
    watched = folder.read_metrics(settings.monitor)
    best = max(watched) if settings.is_better_higher else min(watched)
    return {
        "best_epoch": watched.index(best),
        "epochs": len(watched),
        "threads": hardware.threads or torch.get_num_threads(),
    }


def _check_state(state: Path) -> None:
    """Refuse a state that is no archive of PyTorch any more, or whose checksums say that bytes were changed."""
    try:
        with zipfile.ZipFile(state) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError):
        broken = state.name
    if broken:
        raise RunError(
            f"{state} is damaged: there is no going on from it",
            next_step="Delete it and repeat the command, which then begins anew or says what is left to do",
        )


def fit_classical(
    model: ClassicalModel, parts: Parts, normalise: Normalise, folder: RunFolder, settings: TrainingSection
) -> dict[str, Any]:
    """Fit a classical model and log one row of scores.

    Returns
    -------
    dict
        `best_epoch` and `epochs`, as of a network that was trained for one.
    """
    used = [parts.train]
    if settings.fit_on == "train+validation":
        used.append(parts.validation)

    # all rows at once, since these models have no batches
    normalise = normalise.cpu()
    arrays = []
    for part in used:
        raw = torch.from_numpy(part.features[:].astype(np.float32, copy=False))
        arrays.append(normalise(raw).numpy())
    labels = np.concatenate([part.labels for part in used])
    model.fit(np.concatenate(arrays), labels, seed=settings.seed, balanced=settings.class_weights)
    write_safetensors(folder.weights, arrays_of(model))

    row = {"epoch": 0.0}
    for name, part in (("train", parts.train), ("validation", parts.validation)):
        scores = probabilities(model, normalise, part, torch.device("cpu"))
        own = scores[np.arange(len(part)), part.labels]
        # a tree is sure where it is wrong, too: its loss stays a number
        row[f"{name}_loss"] = float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean())
        row[f"{name}_accuracy"] = float((scores.argmax(axis=1) == part.labels).mean())
    folder.write_metrics([row])
    return {"best_epoch": 0, "epochs": 1}


def probabilities(
    network: torch.nn.Module,
    normalise: Normalise,
    part: PartView,
    device: torch.device,
    activation: Activation = "softmax",
) -> NDArray[np.float32]:
    """Softmax, or sigmoid, of the logits of every row, shape (n_rows, n_classes)."""
    activate = torch.sigmoid if activation == "sigmoid" else partial(torch.softmax, dim=1)
    network, normalise = network.to(device).eval(), normalise.to(device)

    # read batch by batch: a test part need not fit the memory
    answers = []
    with torch.inference_mode():
        for x, _ in Batches(part, _PREDICTION_BATCH, in_memory_mb=0):
            logits = network(normalise(x.to(device)))
            answers.append(activate(logits.float()).cpu())
    return torch.cat(answers).numpy()


def restore(network: Network, arrays: dict[str, NDArray[Any]]) -> None:
    """Put stored arrays back into a network of the same build."""
    if isinstance(network, ClassicalModel):
        network.restore(arrays)
    else:
        network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=True)


def as_channels_last(network: Network) -> Network:
    """Lay the weights of 2-D convolutions out as they run fastest; the numbers stay the same."""
    if any(isinstance(layer, torch.nn.Conv2d) for layer in network.modules()):
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
    return network


def _trainer(
    fitting: Fitting, books: Bookkeeper, *, devices: int | str, strategy: Any, plugins: Sequence[Any]
) -> L.Trainer:
    """Make Lightning's trainer, with everything switched off that the bookkeeper does itself."""
    hardware, folder = fitting.hardware, fitting.folder
    try:
        return L.Trainer(
            accelerator=hardware.accelerator,
            devices=devices,
            strategy=strategy,
            plugins=list(plugins),
            precision=hardware.precision,  # type: ignore[arg-type]
            max_epochs=fitting.data.settings.epochs,
            # some operations have no repeatable form on a GPU: there it warns
            deterministic=True if hardware.accelerator == "cpu" else "warn",
            default_root_dir=folder.folder,
            logger=TensorBoardLogger(folder.logs, name="tensorboard", version=""),
            callbacks=[books],
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
    except (ValueError, RuntimeError, L.fabric.utilities.exceptions.MisconfigurationException) as error:
        raise UsageError(
            f"cannot train with --accelerator {hardware.accelerator} --devices {hardware.devices} "
            f"--precision {hardware.precision} ({' '.join(str(error).split())})",
            next_step="--accelerator cpu --devices 1 --precision 32-true always works",
        ) from error


@contextmanager
def _quiet_and_repeatable(threads: int | None) -> Iterator[None]:
    """Hush Lightning's notes and keep to a number of threads, and leave PyTorch's global switches as they were."""
    loggers = [logging.getLogger(name) for name in CHATTER]
    levels = [logger.level for logger in loggers]
    deterministic = torch.are_deterministic_algorithms_enabled()  # Lightning sets it and leaves it so
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads or threads_before)
    try:
        with warnings.catch_warnings():
            hush()
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads_before)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
