"""MusiCNN and the VGG tagger in NumPy float64, written straight from their description: slow, and the truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from musicgenre.features.mel.reference import melspectrogram
from musicgenre.features.published.musicnn.published import SPEC

Float64 = NDArray[np.float64]
Read = Callable[[str], NDArray[np.floating]]

PATCH_FRAMES = 187
_VGG_POOLS = (((4, 1), 2), ((2, 2), 2), ((2, 2), 2), ((2, 2), 2), ((4, 4), 4))


def patches(waveform: NDArray[np.floating]) -> Float64:
    """Whole patches of a waveform at 16 kHz, shape (n, 187, 96)."""
    frames = melspectrogram(waveform, SPEC).T
    n = len(frames) // PATCH_FRAMES
    return frames[: n * PATCH_FRAMES].reshape(n, PATCH_FRAMES, SPEC.n_mels)


def row_patch(row: NDArray[np.floating]) -> Float64:
    """The patch of one row that is already cut (and so not padded), shape (187, 96)."""
    return melspectrogram(np.pad(row, SPEC.n_fft // 2), SPEC).T[1:-1]


def musicnn(patch: Float64, read: Read) -> tuple[Float64, Float64]:
    """Tags (50,) and embedding (200,) of one patch (187, 96)."""
    found = outputs(patch, read)
    return found["tags"], found["embedding"]


def outputs(patch: Float64, read: Read) -> dict[str, Float64]:
    """Tags (50,), embedding and dense (200,), mean and max (753,) of one patch (187, 96)."""
    normed = batch_norm(patch[..., None], read, 0)
    padded = np.pad(normed, ((3, 3), (0, 0), (0, 0)))
    front = [convolution(padded, read, f"conv2d{suffix}", norm).max(axis=1) for suffix, norm in (("", 1), ("_1", 2))]
    for number, length in ((2, 128), (3, 64), (4, 32)):
        padded = np.pad(normed, (((length - 1) // 2, length // 2), (0, 0), (0, 0)))
        front.append(convolution(padded, read, f"conv2d_{number}", number + 1).max(axis=1))
    hidden = np.concatenate(front, axis=-1)  # (187, 561)
    layers = [hidden]
    for number in (5, 6, 7):
        padded = np.pad(layers[-1], ((3, 3), (0, 0)))[:, None, :]
        kernel = read(f"conv2d_{number}/kernel").transpose(0, 2, 1, 3)  # time, 1, channels in, channels out
        hidden = convolution(padded, read, f"conv2d_{number}", number + 1, kernel)[:, 0]
        layers.append(hidden if number == 5 else hidden + layers[-1])
    everything = np.concatenate(layers, axis=-1)  # (187, 753)
    pooled = np.stack([everything.max(axis=0), everything.mean(axis=0)], axis=-1).reshape(-1)
    dense = batch_norm(pooled, read, 9) @ read("dense/kernel") + read("dense/bias")
    embedding = batch_norm(np.maximum(dense, 0.0), read, 10)
    tags = sigmoid(embedding @ read("dense_1/kernel") + read("dense_1/bias"))
    pools = {"mean": everything.mean(axis=0), "max": everything.max(axis=0)}
    return {"tags": tags, "embedding": embedding, "dense": dense, **pools}


def vgg(patch: Float64, read: Read) -> tuple[Float64, Float64]:
    """Tags (50,) and embedding (256,) of one patch (187, 96)."""
    hidden = batch_norm(patch[..., None], read, 0)
    for number, (size, stride) in enumerate(_VGG_POOLS):
        padded = np.pad(hidden, ((1, 1), (1, 1), (0, 0)))
        hidden = max_pool(convolution(padded, read, f"{number + 1}CNN", number + 1), size, stride)
    embedding = hidden.reshape(-1)
    return sigmoid(embedding @ read("dense/kernel") + read("dense/bias")), embedding


def convolution(
    image: Float64, read: Read, name: str, norm: int, kernel: NDArray[np.floating] | None = None
) -> Float64:
    """Valid convolution of (time, frequency, channels), bias, ReLU, batch-norm."""
    kernel = np.asarray(read(f"{name}/kernel") if kernel is None else kernel, dtype=np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(image, kernel.shape[:2], axis=(0, 1))  # (t, f, c, kt, kf)
    flat = np.moveaxis(windows, 2, -1).reshape(*windows.shape[:2], -1)
    result = flat @ kernel.reshape(-1, kernel.shape[-1]) + read(f"{name}/bias")
    return batch_norm(np.maximum(result, 0.0), read, norm)


def batch_norm(values: Float64, read: Read, number: int) -> Float64:
    prefix = "batch_normalization" + (f"_{number}" if number else "")
    gamma, beta, mean, variance = (
        read(f"{prefix}/{part}").astype(np.float64) for part in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    return (values - mean) / np.sqrt(variance + 1e-3) * gamma + beta


def max_pool(image: Float64, size: tuple[int, int], stride: int) -> Float64:
    windows = np.lib.stride_tricks.sliding_window_view(image, size, axis=(0, 1))[::stride, ::stride]
    return windows.max(axis=(-2, -1))


def sigmoid(values: Float64) -> Float64:
    return 0.5 * (1.0 + np.tanh(0.5 * values))
