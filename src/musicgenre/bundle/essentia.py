"""Bundles of Essentia's published networks: Discogs-EffNet, and heads on its embedding or on MSD-MusiCNN's.

A bundle holds our front end, the names of the outputs and the terms. The published file lies beside it as it is, and
is never fetched before somebody agreed to its terms.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicgenre._files import write_bytes_atomic
from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.stages import Stage, check_graph
from musicgenre.errors import BundleError, UsageError
from musicgenre.features.published.essentia.files import (
    MOST_METADATA_BYTES,
    MOST_MODEL_BYTES,
    Metadata,
    fetch,
    is_as_published,
    kept_path,
    parse_metadata,
    read_source,
)
from musicgenre.features.published.essentia.network import effnet_ports, front_graph, head_ports
from musicgenre.features.published.essentia.published import (
    EFFNET,
    EFFNET_CITATION,
    EMBEDDING_WIDTH,
    HEADS_CITATION,
    HOP_SAMPLES,
    LEAD_SAMPLES,
    LICENCE,
    METADATA_FILE,
    MODEL_FILE,
    MUSICNN,
    MUSICNN_HOP_SAMPLES,
    MUSICNN_WIDTH,
    SEGMENT_SAMPLES,
    SPEC,
    STYLES_WIDTH,
    TAIL_SAMPLES,
    PublishedFile,
    head_files,
)

Report = Callable[[str], None]

UNSURE_BELOW = 0.3
"""Probability of the likeliest style below which no genre is named: chosen, not measured."""

HEAD_UNSURE_BELOW = 0.5
"""The same of a head that names one class: chosen, not measured."""

_EARS = {EMBEDDING_WIDTH: EFFNET, MUSICNN_WIDTH: MUSICNN}
_UNCALIBRATED = "'unsure' is said below a probability of {:g}, which was chosen and not calibrated."


@dataclass(frozen=True, slots=True)
class Brought:
    """Model and metadata, wherever they came from.

    Attributes
    ----------
    model, metadata : bytes
        Their content.
    origin : str
        Where they came from and whether they are what was published, in words.
    """

    model: bytes
    metadata: bytes
    origin: str


def terms_of(name: str) -> str:
    """Say what somebody agrees to who gets a bundle of Essentia's: whose work it is, on which terms."""
    what, citation = f"{name}: a head of Essentia's", HEADS_CITATION
    if name == EFFNET:
        what, citation = "Discogs-EffNet: 400 styles in 15 genres", EFFNET_CITATION
    elif head_files(name) is None:
        what = f"{name}: a head in Essentia's form"
    return f"{what}\n{citation}\nLicence: {_licence_of(name)}"


def check_is_published(name: str) -> None:
    """Refuse a name that is none of Essentia's.

    Raises
    ------
    UsageError
        When neither Discogs-EffNet nor a published head is called so.
    """
    if name != EFFNET and head_files(name) is None:
        raise UsageError(
            f"no published model is called {name!r}",
            valid=f"{EFFNET}, or a head such as mtg_jamendo_genre-{EFFNET}-1 or genre_dortmund-{MUSICNN}-1",
            next_step="A head of your own comes with --from FILE.onnx --labels FILE.json",
        )


def name_of_source(source: Path) -> str:
    """Name the bundle that a file makes where nobody names it."""
    return EFFNET if source.stem.startswith(EFFNET) else source.stem


def make_bundle(
    name: str,
    *,
    source: Path | None = None,
    labels: Path | None = None,
    unverified: bool = False,
    report: Report = lambda _: None,
) -> tuple[bytes, BundleCard]:
    """Bring the published files, check them, keep them, and make the bundle of them.

    Parameters
    ----------
    name : str
        `discogs-effnet`, a published head such as `genre_dortmund-msd-musicnn-1`, or with `source` any name.
    source : Path, optional
        The `.onnx` file, or for Discogs-EffNet a folder with both its files; fetched unless given.
    labels : Path, optional
        The `.json` file; by default the one beside `source` of the same name.
    unverified : bool
        Whether Discogs-EffNet may have another checksum than the published one.
    report : callable
        Told what is going on, one line at a time.

    Returns
    -------
    bytes, BundleCard
        What `musicgenre.bundle.save_bundle` takes.

    Raises
    ------
    BundleError
        When the files cannot be had, are others than published, or have another form.
    UsageError
        When there is no such published name and no file was given.
    """
    if name == EFFNET:
        return _make_effnet(_bring(MODEL_FILE, METADATA_FILE, source, labels, unverified, report))

    if source is None:
        check_is_published(name)
    files = head_files(name) or (PublishedFile(f"{name}.onnx", ""), PublishedFile(f"{name}.json", ""))
    return _make_head(name, files, _bring(*files, source, labels, unverified, report), report)


def _bring(
    model: PublishedFile,
    metadata: PublishedFile,
    source: Path | None,
    labels: Path | None,
    unverified: bool,
    report: Report,
) -> Brought:
    """Fetch both files, or read them where someone has them, and compare their checksums."""
    if source is None:
        report(f"fetching {model.url}")
        contents = (
            fetch(model, most=MOST_MODEL_BYTES, report=report),
            fetch(metadata, most=MOST_METADATA_BYTES, report=report),
        )
        origin = model.url
    else:
        if source.is_dir():
            source = source / model.name
        contents = (
            read_source(source, most=MOST_MODEL_BYTES),
            read_source(labels or source.with_suffix(".json"), most=MOST_METADATA_BYTES),
        )
        origin = f"{source.name}, a file on this machine"

    checked = []
    for published, content in zip((model, metadata), contents, strict=True):
        if not published.sha256:
            checked.append(f"no published checksum of {published.name} is known, so it was compared with none")
        elif not is_as_published(published, content, unverified=unverified):
            checked.append(f"UNVERIFIED: {published.name} has another sha256 than the published file")
    report("; ".join(checked) or "both checksums are the published ones")
    return Brought(*contents, "; ".join([origin, *(checked or ["both checksums as published"])]))


def _make_effnet(brought: Brought) -> tuple[bytes, BundleCard]:
    """Make the bundle of Discogs-EffNet, and keep its files."""
    metadata = parse_metadata(brought.metadata, METADATA_FILE.name)
    check_graph(brought.model, MODEL_FILE.name)
    ports = effnet_ports(brought.model, MODEL_FILE.name)
    if len(metadata.classes) != STYLES_WIDTH:
        raise BundleError(
            f"the metadata names {len(metadata.classes)} classes, and the model gives {STYLES_WIDTH}",
            valid=f"{METADATA_FILE.name}, sha256 {METADATA_FILE.sha256}",
        )

    body = Stage(
        file=MODEL_FILE.name,
        sha256=hashlib.sha256(brought.model).hexdigest(),
        reads="patches",
        input=ports.input,
        outputs=ports.outputs,
    )
    card = BundleCard(
        name=EFFNET,
        kind="embedding",
        labels=metadata.classes,
        tags=metadata.classes,
        activation="sigmoid",
        unsure_threshold=UNSURE_BELOW,
        stages=(body.as_values(),),
        citation=EFFNET_CITATION,
        notes=f"A genre is as probable as the likeliest of its styles. {_UNCALIBRATED.format(UNSURE_BELOW)}",
        **_shared(EFFNET, brought, (MODEL_FILE, METADATA_FILE)),
        **_effnet_framing(),
    )
    _keep((MODEL_FILE, METADATA_FILE), brought)
    return front_graph(), card


def _make_head(
    name: str, files: tuple[PublishedFile, PublishedFile], brought: Brought, report: Report
) -> tuple[bytes, BundleCard]:
    """Make the bundle of a head on the ears that it was trained on, and keep its files."""
    model, labels = files
    metadata = parse_metadata(brought.metadata, labels.name)
    check_graph(brought.model, model.name)
    ports, width, names_one = head_ports(brought.model, len(metadata.classes), metadata.predictions, model.name)
    ears = _ears_of(width, metadata, model.name)

    stages: list[Stage] = []
    if ears == EFFNET:
        graph, framing, reads = front_graph(), _effnet_framing(), "embedding"
        stages.append(_effnet_stage(name))
    else:
        graph, framing, reads = _musicnn_graph(report), _musicnn_framing(), "dense"

    head = Stage(
        file=model.name,
        sha256=hashlib.sha256(brought.model).hexdigest(),
        reads=reads,
        input=ports.input,
        outputs=ports.outputs,
    )
    notes = [f"A head on the embedding of {ears}, heard as Essentia hears"]
    if metadata.description:
        notes.append(metadata.description)
    if names_one:
        notes.append(_UNCALIBRATED.format(HEAD_UNSURE_BELOW))
    card = BundleCard(
        name=name,
        kind="classifier",
        labels=metadata.classes,
        activation="none",
        task="single_label" if names_one else "multi_label",
        unsure_threshold=HEAD_UNSURE_BELOW if names_one else 0.0,
        stages=tuple(stage.as_values() for stage in [*stages, head]),
        citation=HEADS_CITATION,
        notes=". ".join(note.rstrip(".") for note in notes) + ".",
        **_shared(name, brought, files),
        **framing,
    )
    _keep(files, brought)
    return graph, card


def _licence_of(name: str) -> str:
    """The terms of a model; who made a head under a name that is not published is not known."""
    if name == EFFNET or head_files(name) is not None:
        return LICENCE
    return f"not stated: ask whoever made it. Essentia's own, and Discogs-EffNet that such heads stand on: {LICENCE}"


def _ears_of(width: int, metadata: Metadata, where: str) -> str:
    """Tell which network's embedding a head reads: by its width, and by what its metadata says."""
    ears = _EARS.get(width)
    said = metadata.embedding_model
    if ears is None or (said and not said.startswith(ears)):
        embedding = f"{width} numbers" + (f" of {said}" if said else "")
        raise BundleError(
            f"{where} reads an embedding of {embedding}, which nothing here gives",
            valid=f"{EMBEDDING_WIDTH} numbers of {EFFNET}, or {MUSICNN_WIDTH} of {MUSICNN}",
        )
    return ears


def _effnet_stage(name: str) -> Stage:
    """The stage of Discogs-EffNet as it is kept here, for a head to stand on."""
    path = kept_path(MODEL_FILE.name)
    if not path.is_file():
        raise BundleError(
            f"{name} reads the embedding of {EFFNET}, which is not on this machine",
            next_step=f"First: musicgenre bundles get {EFFNET}",
        )
    model = read_source(path, most=MOST_MODEL_BYTES)
    ports = effnet_ports(model, MODEL_FILE.name)
    return Stage(
        file=MODEL_FILE.name,
        sha256=hashlib.sha256(model).hexdigest(),
        reads="patches",
        input=ports.input,
        outputs={"embedding": ports.outputs["embedding"]},
    )


def _musicnn_graph(report: Report) -> bytes:
    """MSD-MusiCNN up to its dense layer, behind Essentia's front end: what heads on it were trained on."""
    from musicgenre.features.published.musicnn.graph import patch_graph
    from musicgenre.features.published.musicnn.published import published
    from musicgenre.features.published.musicnn.weights import read_variables

    model = published(MUSICNN)
    variables = read_variables([model], report=report)[MUSICNN]
    return patch_graph(model.family, variables.__getitem__, ("dense",), spec=SPEC)


def _effnet_framing() -> dict[str, Any]:
    """How tracks are cut for Discogs-EffNet, as a card says it."""
    return {
        "sample_rate_hz": SPEC.sample_rate_hz,
        "segment_samples": SEGMENT_SAMPLES,
        "hop_samples": HOP_SAMPLES,
        "lead_samples": LEAD_SAMPLES,
        "tail_samples": TAIL_SAMPLES,
    }


def _musicnn_framing() -> dict[str, Any]:
    """How Essentia cuts tracks for MusiCNN, as a card says it."""
    from musicgenre.features.published.musicnn.published import SEGMENT_SAMPLES as MUSICNN_SAMPLES

    return _effnet_framing() | {"segment_samples": MUSICNN_SAMPLES, "hop_samples": MUSICNN_HOP_SAMPLES}


def _shared(name: str, brought: Brought, files: tuple[PublishedFile, PublishedFile]) -> dict[str, Any]:
    """What the cards of all of Essentia's networks say: terms, origin, front end, checksums."""
    checksums = {}
    for published, content in zip(files, (brought.model, brought.metadata), strict=True):
        checksums[published.name] = hashlib.sha256(content).hexdigest()
    is_published = name == EFFNET or head_files(name) is not None
    maker = "Music Technology Group, Universitat Pompeu Fabra" if is_published else "not stated"
    return {
        "licence": _licence_of(name),
        "origin": f"{maker}: {brought.origin}",
        "front_end": SPEC.as_dict(),
        "source_sha256": checksums,
    }


def _keep(files: tuple[PublishedFile, PublishedFile], brought: Brought) -> None:
    """Keep both files as they came."""
    for published, content in zip(files, (brought.model, brought.metadata), strict=True):
        path = kept_path(published.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(path, content)
