"""The file around a model: an ONNX file whose metadata holds the card, sealed with a checksum over both.

Protobuf messages may be extended by appending fields: the card is one `metadata_props` entry behind the model's own
bytes, so sealing and opening need neither `onnx` nor a session.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from musicgenre._files import write_bytes_atomic
from musicgenre._protobuf import ProtobufError, bytes_field, fields
from musicgenre._text import did_you_mean_path
from musicgenre.bundle.card import BundleCard
from musicgenre.errors import BundleError

CARD_KEY = "musicgenre.card"
MOST_MODEL_MB = 4_000
"""How large a model may be, and how much memory it may need, unless more is allowed (`--max-model-mb`)."""

GRAPH_FIELD = 7  # ModelProto.graph
_METADATA_FIELD = 14  # ModelProto.metadata_props
_KEY_FIELD, _VALUE_FIELD = 1, 2  # StringStringEntryProto
_MOST_FIELDS = 10_000  # of a model, beside those of its graph


def seal(model: bytes, card: BundleCard) -> bytes:
    """Join a model and its card into the bytes of a bundle.

    Parameters
    ----------
    model : bytes
        An ONNX file.
    card : BundleCard
        Its card; the checksum is filled in.
    """
    bare, _ = _split(model, "the model")
    text = replace(card, sha256=_checksum(bare, card.to_json())).to_json()

    entry = bytes_field(_KEY_FIELD, CARD_KEY.encode()) + bytes_field(_VALUE_FIELD, text.encode("utf-8"))
    return bare + bytes_field(_METADATA_FIELD, entry)


def save_bundle(path: Path, model: bytes, card: BundleCard, *, overwrite: bool = True) -> None:
    """Write a bundle, atomically.

    Parameters
    ----------
    path : Path
        The file to write; ends in `.onnx`.
    model : bytes
        An ONNX file that follows the bundle contract (`docs/bundles.md`).
    card : BundleCard
        Its card.
    overwrite : bool
        Without it a file that is there stays, and FileExistsError says so.
    """
    write_bytes_atomic(path, seal(model, card), overwrite=overwrite)


def read_sealed(path: Path, *, most_mb: int = MOST_MODEL_MB) -> tuple[bytes, BundleCard]:
    """Read a bundle's bytes and its card, checked against the checksum.

    Parameters
    ----------
    path : Path
        The file.
    most_mb : int
        How large it may be, in millions of bytes.

    Raises
    ------
    BundleError
        When the file is missing, too large, not a bundle, from a newer version, or changed since it was sealed.
    """
    try:
        size = path.stat().st_size
        if size > most_mb * 1_000_000:
            raise BundleError(
                f"{path} is too large ({size // 1_000_000:,} MB)",
                valid=f"up to {most_mb:,} MB",
                next_step="If you know whose it is and need it, allow more with --max-model-mb",
            )
        content = path.read_bytes()
    except FileNotFoundError:
        raise BundleError(
            f"there is no bundle at {path}",
            next_step=f"{did_you_mean_path(path)}musicgenre bundles list shows what there is",
        ) from None
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror})") from error

    bare, text = _split(content, str(path))
    if text is None:
        raise BundleError(
            f"{path} is an ONNX file without a musicgenre card",
            next_step="Only bundles made by musicgenre can be loaded: see docs/bundles.md",
        )

    # The card is read first: a bundle from a newer version is to say so, not that it is damaged.
    card = BundleCard.from_json(text, str(path))
    if card.sha256 != _checksum(bare, text):
        raise BundleError(f"{path} does not match its checksum: it is damaged", next_step="Get or export it anew")
    return content, card


def _split(content: bytes, where: str) -> tuple[bytes, str | None]:
    """Split a file into everything but the card, and the card's text if there is one."""
    kept: list[bytes] = []
    text = None
    has_graph = False
    try:
        for number, value, (start, end) in fields(content):
            if number == _METADATA_FIELD and isinstance(value, bytes):
                entry = {field: part for field, part, _ in fields(value)}
                said = entry.get(_VALUE_FIELD, b"")
                if entry.get(_KEY_FIELD) == CARD_KEY.encode() and isinstance(said, bytes):
                    if text is not None:
                        raise ProtobufError("two cards")
                    text = said.decode("utf-8")
                    continue

            kept.append(content[start:end])
            has_graph = has_graph or number == GRAPH_FIELD
            if len(kept) > _MOST_FIELDS:
                raise ProtobufError("too many fields")
    except (ProtobufError, UnicodeDecodeError):
        has_graph = False

    if not has_graph:
        raise BundleError(f"{where} is not an ONNX file, or it is cut short", next_step="Get or export it anew")
    return b"".join(kept), text


def _checksum(bare: bytes, card: str) -> str:
    """Hash the model and the card without the card's own `sha256`."""
    values = json.loads(card) | {"sha256": ""}
    digest = hashlib.sha256(bare)
    digest.update(json.dumps(values, ensure_ascii=False, sort_keys=True).encode("utf-8"))
    return digest.hexdigest()
