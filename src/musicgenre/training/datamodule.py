"""The one data module: parts of the store in, normalised and augmented batches out."""

from __future__ import annotations

from musicgenre.data.rows import Change
from musicgenre.data.shards import ShardSet
from musicgenre.training._lightning import L
from musicgenre.training.batches import Augment, Batch, Batches, Examples, Order, Shuffled
from musicgenre.training.inputs import Normalise
from musicgenre.training.parts import Parts
from musicgenre.training.recipes import TrainingSection
from musicgenre.training.stream import Multiplexed, ShardBatches


class StoreDataModule(L.LightningDataModule):
    """Feed a training from the store.

    Parameters
    ----------
    parts : Parts
        The rows.
    normalise : Normalise
        Applied to every batch where the model runs.
    settings : TrainingSection
        The recipe's section.
    augment : callable, optional
        Online augmentation of normalised training batches.
    change : callable, optional
        Online augmentation of the waveform: see `musicgenre.training.batches.Batches`.
    shards : ShardSet, optional
        Where the features of the training part are, if they are not in a store.
    """

    def __init__(
        self,
        parts: Parts,
        normalise: Normalise,
        settings: TrainingSection,
        *,
        augment: Augment | None = None,
        change: Change | None = None,
        shards: ShardSet | None = None,
    ) -> None:
        super().__init__()
        self.parts = parts
        self.normalise = normalise
        self.settings = settings
        self.augment = augment
        self.change = change
        self.shards = shards
        self.train_batches: Batches | ShardBatches | None = None

        # whoever streams has no room for the parts
        streams = settings.stream.active or shards is not None
        self._in_memory_mb = 0 if streams else settings.in_memory_mb

    def train_dataloader(self) -> Batches | ShardBatches:
        """Batches of the training part, in a new order every epoch."""
        settings, stream, train = self.settings, self.settings.stream, self.parts.train
        examples = Examples(train, "fresh" if settings.examples == "fresh" else "all")
        rank, world = 0, 1
        if self.trainer is not None:
            rank, world = int(self.trainer.global_rank), int(self.trainer.world_size)

        if self.shards is not None:
            self.train_batches = ShardBatches(
                self.shards,
                train,
                examples,
                settings.batch_size,
                seed=settings.seed,
                settings=stream,
                epoch=self._epoch,
                rank=rank,
                world=world,
            )
            return self.train_batches

        order: Order = Shuffled(examples, settings.seed)
        if stream.active:
            order = Multiplexed(
                examples, stream.active, settings.seed, rate=stream.rate, n_examples=stream.epoch_examples
            )
        self.train_batches = Batches(
            train,
            settings.batch_size,
            order=order,
            training=True,
            epoch=self._epoch,
            rank=rank,
            world=world,
            in_memory_mb=self._in_memory_mb,
            workers=stream.workers,
            change=self.change,
        )
        return self.train_batches

    def val_dataloader(self) -> Batches:
        """Batches of the validation part, in order and never augmented."""
        # whole in every process: their sums give the same mean, however many there are
        return Batches(self.parts.validation, self.settings.batch_size, in_memory_mb=self._in_memory_mb)

    def teardown(self, stage: str) -> None:
        """End the processes that read."""
        if self.train_batches is not None:
            self.train_batches.close()

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Normalise, then augment, on the device of the model."""
        x, labels = batch
        x = self.normalise.to(x.device)(x)
        # Lightning calls this for validation batches too
        if self.augment is not None and self.trainer is not None and self.trainer.training:
            return self.augment(x, labels)
        return x, labels

    def _epoch(self) -> int:
        """Number of the epoch, asked anew whenever one begins."""
        return 0 if self.trainer is None else int(self.trainer.current_epoch)
