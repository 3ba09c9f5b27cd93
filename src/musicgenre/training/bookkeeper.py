"""One callback that keeps the books of a training: curves, best weights, early stopping, state to resume from."""

from __future__ import annotations

import logging
import math
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from musicgenre._files import replacing
from musicgenre._parallel import beside
from musicgenre.errors import RunError
from musicgenre.runs.folder import RunFolder
from musicgenre.training._lightning import L
from musicgenre.training._memory import keep_freed_memory
from musicgenre.training.checkpoint import write_safetensors
from musicgenre.training.datamodule import StoreDataModule
from musicgenre.training.module import TrainingModule
from musicgenre.training.recipes import TrainingSection

RESUME_EVERY_S = 10.0
"""Shortest time between two states to resume from; a resumed training repeats what came after the last one."""

CHATTER = ("lightning.pytorch", "lightning.fabric")
"""Loggers that say more than a person wants to read."""

_LOOK_EVERY_S = 0.5  # at the curves of other processes

Count = Callable[[int, int], None]
"""Takes (done, all)."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What tells a person how a training goes.

    Parameters
    ----------
    epochs, batches : callable
        Take how many epochs are done, and how many batches of the epoch, and all.
    scores : callable
        Takes a line at the end of every epoch: loss, what is watched of the validation part, and the best so far.
    """

    epochs: Count
    batches: Count
    scores: Callable[[str], None]

    def tell(self, rows: Sequence[Mapping[str, float]], settings: TrainingSection) -> None:
        """Tell of the last of some epochs, given as rows of the learning curves."""
        self.scores(_in_words(rows, settings))
        self.epochs(len(rows), settings.epochs)


@contextmanager
def watching_from_outside(folder: RunFolder, settings: TrainingSection, watch: Watch | None) -> Iterator[None]:
    """Tell of a training that other processes do in the block, by the learning curves that they write.

    Parameters
    ----------
    folder : RunFolder
        Where they write them, after every epoch.
    settings : TrainingSection
        The recipe's section.
    watch : Watch or None
        Who is told; of the batches within an epoch nothing is known here.
    """
    if watch is None:
        yield
        return

    # a training that goes on finds curves already, which are no news
    known = _state_of(folder.metrics)

    def follow(has_ended: threading.Event) -> None:
        nonlocal known
        while True:
            is_last = has_ended.wait(_LOOK_EVERY_S)
            state = _state_of(folder.metrics)
            if state != known:
                known = state
                with suppress(OSError):  # a share that is out of reach for a moment: the next epoch is told
                    watch.tell(folder.read_epochs(), settings)
            if is_last:
                return

    with beside(follow, "watching"):
        yield


class Bookkeeper(L.Callback):
    """Watch every epoch from its validation scores.

    Parameters
    ----------
    folder : RunFolder
        Where to write.
    settings : TrainingSection
        The recipe's section.
    watch : Watch, optional
        Who is told.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: TrainingSection,
        watch: Watch | None = None,
    ) -> None:
        self.watch = watch
        self.folder = folder
        self.settings = settings
        self.rows: list[dict[str, float]] = []
        self.best = math.inf
        self.best_epoch = -1
        self._started = self._waited = self._saved = 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Settle what a spawned process does not have from the one that spawned it: seed, kept memory, few words."""
        if trainer.world_size > 1:
            hush()
            # each process draws its own dropout and augmentation
            torch.manual_seed(self.settings.seed + trainer.global_rank)
            keep_freed_memory()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of the resume state."""
        self._saved = time.monotonic()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of the epoch."""
        self._started = time.perf_counter()
        self._waited = _waited_s(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell how far the epoch is."""
        n_batches = trainer.num_training_batches
        if self.watch is not None and math.isfinite(n_batches):
            self.watch.batches(batch_idx + 1, int(n_batches))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the epoch, keep the weights if they are the best, stop if nothing improves."""
        assert isinstance(pl_module, TrainingModule)
        epoch = trainer.current_epoch
        row = {"epoch": float(epoch), **pl_module.take_scores()}
        row["seconds"] = time.perf_counter() - self._started
        row["waiting_share"] = (_waited_s(trainer) - self._waited) / row["seconds"]
        self.rows.append(row)

        # weights that are no numbers any more never become numbers again: stop at once, with the reason
        for name in ("train_loss", "validation_loss"):
            if not math.isfinite(row[name]):
                raise RunError(
                    f"{name} became {row[name]} in epoch {epoch}",
                    next_step=f"Lower training.learning_rate (now {self.settings.learning_rate:g}), "
                    "or look for broken features",
                )

        # less is better from here on, whatever is watched
        watched = row[self.settings.monitor]
        score = -watched if self.settings.is_better_higher else watched
        improved = score < self.best
        if improved:
            self.best, self.best_epoch = score, epoch
        patience = self.settings.patience
        if patience is not None and epoch - self.best_epoch >= patience:
            trainer.should_stop = True

        if trainer.is_global_zero:
            if improved:
                write_safetensors(self.folder.weights, arrays_of(pl_module.network))
            self.folder.write_metrics(self.rows)
        if trainer.logger is not None:
            trainer.logger.log_metrics({key: value for key, value in row.items() if key != "epoch"}, epoch)

        # last: a state to resume from must not know more than the files beside it; with that of the end, more epochs
        # can be added once the run is finished
        self._save_state(trainer, is_last=trainer.should_stop or epoch + 1 >= self.settings.epochs)
        if self.watch is not None:
            self.watch.tell(self.rows, self.settings)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed training needs to go on as if it had not stopped."""
        return {
            "rows": self.rows,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "random_state": torch.get_rng_state(),
            "gpu_random_states": torch.cuda.get_rng_state_all(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Undo `state_dict`."""
        self.rows = state_dict["rows"]
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]
        torch.set_rng_state(state_dict["random_state"])

        # a machine with another number of GPUs cannot repeat the draws anyway
        gpu_states = state_dict.get("gpu_random_states", [])
        if gpu_states and len(gpu_states) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(gpu_states)

    def _save_state(self, trainer: L.Trainer, *, is_last: bool = False) -> None:
        """Write the state to resume from, if the last one is old enough or no other comes."""
        # all processes gather what is saved and wait for each other there: the first one's clock decides for all
        if not trainer.strategy.broadcast(is_last or time.monotonic() - self._saved >= RESUME_EVERY_S):
            return

        path = self.folder.resume_state
        with replacing(path) if trainer.is_global_zero else nullcontext(path) as target:
            trainer.save_checkpoint(target)  # the first process alone writes
        self._saved = time.monotonic()


def _in_words(rows: Sequence[Mapping[str, float]], settings: TrainingSection) -> str:
    """Losses of the last epoch, what is watched besides, and the best so far; epochs count from 1, as people do."""
    row, monitor = rows[-1], settings.monitor
    parts = [f"loss {row['train_loss']:.3f}", f"validation loss {row['validation_loss']:.3f}"]
    for name in dict.fromkeys(("validation_accuracy", monitor)):
        if name in row and name != "validation_loss":
            parts.append(f"{words_of(name)} {row[name]:.3f}")

    watched = [earlier[monitor] for earlier in rows]
    best = max(watched) if settings.is_better_higher else min(watched)
    return f"epoch {len(rows)}: {', '.join(parts)}; best {words_of(monitor)} {best:.3f} at {watched.index(best) + 1}"


def _state_of(path: Path) -> tuple[int, int] | None:
    """Number and time of a file, which is replaced whenever it is written; None where it is not there yet."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns


def words_of(column: str) -> str:
    """Name a column of the learning curves as people say it: `validation PR-AUC`."""
    return column.replace("_roc_auc", " ROC-AUC").replace("_pr_auc", " PR-AUC").replace("_", " ")


def hush() -> None:
    """Leave warnings alone in Lightning's logs, and pass over what it says of its own outdated calls."""
    for name in CHATTER:
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")


def arrays_of(module: torch.nn.Module) -> dict[str, Any]:
    """Weights and buffers of a module as arrays by name."""
    return {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}


def _waited_s(trainer: L.Trainer) -> float:
    """Seconds the training has waited for batches so far."""
    data: Any = getattr(trainer, "datamodule", None)
    if not isinstance(data, StoreDataModule) or data.train_batches is None:
        return 0.0
    return data.train_batches.waited_s
