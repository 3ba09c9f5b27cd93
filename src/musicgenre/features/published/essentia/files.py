"""The files of Essentia's networks as they were published: fetched when someone agreed to their terms, then kept.

They lie in `weights/essentia` of the cache folder, byte for byte.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicgenre._files import cache_folder
from musicgenre._json import parsed_json
from musicgenre._text import did_you_mean_path, printable
from musicgenre.errors import BundleError
from musicgenre.features.published.essentia.published import EFFNET, MODEL_FILE, PublishedFile

Report = Callable[[str], None]

MOST_MODEL_BYTES = 100_000_000
MOST_METADATA_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the `.json` file beside a model says.

    Attributes
    ----------
    classes : tuple of str
        Names of the outputs, in order.
    predictions : str
        Name of the output that holds the predictions, empty where it is not said.
    embedding_model : str
        The model whose embedding a head reads, empty where it is not said.
    description : str
        What it is, in words.
    """

    classes: tuple[str, ...]
    predictions: str = ""
    embedding_model: str = ""
    description: str = ""


def kept_path(file: str) -> Path:
    """Where a published file is kept, or would be."""
    return cache_folder() / "weights" / "essentia" / file


def read_effnet() -> bytes:
    """Read the kept file of Discogs-EffNet.

    Raises
    ------
    BundleError
        When it is not there; it is never fetched unasked.
    """
    try:
        return kept_path(MODEL_FILE.name).read_bytes()
    except FileNotFoundError:
        raise BundleError(
            f"{EFFNET} is not on this machine",
            next_step=f"musicgenre bundles get {EFFNET} shows its terms and gets it; it is never fetched unasked",
        ) from None
    except OSError as error:
        raise BundleError(f"{kept_path(MODEL_FILE.name)} cannot be read ({error.strerror})") from error


def fetch(published: PublishedFile, *, most: int, report: Report) -> bytes:
    """Fetch a published file.

    Parameters
    ----------
    published : PublishedFile
        The file.
    most : int
        Bytes that it cannot have more of.
    report : callable
        Told what is going on, one line at a time.

    Raises
    ------
    BundleError
        When it cannot be had; the message says how it is brought by hand.
    """
    # Whoever only hears has no need of what speaks to servers.
    from http.client import HTTPException

    from musicgenre._telling import telling
    from musicgenre._transfer import lines, opened, receive

    sink = io.BytesIO()
    try:
        with telling(report), opened(published.url) as response:
            receive(response, sink, most=most, progress=lines(published.name))
    except (OSError, HTTPException, ValueError) as error:
        raise BundleError(
            f"{published.url} could not be fetched ({error})",
            next_step=f"Fetch {published.name} and the .json beside it elsewhere, then: musicgenre bundles get --from "
            f"{published.name}",
        ) from error
    return sink.getvalue()


def read_source(path: Path, *, most: int) -> bytes:
    """Read a published file that someone brought.

    Raises
    ------
    BundleError
        When it cannot be read, or is larger than such a file can be.
    """
    try:
        if path.stat().st_size > most:
            raise BundleError(f"{path} has {path.stat().st_size:,} bytes", valid=f"{most:,} bytes at most")
        return path.read_bytes()
    except FileNotFoundError:
        raise BundleError(
            f"{path} does not exist",
            next_step=f"{did_you_mean_path(path)}A model needs its .onnx file, and the .json file of its labels "
            "beside it or named by --labels",
        ) from None
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror})") from error


def is_as_published(published: PublishedFile, content: bytes, *, unverified: bool) -> bool:
    """Tell whether a file is the published one by its checksum.

    Raises
    ------
    BundleError
        When it is another one and `unverified` does not let it pass.
    """
    found = hashlib.sha256(content).hexdigest()
    if not published.sha256 or found == published.sha256:
        return bool(published.sha256)
    if unverified:
        return False
    raise BundleError(
        f"{published.name} is not the published file: its sha256 is {found}",
        valid=published.sha256,
        next_step="Fetch it again; --unverified takes a file of the same form with another checksum",
    )


def parse_metadata(content: bytes, where: str) -> Metadata:
    """Read the metadata of a model: Essentia's form, of which `classes` alone is needed.

    Raises
    ------
    BundleError
        When it is no JSON, or names no classes that can be told apart and shown.
    """
    try:
        values = parsed_json(content, storable=True)
    except ValueError as error:
        raise BundleError(
            f"{where} is not JSON ({error})", valid="the .json file that is published beside the model"
        ) from error

    classes = values.get("classes") if isinstance(values, dict) else None
    if not isinstance(classes, list) or not classes:
        raise BundleError(f"{where} names no classes", valid='JSON such as {"classes": ["Blues---Piano Blues", ...]}')
    for name in classes:
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise BundleError(f"{where} has the class {printable(repr(name))}", valid="printable names")
    if len(set(classes)) != len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise BundleError(f"{where} has the class {twice!r} twice", valid="names that differ")

    predictions = ""
    for output in _list_in(values, "schema", "outputs"):
        if isinstance(output, dict) and output.get("output_purpose") == "predictions":
            predictions = str(output.get("name", ""))
    read = values.get("inference")
    embedding_model = read.get("embedding_model") if isinstance(read, dict) else None
    name = embedding_model.get("model_name") if isinstance(embedding_model, dict) else ""
    return Metadata(tuple(classes), predictions, str(name or ""), printable(str(values.get("description", ""))))


def _list_in(values: dict[str, Any], outer: str, inner: str) -> list[Any]:
    """Give a list within a mapping; an empty one where there is none."""
    found = values.get(outer)
    found = found.get(inner) if isinstance(found, dict) else None
    return found if isinstance(found, list) else []
