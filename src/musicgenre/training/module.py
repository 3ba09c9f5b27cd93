"""The one Lightning module for models that name a single label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional

from musicgenre.models._network import Network
from musicgenre.training.recipes import TrainingSection

Batch = tuple[Tensor, Tensor]


@dataclass
class _Sums:
    """Loss, hits and examples of one part in one epoch, summed where the model runs: no step waits for them."""

    totals: Tensor | None = None

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        truth = targets if targets.ndim == 1 else targets.argmax(dim=1)
        hits = (logits.detach().argmax(dim=1) == truth).sum()
        count = torch.tensor(float(len(truth)), device=logits.device)
        step = torch.stack([loss.detach().float() * count, hits.float(), count])
        self.totals = step if self.totals is None else self.totals + step

    def take(self) -> Tensor | None:
        """Return (summed loss, hits, examples) and start anew."""
        totals, self.totals = self.totals, None
        return totals


class SingleLabelModule(L.LightningModule):
    """Cross-entropy on logits; the reports' softmax in front of it only when asked for by name.

    Parameters
    ----------
    network : Network
        (batch, *shape) to logits (batch, n_classes).
    settings : TrainingSection
        The recipe's section.
    class_weights : Tensor, optional
        Shape (n_classes,).
    """

    def __init__(self, network: Network, settings: TrainingSection, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.register_buffer("class_weights", class_weights, persistent=False)
        self._sums = {"train": _Sums(), "validation": _Sums()}

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits."""
        logits: Tensor = self.network(x)
        return logits

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Loss of a batch."""
        return self._step("train", batch)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Count a batch of the validation part."""
        self._step("validation", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam or SGD over all weights that are not frozen, as the recipe says."""
        chosen = self.settings
        weights = self.network.parameter_groups(chosen.learning_rate)
        if chosen.optimiser == "sgd":
            return torch.optim.SGD(
                weights, chosen.learning_rate, momentum=chosen.momentum, weight_decay=chosen.weight_decay
            )
        return torch.optim.Adam(
            weights,
            chosen.learning_rate,
            betas=(chosen.momentum, 0.999),
            weight_decay=chosen.weight_decay,
            fused=True,
        )

    def take_scores(self) -> dict[str, float]:
        """Return loss and accuracy of both parts since the last call, over all processes."""
        scores: dict[str, float] = {}
        for part, sums in self._sums.items():
            totals = sums.take()
            if totals is not None:
                loss, hits, count = self._over_processes(totals).tolist()
                scores |= {f"{part}_loss": loss / count, f"{part}_accuracy": hits / count}
        return scores

    def _step(self, part: str, batch: Batch) -> Tensor:
        x, targets = batch
        logits = self(x)
        loss = self.loss(logits, targets)
        self._sums[part].add(loss, logits, targets)
        return loss

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy; ``targets`` are class numbers (batch,) or shares (batch, n_classes)."""
        if self.settings.softmax_in_loss:
            logits = logits.softmax(dim=1)
        weights: Any = self.class_weights
        return functional.cross_entropy(logits, targets, weight=weights)

    def _over_processes(self, totals: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return totals
        gathered: Any = self.all_gather(totals)
        summed: Tensor = gathered.sum(dim=0)
        return summed


def balanced_weights(labels: Tensor, n_classes: int) -> Tensor:
    """Weights that give every class the same say: n / (n_classes * n_of_the_class)."""
    counts = torch.bincount(labels, minlength=n_classes).clamp(min=1)
    return len(labels) / (n_classes * counts.float())
