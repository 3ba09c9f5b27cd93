"""Online augmentation: decided by the generator alone, and each does what it says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgenre.augment.online import (
    Mixup,
    OnlineChain,
    SpecAugment,
    TimeRoll,
    Together,
    create_spectrogram_augmentation,
    list_spectrogram_augmentations,
    register_spectrogram,
)
from musicgenre.augment.waveform import get_chain
from musicgenre.errors import UsageError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 6, rows: int = 16, frames: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(count, rows, frames, generator=generator(99)) + 1.0
    return x, torch.eye(3)[torch.arange(count) % 3]


@pytest.mark.parametrize("name", list_spectrogram_augmentations())
def test_the_generator_alone_decides(name: str) -> None:
    change = create_spectrogram_augmentation(name)
    x, targets = batch()
    kept = x.clone(), targets.clone()
    first = change(x, targets, generator(1))
    torch.manual_seed(123)
    again = change(x, targets, generator(1))
    other = change(x, targets, generator(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(x, kept[0])
    assert torch.equal(targets, kept[1])
    assert first[0].shape == x.shape
    assert first[1].shape == targets.shape


@given(st.integers(0, 1000), st.integers(0, 3), st.integers(0, 3), st.integers(0, 20), st.integers(0, 8))
@settings(max_examples=60)
def test_masks_are_bounded_and_hide_whole_bands_and_frames(
    seed: int, n_time: int, n_bands: int, time_width: int, band_width: int
) -> None:
    change = SpecAugment(time_masks=n_time, frequency_masks=n_bands, time_width=time_width, frequency_width=band_width)
    x, targets = batch()
    masked, _ = change(x, targets, generator(seed))
    hidden = masked == 0
    assert torch.equal(masked[~hidden], x[~hidden])
    bands, frames = hidden.all(dim=2), hidden.all(dim=1)
    assert torch.equal(hidden, bands[:, :, None] | frames[:, None, :])
    some = ~hidden.all(dim=2).all(dim=1)  # where every band is hidden, every frame is, and the other way round
    assert int((bands.sum(1) * some).max()) <= n_bands * min(band_width, 8)
    assert int((frames.sum(1) * some).max()) <= n_time * min(time_width, 20)


def test_masks_know_which_axis_is_time() -> None:
    x, targets = batch(rows=40, frames=16)
    masked, _ = SpecAugment(time_masks=2, frequency_masks=0, time_width=20, row_axis=1)(x, targets, generator(3))
    assert (masked == 0).all(dim=2).any()
    assert not (masked == 0).all(dim=1).any()


def test_roll_moves_time_round() -> None:
    x, targets = batch()
    rolled, _ = TimeRoll(largest=1.0)(x, targets, generator(4))
    for before, after in zip(x, rolled, strict=True):
        assert any(torch.equal(torch.roll(before, shift, dims=1), after) for shift in range(40))


@given(st.integers(0, 1000), st.floats(0.05, 5.0))
@settings(max_examples=40)
def test_mixup_blends_examples_and_targets_by_one_share(seed: int, alpha: float) -> None:
    x = torch.eye(6)[:, :, None]
    mixed, targets = Mixup(alpha=alpha)(x, torch.eye(6), generator(seed))
    assert torch.allclose(mixed[:, :, 0], targets, atol=1e-6)
    assert torch.allclose(targets.sum(1), torch.ones(6), atol=1e-6)
    assert bool((targets.diagonal() >= 0.5 - 1e-6).all())


def test_together_applies_every_step() -> None:
    x, targets = batch()
    both = Together([SpecAugment(), Mixup()])
    changed, shares = both(x, targets, generator(5))
    assert not torch.equal(changed, x)
    assert not torch.equal(shares, targets)


def test_online_chain_keeps_length_and_follows_the_generator() -> None:
    change = OnlineChain(get_chain("a3"), 8_000)
    waveforms = 0.1 * torch.randn(3, 4_000, generator=generator(8))
    first, again = (change(waveforms, generator(1)) for _ in range(2))
    assert first.shape == waveforms.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, change(waveforms, generator(2)))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("specaugment", {"time_masks": -1}),
        ("specaugment", {"row_axis": 2}),
        ("time-roll", {"largest": 1.5}),
        ("noise", {"largest": -0.1}),
        ("mixup", {"alpha": 0.0}),
        ("mixupp", {}),
    ],
)
def test_bad_settings(name: str, options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        create_spectrogram_augmentation(name, **options)


def test_bad_shapes_and_names() -> None:
    with pytest.raises(UsageError, match="3 dimensions"):
        SpecAugment()(torch.zeros(2, 3), torch.zeros(2, 2), generator())
    with pytest.raises(UsageError, match="taken"):
        register_spectrogram("mixup")(Mixup)
