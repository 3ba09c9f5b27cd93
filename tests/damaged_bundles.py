"""Damage models, heads, indexes and cards in thousands of ways, and see that each is answered or refused.

`python -m tests.damaged_bundles --count 2000 --seed 1` prints a table: how many were answered, how many refused, and
every other end with the file that led to it. An end that is neither is a fault.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre import Classifier
from musicgenre._onnx import GraphBuilder
from musicgenre._protobuf import ProtobufError, bytes_field, fields, write_varint
from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.container import _checksum, _split, save_bundle, seal
from musicgenre.embedding.similar import SimilarityIndex
from musicgenre.errors import MusicgenreError
from musicgenre.features.registry import create_representation
from musicgenre.models.head import GenreHead
from musicgenre.models.head import _checksum as head_checksum

Mutation = Callable[[bytes, random.Random], bytes]

ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 2**31, 2**63, 10**400, -(10**400), 1e308, -0.5, float("nan"), float("inf"), "",
    "\x1b[31m", "a\nb", "\u202eabc", "x" * 100_000, "../../etc/passwd", "//host/share", "\\\\host\\share",
    "facebook/nobody", [], {}, [[]], ["a"], ["a", "a"], {"name": "picture"}, [1e400], [None] * 3,
)  # fmt: skip


def flipped(content: bytes, chance: random.Random) -> bytes:
    """Change a few bits."""
    damaged = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8))):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def cut(content: bytes, chance: random.Random) -> bytes:
    """Leave off the end, or a piece in the middle."""
    start = chance.randrange(len(content))
    return content[:start] if chance.random() < 0.5 else content[:start] + content[start + chance.randrange(1, 64) :]


def scrambled_fields(content: bytes, chance: random.Random, depth: int = 0) -> bytes:
    """Drop, repeat, swap or change one field of a protobuf message, somewhere in it, with all lengths right."""
    try:
        parts = [(number, value, content[start:end]) for number, value, (start, end) in fields(content)]
    except ProtobufError:
        parts = []
    if not parts:
        return flipped(content, chance) if content else bytes([chance.randrange(256)])

    at = chance.randrange(len(parts))
    number, value, whole = parts[at]
    pieces = [piece for _, _, piece in parts]
    what = chance.randrange(8)
    if isinstance(value, bytes) and value and depth < 6 and what < 5:
        pieces[at] = bytes_field(number, scrambled_fields(value, chance, depth + 1))
    elif what == 5:
        del pieces[at]
    elif what == 6:
        pieces.insert(chance.randrange(len(pieces) + 1), whole)
    elif isinstance(value, int):
        odd = chance.choice((0, 1, 2, 7, 127, 2**31, 2**32 + 1, 2**63, 2**64 - 1, chance.randrange(2**16)))
        pieces[at] = write_varint(number << 3) + write_varint(odd)
    else:
        pieces[at] = bytes_field(chance.choice((number, chance.randrange(1, 30))), value)
    return b"".join(pieces)


def odd_json(values: Any, chance: random.Random) -> Any:
    """Put an odd value in a place of some JSON, or take a key away."""
    if isinstance(values, dict) and values:
        key = chance.choice(sorted(values))
        changed = dict(values)
        if chance.random() < 0.1:
            del changed[key]
        elif isinstance(values[key], dict | list) and values[key] and chance.random() < 0.6:
            changed[key] = odd_json(values[key], chance)
        else:
            changed[key] = chance.choice(ODD_VALUES)
        return changed
    if isinstance(values, list) and values:
        changed_list = list(values)
        at = chance.randrange(len(values))
        if chance.random() < 0.2:
            del changed_list[at]
        else:
            changed_list[at] = odd_json(values[at], chance) if chance.random() < 0.5 else chance.choice(ODD_VALUES)
        return changed_list
    return chance.choice(ODD_VALUES)


def odd_card(content: bytes, chance: random.Random) -> bytes:
    """Change the card of a bundle and make its checksum right again."""
    bare, text = _split(content, "the bundle")
    return bare + _card_entry(bare, odd_json(json.loads(text or "{}"), chance))


def odd_front_end(content: bytes, chance: random.Random) -> bytes:
    """Change the front end on the card of a bundle and make its checksum right again."""
    bare, text = _split(content, "the bundle")
    values = json.loads(text or "{}")
    front = values.get("front_end") or {}
    key = chance.choice(sorted(front)) if front else "name"
    values["front_end"] = {**front, key: chance.choice((*ODD_VALUES, 2**30, 200_000, 10**9, 0.001))}
    return bare + _card_entry(bare, values)


def sealed_graph(content: bytes, chance: random.Random) -> bytes:
    """Change the graph of a bundle and make its checksum right again."""
    bare, text = _split(content, "the bundle")
    try:
        return seal(scrambled_fields(bare, chance), BundleCard.from_json(text or "", "the bundle"))
    except MusicgenreError:
        return scrambled_fields(bare, chance)


def odd_head(content: bytes, chance: random.Random) -> bytes:
    """Change a head and make its checksum right again."""
    values = odd_json(json.loads(content), chance)
    if isinstance(values, dict):
        values["sha256"] = head_checksum(values)
    return json.dumps(values).encode()


def odd_index(content: bytes, chance: random.Random) -> bytes:
    """Change the card of an index, or its arrays, in a whole `.npz` file."""
    import io

    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = dict(file)
    name = chance.choice(sorted(arrays))
    if name == "card":
        card = odd_json(json.loads(bytes(arrays["card"])), chance)
        arrays["card"] = np.frombuffer(json.dumps(card).encode(), np.uint8)
    else:
        kind = chance.choice(("<f4", "<f2", "<i8", "u1", "<U3", "?", "<M8[s]"))
        odd = (
            np.zeros(0),
            arrays[name].reshape(-1),
            arrays[name][:1],
            arrays[name].view("u1"),
            np.zeros((2, 2, 2), kind),
        )
        arrays[name] = np.ascontiguousarray(chance.choice(odd))
        if arrays[name].dtype == np.float16:
            arrays[name] = arrays[name] * np.float16(chance.choice((np.nan, np.inf, 1, 0)))
    out = io.BytesIO()
    (np.savez if chance.random() < 0.5 else np.savez_compressed)(out, **arrays)
    return out.getvalue()


def _card_entry(bare: bytes, values: Any) -> bytes:
    if isinstance(values, dict):
        values["sha256"] = _checksum(bare, json.dumps(values))
    entry = bytes_field(1, b"musicgenre.card") + bytes_field(2, json.dumps(values).encode())
    return bytes_field(14, entry)


FRONT_ENDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("melspectrogram", {"segment_s": 1.0, "n_mels": 16}),
    ("mfcc", {"segment_s": 1.0}),
    ("picture", {"segment_s": 1.0, "size": 8}),
    ("waveform", {"segment_s": 1.0}),
    ("musicnn", {"weights": "none", "segment_s": 3.0}),
    ("joined", {"parts": [{"name": "table"}, {"name": "waveform", "segment_s": 1.0}]}),
)
"""Representations with small options, for bundles whose front end Python computes."""

BUNDLES: tuple[Mutation, ...] = (
    flipped,
    cut,
    sealed_graph,
    sealed_graph,
    sealed_graph,
    odd_card,
    odd_card,
    odd_front_end,
)
HEADS: tuple[Mutation, ...] = (flipped, cut, odd_head, odd_head)
INDEXES: tuple[Mutation, ...] = (flipped, cut, odd_index, odd_index)


def use_bundle(path: Path) -> None:
    """Hear two seconds of noise with a bundle."""
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype(np.float32)
    Classifier(str(path), threads=1).classify(sound, sample_rate_hz=8_000)


def use_head(path: Path) -> None:
    """Read a head and let it answer."""
    head = GenreHead.load(path)
    width = len(head.linear.weights)
    values = np.full((3, width), 0.5)
    head.score(values, values)
    head.timeline(values, values)


def use_index(path: Path) -> None:
    """Find the nearest tracks in an index, and look for one that is not in it."""
    index = SimilarityIndex.open(path)
    if len(index):
        index.nearest_to(0)
    index.find("no such track")


def damaged(
    content: bytes, mutations: tuple[Mutation, ...], count: int, seed: int
) -> Iterator[tuple[int, str, bytes]]:
    """Damage a file in `count` ways; gives number, name of the mutation and the bytes, the same for the same seed."""
    for number in range(count):
        chance = random.Random(f"{seed}/{number}")
        mutation = chance.choice(mutations)
        try:
            yield number, mutation.__name__, mutation(content, chance)
        except (ValueError, TypeError, OverflowError, KeyError):  # what no JSON or array can hold
            continue


def attack(
    content: bytes,
    suffix: str,
    mutations: tuple[Mutation, ...],
    use: Callable[[Path], None],
    folder: Path,
    *,
    count: int,
    seed: int,
) -> tuple[Counter[str], list[str]]:
    """Use `count` damaged copies of a file.

    Returns
    -------
    ends : Counter
        How often each mutation was answered or refused.
    faults : list of str
        What ended in another way, with what to repeat it by.
    """
    ends: Counter[str] = Counter()
    faults: list[str] = []
    path = folder / f"damaged{suffix}"
    for number, name, bad in damaged(content, mutations, count, seed):
        path.write_bytes(bad)
        try:
            use(path)
            ends[f"{name}: answered"] += 1
        except MusicgenreError as error:
            ends[f"{name}: refused"] += 1
            if not str(error).isprintable():
                faults.append(
                    f"{name} {number} of seed {seed}: a message that cannot be printed: {str(error)[:200]!r}"
                )
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            where = error.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            place = "" if where is None else f" in {where.tb_frame.f_code.co_filename}:{where.tb_lineno}"
            faults.append(f"{name} {number} of seed {seed}: {type(error).__name__}: {str(error)[:200]!r}{place}")
    return ends, faults


def save_front_end(path: Path, name: str, options: dict[str, Any]) -> Path:
    """Write a bundle whose front end Python computes: its logits are the mean of the features, twice."""
    front = create_representation(name, **options)
    shape = front.shape()
    graph = GraphBuilder("mean")
    features = graph.input("features", "float32", ["rows", *shape])
    mean = graph.op("ReduceMean", graph.reshape(features, [0, -1]), axes=[1], keepdims=1)
    graph.output(graph.op("Concat", mean, mean, axis=1), "logits", ["rows", 2])
    card = BundleCard(
        name=name,
        kind="classifier",
        labels=("a", "b"),
        sample_rate_hz=front.sample_rate_hz,
        segment_samples=front.sample_rate_hz,
        hop_samples=front.sample_rate_hz,
        front_end=front.settings(),
    )
    save_bundle(path, graph.build(), card)
    return path


def targets(folder: Path) -> list[tuple[str, bytes, str, tuple[Mutation, ...], Callable[[Path], None]]]:
    """Make small files of every kind: name, bytes, suffix, mutations, and how they are used."""
    from musicgenre.embedding.file import EmbeddingSettings, TrackEmbeddings, write_embeddings
    from tests.toy import save_toy, save_toy_ears

    found: list[tuple[str, bytes, str, tuple[Mutation, ...], Callable[[Path], None]]] = []
    for name, path in (
        ("classifier", save_toy(folder / "toy.onnx")),
        ("tagger", save_toy(folder / "tagger.onnx", thresholds=(0.5, 0.5))),
        ("ears", save_toy_ears(folder / "ears.onnx")),
        *((path.stem, path) for path in sorted((Path(__file__).parent / "data" / "before").glob("*.onnx"))),
    ):
        found.append((name, path.read_bytes(), ".onnx", BUNDLES, use_bundle))

    for representation, options in FRONT_ENDS:
        path = save_front_end(folder / f"{representation}.onnx", representation, options)
        found.append((f"on {representation}", path.read_bytes(), ".onnx", (odd_front_end, odd_card), use_bundle))

    head = replace(GenreHead.load_default(), name="own")
    found.append(("head", head.to_json().encode(), ".json", HEADS, use_head))

    rng = np.random.default_rng(0)
    tracks = TrackEmbeddings(
        EmbeddingSettings("toy-ears", "0" * 64, "embedding", "mean", "18"),
        ("one.wav", "two.wav", "three.wav"),
        rng.standard_normal((3, 4)).astype(np.float16),
        np.arange(3),
        np.arange(3),
        rng.integers(0, 256, (3, 32)).astype(np.uint8),
    )
    for suffix in (".npz", ".parquet"):
        write_embeddings(folder / f"index{suffix}", tracks)
        mutations = INDEXES if suffix == ".npz" else (flipped, cut)
        found.append((f"index{suffix}", (folder / f"index{suffix}").read_bytes(), suffix, mutations, use_index))
    return found


def main() -> None:
    """Damage files of every kind and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="damaged copies of each file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="names that hold this")
    chosen = parser.parse_args()

    n_faults = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, content, suffix, mutations, use in targets(folder):
            if chosen.only not in kind:
                continue
            start_s = time.monotonic()
            ends, faults = attack(content, suffix, mutations, use, folder, count=chosen.count, seed=chosen.seed)
            told = ", ".join(f"{end} {n}" for end, n in sorted(ends.items()))
            lines = [f"{kind} ({time.monotonic() - start_s:.0f} s): {told}; {len(faults)} faults", *faults]
            sys.stdout.write("\n  ".join(lines) + "\n")
            sys.stdout.flush()
            n_faults += len(faults)
    sys.exit(1 if n_faults else 0)


if __name__ == "__main__":
    main()
