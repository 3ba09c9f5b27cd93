"""The Lightning modules: what every training shares, then models that name one label, and models that name tags."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor
from torch.nn import functional

from musicgenre.models.network import Network
from musicgenre.training._lightning import L
from musicgenre.training.batches import Batch
from musicgenre.training.recipes import TrainingSection

_SMALLEST = 1e-7
"""Shares and counts below this count as this, where a logarithm or a quotient is taken of them."""


class TrainingModule(L.LightningModule):
    """A network, its optimiser and its scores; what it is taught is left to those that inherit from it.

    Parameters
    ----------
    network : Network
        (batch, *shape) to logits (batch, n_classes).
    settings : TrainingSection
        The recipe's section.
    """

    def __init__(self, network: Network, settings: TrainingSection) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self._sums = {"train": _Sums(), "validation": _Sums()}

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch."""

    @abstractmethod
    def count(self, loss: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
        """Figures of one batch that add up over an epoch."""

    @abstractmethod
    def scores(self, part: str, totals: list[float]) -> dict[str, float]:
        """Scores of a part, by the names of the learning curves, from the sums of `count`."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits."""
        logits: Tensor = self.network(x)
        return logits

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Loss of a batch, with what the network asks for beside it."""
        loss = self._step("train", batch)
        penalty = self.network.penalty()
        if penalty is not None:
            loss = loss + penalty
        return loss

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
        """Return the scores of both parts since the last call, over all processes."""
        scores: dict[str, float] = {}
        for part, sums in self._sums.items():
            totals = sums.take()
            if totals is None:
                continue
            if self.trainer.world_size > 1:
                gathered: Any = self.all_gather(totals)
                totals = gathered.sum(dim=0)
            scores |= self.scores(part, totals.tolist())
        return scores

    def _step(self, part: str, batch: Batch) -> Tensor:
        """Compute the loss of a batch, and add its figures to those of the part."""
        x, targets = batch
        logits = self(x)
        loss = self.loss(logits, targets)
        self._sums[part].add(self.count(loss.detach(), logits.detach(), targets))
        return loss


class SingleLabelModule(TrainingModule):
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
        super().__init__(network, settings)
        self.register_buffer("class_weights", class_weights, persistent=False)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy; `targets` are class numbers (batch,) or shares (batch, n_classes)."""
        if self.settings.softmax_in_loss:
            logits = logits.softmax(dim=1)
        weights: Any = self.class_weights
        return functional.cross_entropy(logits, targets, weight=weights)

    def count(self, loss: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
        """Summed loss, then of every class its hits, how often it is true and how often it is answered."""
        if targets.ndim == 2:
            targets = targets.argmax(dim=1)  # of blended examples the larger share counts
        # by comparison, not by counting: no step waits for a number
        classes = torch.arange(logits.shape[1], device=logits.device)
        true = targets[:, None] == classes
        answered = logits.argmax(dim=1)[:, None] == classes
        counts = [(true & answered).sum(0), true.sum(0), answered.sum(0)]
        return torch.cat([loss.float().reshape(1) * len(targets), *(count.float() for count in counts)])

    def scores(self, part: str, totals: list[float]) -> dict[str, float]:
        """Loss and accuracy; for the validation part also F1, mean over classes."""
        hits, true, answered = np.array(totals[1:]).reshape(3, -1)
        scores = {f"{part}_loss": totals[0] / float(true.sum()), f"{part}_accuracy": float(hits.sum() / true.sum())}
        if part == "validation":
            f1 = 2 * hits / np.maximum(true + answered, 1.0)
            scores["validation_macro_f1"] = float(f1.mean())
        return scores


class MultiLabelModule(TrainingModule):
    """Binary cross-entropy on the logits of every tag; what is unknown (NaN) counts for nothing.

    Parameters
    ----------
    network : Network
        (batch, *shape) to logits (batch, n_tags).
    settings : TrainingSection
        The recipe's section.
    positive_weights : Tensor, optional
        Shape (n_tags,): what a tag weighs where it is present.
    """

    def __init__(self, network: Network, settings: TrainingSection, positive_weights: Tensor | None = None) -> None:
        super().__init__(network, settings)
        self.register_buffer("positive_weights", positive_weights, persistent=False)
        self._answers: list[tuple[Tensor, Tensor]] = []

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over all known tags; `targets` (batch, n_tags) lie within 0..1, shares of mixup included."""
        # NaN would spread through the gradient even where it is multiplied by 0: it is replaced first
        known = ~torch.isnan(targets)
        wanted = torch.where(known, targets, torch.zeros_like(targets))
        weights: Tensor | None = self.positive_weights  # type: ignore[assignment]

        if self.settings.softmax_in_loss:
            # cross-entropy of shares that sum to one: a report's mistake, by name only
            share = logits.softmax(dim=1).clamp(_SMALLEST, 1.0 - _SMALLEST)
            weight = 1.0 if weights is None else weights
            losses = -(weight * wanted * share.log() + (1.0 - wanted) * (1.0 - share).log())
        else:
            losses = functional.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weights, reduction="none")
        return (losses * known).sum() / known.sum().clamp(min=1)

    def count(self, loss: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
        """Summed loss, known tags."""
        known = (~torch.isnan(targets)).sum().float()
        return torch.stack([loss.float() * known, known])

    def scores(self, part: str, totals: list[float]) -> dict[str, float]:
        """Loss; for the validation part also the areas under both curves, where they choose the weights."""
        loss, known = totals
        scores = {f"{part}_loss": loss / max(known, 1.0)}
        if part == "validation" and self._answers:
            logits, targets = zip(*self._answers, strict=True)
            self._answers.clear()
            scores |= mean_areas(torch.cat(targets).numpy(), torch.cat(logits).numpy())
        return scores

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Count a batch of the validation part; remember its answers where the areas are wanted."""
        x, targets = batch
        logits = self(x)
        self._sums["validation"].add(self.count(self.loss(logits, targets), logits, targets))

        # a sigmoid keeps the order of the answers, and the areas ask for no more; a softmax does not
        if self.settings.monitor.endswith("_auc"):
            ranked = logits.softmax(dim=1) if self.settings.softmax_in_loss else logits
            self._answers.append((ranked.float().cpu(), targets.cpu()))


def balanced_weights(labels: Tensor, n_classes: int) -> Tensor:
    """Weights that give every class the same say: n / (n_classes * n_of_the_class)."""
    counts = torch.bincount(labels, minlength=n_classes).clamp(min=1)
    return len(labels) / (n_classes * counts.float())


def balanced_positive_weights(targets: NDArray[np.float32], cap: float) -> Tensor:
    """Weigh every tag by (absent / present), at least 1 / cap and at most cap; targets (n, n_tags), NaN unknown."""
    present = np.nansum(targets, axis=0)
    absent = (~np.isnan(targets)).sum(axis=0) - present
    ratio = absent / np.maximum(present, _SMALLEST)
    return torch.from_numpy(np.clip(ratio, 1.0 / cap, cap).astype(np.float32))


def mean_areas(targets: NDArray[np.float32], scores: NDArray[np.float32]) -> dict[str, float]:
    """Areas under the ROC and the precision-recall curve, means over the tags that have both kinds of rows.

    Without any such tag both are 0: nothing was told apart.
    """
    roc, pr = [0.0], [0.0]
    for truth, said in zip(targets.T, scores.T, strict=True):
        known = ~np.isnan(truth)
        present = truth[known] > 0.5
        if present.any() and not present.all():
            roc.append(float(roc_auc_score(present, said[known])))
            pr.append(float(average_precision_score(present, said[known])))

    n_tags = max(1, len(roc) - 1)
    return {"validation_roc_auc": sum(roc) / n_tags, "validation_pr_auc": sum(pr) / n_tags}


@dataclass
class _Sums:
    """Figures of one part in one epoch, summed where the model runs: no step waits for them."""

    totals: Tensor | None = None

    def add(self, step: Tensor) -> None:
        """Add the figures of one batch."""
        self.totals = step if self.totals is None else self.totals + step

    def take(self) -> Tensor | None:
        """Return the sums and start anew."""
        totals, self.totals = self.totals, None
        return totals
