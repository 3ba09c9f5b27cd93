"""The Lightning module for tagging: any number of tags a track, and tags whose value is unknown."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor
from torch.nn import functional

from musicgenre.models._network import Network
from musicgenre.training.module import Batch, TrainingModule
from musicgenre.training.recipes import TrainingSection

_SMALLEST = 1e-7


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
        self._heard: list[tuple[Tensor, Tensor]] = []

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over all known tags; ``targets`` (batch, n_tags) lie within 0..1, shares of mixup included."""
        known = ~torch.isnan(targets)
        wanted = torch.where(known, targets, torch.zeros_like(targets))
        weights: Tensor | None = self.positive_weights  # type: ignore[assignment]
        if self.settings.softmax_in_loss:
            losses = _after_softmax(logits, wanted, weights)
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
        if part == "validation" and self._heard:
            logits, targets = (torch.cat(pieces).numpy() for pieces in zip(*self._heard, strict=True))
            self._heard.clear()
            scores |= mean_areas(targets, logits)
        return scores

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Count a batch of the validation part; remember its answers where the areas are wanted."""
        x, targets = batch
        logits = self(x)
        self._sums["validation"].add(self.count(self.loss(logits, targets), logits, targets))
        if self.settings.monitor.endswith("_auc"):
            ranked = logits.softmax(dim=1) if self.settings.softmax_in_loss else logits
            self._heard.append((ranked.float().cpu(), targets.cpu()))


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


def _after_softmax(logits: Tensor, wanted: Tensor, weights: Tensor | None) -> Tensor:
    """Cross-entropy of shares that sum to one: the report's mistake, by name only."""
    share = logits.softmax(dim=1).clamp(_SMALLEST, 1.0 - _SMALLEST)
    return -((1.0 if weights is None else weights) * wanted * share.log() + (1.0 - wanted) * (1.0 - share).log())
