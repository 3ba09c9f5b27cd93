"""Training on other hardware and number formats, as far as a CPU can show it."""

from __future__ import annotations

import ctypes
import os
import queue
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from musicgenre._parallel import free_cores
from musicgenre.augment.online import create_spectrogram_augmentation, list_spectrogram_augmentations
from musicgenre.data.manifest import Manifest
from musicgenre.data.rows import Normalisation
from musicgenre.errors import RunError, UsageError
from musicgenre.models.registry import create_model, list_models, model_entry
from musicgenre.runs.folder import RunFolder, read_description
from musicgenre.training import _memory
from musicgenre.training.bookkeeper import Bookkeeper, Watch, watching_from_outside
from musicgenre.training.fit import Hardware
from musicgenre.training.inputs import Normalise
from musicgenre.training.module import SingleLabelModule
from musicgenre.training.recipes import TrainingSection
from musicgenre.training.train import train
from tests.limits import GUARD_S
from tests.table_runs import TABLE, curves, table, weights

__all__ = ["table"]
pytestmark = pytest.mark.usefixtures("own_cache")
DEEPER = {"vgg16", "vgg19", "resnet34", "resnet101", "resnext50-32x4d", "resnext101-32x8d"}  # of layers tested anyway
NETWORKS = [name for name in list_models() if model_entry(name).family != "classical" and name not in DEEPER]


def test_hardware_that_is_not_there_is_an_error(tmp_path: Path, table: Manifest) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UsageError, match="always works"):
        train("table-mlp-standardised", table, output=tmp_path / "run", overrides=TABLE, hardware=Hardware("gpu"))


def test_bfloat16_trains(tmp_path: Path, table: Manifest) -> None:
    hardware = Hardware(precision="bf16-mixed")
    run = train("table-mlp-standardised", table, output=tmp_path / "run", overrides=TABLE, hardware=hardware)
    assert float(curves(run)[-1]["train_loss"]) < float(curves(run)[0]["train_loss"])
    assert {value.dtype for value in weights(run).values()} <= {np.dtype("float32"), np.dtype("int64")}


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "half"])
def test_weights_stay_float32(precision: str) -> None:
    with pytest.raises(UsageError, match=f"{precision} is not known.*bf16-mixed"):
        Hardware(precision=precision)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_network_makes_tensors_on_another_device(name: str) -> None:
    """The device ``meta`` computes shapes alone, and refuses to meet a tensor that was left on the CPU."""
    shape = model_entry(name).tiny_shape
    network = create_model(name, shape, 4, **model_entry(name).tiny_options)
    module = SingleLabelModule(network, TrainingSection(), torch.ones(4)).to("meta").train()
    normalise = Normalise("standard", len(shape), Normalisation(np.zeros(1), np.ones(1), None)).to("meta")
    x = normalise(torch.zeros(4, *shape, device="meta"))
    loss = module.training_step((x, torch.zeros(4, dtype=torch.long, device="meta")), 0)
    loss.backward()
    assert loss.device.type == "meta"


@pytest.mark.parametrize("name", list_spectrogram_augmentations())
def test_spectrogram_augmentations_stay_on_their_device(name: str) -> None:
    x, targets = torch.zeros(4, 20, 30, device="meta"), torch.zeros(4, 3, device="meta")
    made, shares = create_spectrogram_augmentation(name)(x, targets, torch.default_generator)
    assert (made.device.type, shares.device.type, made.shape) == ("meta", "meta", x.shape)


def test_a_gpu_with_too_little_memory_is_an_error(
    tmp_path: Path, table: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has ...")

    monkeypatch.setattr(SingleLabelModule, "training_step", refuse)
    with pytest.raises(RunError, match=r"memory of the GPU is too small \(CUDA out of memory\).*batch_size"):
        train("table-mlp-standardised", table, output=tmp_path / "run", overrides=TABLE)
    assert read_description(tmp_path / "run")["status"] == "failed"


@pytest.mark.parametrize(("first", "due"), [(True, True), (False, True), (True, False), (False, False)])
def test_of_several_processes_the_first_decides_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool, due: bool
) -> None:
    """All take part in gathering a state to resume from, or none does: else they would wait for each other forever."""
    monkeypatch.setattr("musicgenre.training.bookkeeper.RESUME_EVERY_S", 0.0 if not due else 1e9)  # its own clock
    took_part = []

    def save_checkpoint(path: Path) -> None:
        took_part.append(path)
        if first:
            path.write_bytes(b"whole")

    strategy = SimpleNamespace(broadcast=lambda own: due)
    trainer: Any = SimpleNamespace(strategy=strategy, is_global_zero=first, save_checkpoint=save_checkpoint)
    folder = RunFolder(tmp_path)
    folder.resume_state.write_bytes(b"before")
    Bookkeeper(folder, TrainingSection())._save_state(trainer)
    assert bool(took_part) == due
    assert folder.resume_state.read_bytes() == (b"whole" if first and due else b"before")
    assert [path.name for path in tmp_path.iterdir()] == [folder.resume_state.name]


def test_freed_memory_is_kept_on_glibc_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    glibc = SimpleNamespace(
        mallopt=lambda *call: calls.append(call) or 1, malloc_trim=lambda *_: 1, gnu_get_libc_version=lambda: b"2"
    )
    monkeypatch.setattr(_memory.sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: glibc)
    _memory._glibc.cache_clear()
    with _memory.keeping_freed_memory() as kept:
        assert kept
        assert calls == [(-4, 0), (-1, -1)]
    assert dict(calls)[-4] > 0 and dict(calls)[-1] > 0  # blocks are mapped again, and given back
    for platform, library in (("linux", SimpleNamespace()), ("darwin", glibc), ("win32", glibc)):
        monkeypatch.setattr(_memory.sys, "platform", platform)
        monkeypatch.setattr(ctypes, "CDLL", lambda name, library=library: library)
        _memory._glibc.cache_clear()
        calls.clear()
        with _memory.keeping_freed_memory() as kept:
            assert not kept
        assert not calls
    _memory._glibc.cache_clear()


@pytest.mark.slow
def test_a_failure_in_several_processes_is_told_as_in_one(tmp_path: Path, table: Manifest) -> None:
    overrides = [*TABLE, "training.optimiser=sgd", "training.learning_rate=1e30"]
    with pytest.raises(RunError, match=r"loss became .*Lower training.learning_rate"):
        train(
            "table-mlp-standardised", table, output=tmp_path / "run", overrides=overrides, hardware=Hardware(devices=2)
        )
    assert read_description(tmp_path / "run")["status"] == "failed"


def test_a_training_in_other_processes_is_told_by_its_curves(tmp_path: Path) -> None:
    folder, told = RunFolder(tmp_path), queue.SimpleQueue[Any]()
    folder.logs.mkdir()
    watch = Watch(lambda done, of: told.put((done, of)), lambda done, of: None, told.put)
    rows = [{"epoch": 0.0, "train_loss": 2.0, "validation_loss": 1.5, "validation_accuracy": 0.25}]
    folder.write_metrics(rows)
    with watching_from_outside(folder, TrainingSection(epochs=3), watch):
        rows.append({"epoch": 1.0, "train_loss": 1.0, "validation_loss": 0.5, "validation_accuracy": 0.75})
        folder.write_metrics(rows)
        words = "loss 1.000, validation loss 0.500, validation accuracy 0.750; best validation loss 0.500 at 2"
        assert told.get(timeout=GUARD_S) == f"epoch 2: {words}"
        assert told.get(timeout=GUARD_S) == (2, 3)
        rows.append({"epoch": 2.0, "train_loss": 0.9, "validation_loss": 0.6, "validation_accuracy": 0.7})
        folder.write_metrics(rows)
    assert told.get_nowait().endswith("best validation loss 0.500 at 2"), "the last one is told when they end"
    assert told.get_nowait() == (3, 3) and told.empty(), "what was there before is no news"


@pytest.mark.slow
def test_two_processes_train_together(tmp_path: Path, table: Manifest) -> None:
    told: list[str] = []
    done: list[tuple[str, int, int]] = []
    run = train(
        "table-mlp-standardised",
        table,
        output=tmp_path / "run",
        overrides=TABLE,
        hardware=Hardware(devices=2),
        progress=lambda *how: done.append(how),
        scores=told.append,
    )
    assert told[-1].startswith("epoch 8: loss ") and done[-1] == ("training run", 8, 8)
    assert len(curves(run)) == 8
    assert float(curves(run)[-1]["train_loss"]) < float(curves(run)[0]["train_loss"])


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four_threads")
def test_a_training_takes_the_cores_that_are_free_and_goes_on_with_as_many(
    tmp_path: Path, table: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("musicgenre.training.train.usable_cores", lambda: 4)
    monkeypatch.setattr("musicgenre.training.train.free_cores", lambda: 2)
    run = train("table-mlp-standardised", table, output=tmp_path / "run", overrides=[*TABLE, "training.epochs=1"])
    facts = read_description(run)
    assert facts["threads"] == facts["hardware"]["threads"] == 2

    monkeypatch.setattr("musicgenre.training.train.free_cores", lambda: 1)
    more = [*TABLE, "training.epochs=2"]
    train("table-mlp-standardised", table, output=run, overrides=more, resume=True)
    assert read_description(run)["threads"] == 2


@pytest.mark.skipif(not hasattr(os, "getloadavg"), reason="the system tells no load")
@pytest.mark.parametrize(("load", "free"), [(0.4, 4), (1.7, 3), (3.0, 1), (40.0, 1)])
def test_free_cores_are_those_that_the_load_leaves(load: float, free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musicgenre._parallel.usable_cores", lambda: 4)
    monkeypatch.setattr("musicgenre._parallel.os.getloadavg", lambda: (load, 0.0, 0.0))
    assert free_cores() == free
