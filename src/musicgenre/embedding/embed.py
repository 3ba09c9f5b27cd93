"""Embed tracks: one vector per track from what a network hears, many tracks in one file that can be added to."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from musicgenre._files import sha256_of, writing_result
from musicgenre._known_files import FileState
from musicgenre._locks import file_lock
from musicgenre._outputs import RESUME_OR_REPLACE, refuse_overwriting
from musicgenre._parallel import usable_cores
from musicgenre._text import nearest_name, printable
from musicgenre.audio import Level, LevelChoice, choose_level, parse_level
from musicgenre.bundle.container import MOST_MODEL_MB
from musicgenre.bundle.ears import BOTH, load_ears
from musicgenre.bundle.load import load_bundle
from musicgenre.bundle.store import DEFAULT_BUNDLE, ensure_bundle, is_bundle_name
from musicgenre.embedding.file import (
    EmbeddingSettings,
    Float16,
    HeardTrack,
    Library,
    Pool,
    What,
    check_output,
    empty_embeddings,
    read_embeddings,
    write_embeddings,
)
from musicgenre.errors import AudioError, BundleError, UsageError
from musicgenre.features.base import segment_samples
from musicgenre.features.registry import create_representation
from musicgenre.listening.batch import Failure, hear_many
from musicgenre.listening.classifier import DEFAULT_COVERAGE_S
from musicgenre.listening.framing import Coverage, Float32, Framing
from musicgenre.listening.hearing import Ear, Source
from musicgenre.models.head import GenreHead

NETWORKS = {"transformer": ("model",), "vggish": ("weights", "pca")}
"""Representations that embed, with the options that say where their weights lie: checksums say which they are."""

_ONE_VECTOR = {
    "transformer": "Take --set pool=model or pool=mean, and --set layers=last or the number of one layer",
    "vggish": "Take --set output=embedding or output=quantised, and --set pool=mean",
}
_MODELS = "'default', 'both', an embedding bundle such as msd-musicnn or discogs-effnet, vggish or transformer"
_TOGETHER_S = 60.0  # of sound given to a representation, which makes its own batches of it
_SAVE_EVERY_S = 60.0
_SAVING_SHARE = 20  # and no more than a twentieth of the time is spent on it


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """One track as a vector.

    Attributes
    ----------
    vector : float16 ndarray, shape (width,)
        The pooled output of the heard segments.
    warnings : tuple of str
        What was noticed on the way.
    """

    vector: Float16
    warnings: tuple[str, ...]


class Embedder:
    """Turns tracks into vectors. Loads its model once; safe to share between threads.

    Parameters
    ----------
    model : str
        `default` (MusiCNN), `both` (MusiCNNs, one vector behind the other), the name of an embedding bundle in the
        cache, or the path of one (`.onnx`); or the representation `vggish` or `transformer`.
    options : mapping, optional
        Options of the representation, as `{"model": "facebook/wav2vec2-base", "layers": 6}`; a bundle has none.
    what : {"embedding", "tags"}
        The bundle's output to take: its penultimate layer, or tag probabilities.
    pool : {"mean", "max", "mean-max"}
        How the heard segments (VGGish: examples of 0.96 s) become one vector.
    coverage : float, `full` or None
        Seconds of each track to hear, evenly spread, or `full`. None: `full` for a representation, else the
        default of classification.
    threads : int, optional
        Threads that one inference may use; all cores by default.
    level : float, `off`, Level or None
        RMS in dBFS that every track is brought to before it is heard, or `off` for tracks as they are. None: the level
        of the default model, or what a bundle's card says; tracks as they are for all that have none.
    max_duration_s : float, optional
        Length of the longest file that is heard, in seconds; `inf` for any. By default a day.
    max_model_mb : int
        How large a bundle's file may be, and how much memory it may need, in millions of bytes.

    Raises
    ------
    BundleError
        When the model is missing, damaged or has no embeddings.
    UsageError
        When one of the other values is not valid.
    MissingExtraError
        When the representation needs an extra that is not installed.
    """

    def __init__(
        self,
        model: str = "default",
        *,
        options: Mapping[str, Any] | None = None,
        what: What = "embedding",
        pool: Pool = "mean",
        coverage: float | str | None = None,
        threads: int | None = None,
        level: float | str | Level | None = None,
        max_duration_s: float | None = None,
        max_model_mb: int = MOST_MODEL_MB,
    ) -> None:
        for name, value, valid in (("what", what, get_args(What)), ("pool", pool, get_args(Pool))):
            if value not in valid:
                raise UsageError(f"{name} {value!r} is not known", valid=f"{', '.join(valid)}")
        is_network = model in NETWORKS
        if is_network and what != "embedding":
            raise UsageError(f"{model} gives no {what}", valid="embedding", next_step="Bundles such as msd-musicnn do")
        if options and not is_network:
            raise UsageError(
                f"{model} is a bundle, which takes no options: {', '.join(options)}",
                valid=f"Options of {' or '.join(NETWORKS)}",
            )

        if coverage is None and not is_network:
            coverage = DEFAULT_COVERAGE_S
        heard = Coverage.parse(coverage, max_duration_s)
        wanted = level if isinstance(level, Level) else parse_level(level)
        if is_network:
            self._ear, maker = network_ear(model, options or {}, heard, threads, wanted)
        else:
            self._ear, maker = _bundle_ear(model, heard, threads, wanted, max_model_mb)

        written_coverage = "full" if heard.seconds is None else f"{heard.seconds:.12g}"
        self._settings = EmbeddingSettings(**maker, what=what, pool=pool, coverage=written_coverage)

    @property
    def settings(self) -> EmbeddingSettings:
        """What the embeddings are made with."""
        return self._settings

    def embed(self, source: Source, *, sample_rate_hz: int | None = None) -> Embedding:
        """Hear one track.

        Parameters
        ----------
        source : path, binary file object or ndarray
            The track. An array holds samples in [-1, 1], shape (n_samples,) or (n_samples, n_channels).
        sample_rate_hz : int
            Rate of an array; required for arrays, refused for anything else.

        Raises
        ------
        AudioError
            When the source cannot be heard.
        """
        heard = self._ear.hear(source, sample_rate_hz=sample_rate_hz)
        rows = heard.outputs[self._settings.what]

        # What float16 cannot hold becomes infinite, and is refused below by the name of the track.
        with np.errstate(invalid="ignore", over="ignore"):
            parts = []
            if self._settings.pool != "max":
                parts.append(rows.mean(axis=0, dtype=np.float64))
            if self._settings.pool != "mean":
                parts.append(rows.max(axis=0))
            vector = np.concatenate(parts).astype(np.float32).astype(np.float16)

        if not np.isfinite(vector).all():
            raise AudioError(
                f"{source if isinstance(source, str | Path) else 'the sound'} gives no embedding that is a number",
                valid="Samples near full scale, which is 1",
                next_step="Divide its samples by their largest; if every track fails so, get or export the model anew",
            )
        return Embedding(vector, heard.warnings)


@dataclass(frozen=True, slots=True)
class EmbedReport:
    """What became of the tracks.

    Attributes
    ----------
    embedded, reused : int
        Tracks heard now, and tracks the file held already.
    failures : tuple of Failure
        Tracks that could not be heard, and why.
    warnings : tuple of (str, str)
        Tracks with what was noticed about them.
    """

    embedded: int
    reused: int
    failures: tuple[Failure, ...]
    warnings: tuple[tuple[str, str], ...]


def embed_tracks(
    paths: Sequence[str],
    embedder: Embedder,
    output: Path,
    *,
    jobs: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EmbedReport:
    """Embed tracks into one file; it is whole at any time, and can be added to later.

    Parameters
    ----------
    paths : sequence of str
        The tracks.
    embedder : Embedder
        Hears them.
    output : Path
        The file; ends in `.npz`, or in `.parquet` where pyarrow is installed.
    jobs : int
        Tracks at a time.
    resume : bool
        Add to an existing `.npz` file: its tracks are not heard again unless their files changed.
    overwrite : bool
        Replace an existing file.
    progress : callable
        Told (tracks done, tracks in all).

    Returns
    -------
    EmbedReport

    Raises
    ------
    UsageError
        When the file exists and neither `resume` nor `overwrite` is given, cannot be written, or was made with
        another model or other settings.
    DataError
        When the file to go on with is damaged, or another process writes it.
    """
    _refuse_output(output, paths, resume=resume, overwrite=overwrite)
    with file_lock(output, "'musicgenre embed'"):
        _refuse_output(output, paths, resume=resume, overwrite=overwrite)  # again: it may have been written meanwhile
        library = _library_for(output, embedder.settings, resume=resume)
        missing = [path for path in paths if not library.knows(path)]
        done = n_reused = len(paths) - len(missing)
        progress(done, len(paths))

        failures: list[Failure] = []
        warnings: list[tuple[str, str]] = []
        saver = _Saver(library, output)
        try:
            with closing(hear_many(missing, partial(embed_file, embedder), jobs=jobs)) as results:
                for result in results:
                    if isinstance(result, Failure):
                        failures.append(result)
                    else:
                        track, noticed = result
                        library.add(track)
                        warnings += [(track.path, warning) for warning in noticed]
                    done += 1
                    progress(done, len(paths))
                    saver.save_now_and_then()
        finally:
            saver.save()  # Ctrl-C and errors too: what was heard is kept

    return EmbedReport(done - n_reused - len(failures), n_reused, tuple(failures), tuple(warnings))


def embed_file(embedder: Embedder, path: str) -> tuple[HeardTrack, tuple[str, ...]]:
    """Embed one file, with what it is recognised by, and tell what was noticed on the way.

    Raises
    ------
    AudioError
        When it cannot be heard, or is no file.
    """
    # Size and time are taken before, so that a change meanwhile is noticed next time.
    file = Path(path)
    state = FileState.of(file) if file.is_file() else None
    embedding = embedder.embed(path)  # knows how to say what is wrong with something that is no file
    if state is None:
        raise AudioError(f"{printable(path)} is not a file")
    return HeardTrack(path, embedding.vector, state, sha256_of(file)), embedding.warnings


class _Saver:
    """Writes the file at the end, and on the way often enough that a power cut costs little."""

    def __init__(self, library: Library, output: Path) -> None:
        self._library = library
        self._output = output
        self._next_s = time.monotonic() + _SAVE_EVERY_S

    def save_now_and_then(self) -> None:
        """Save if it is time to; the longer saving takes, the longer until the next time."""
        start_s = time.monotonic()
        if start_s < self._next_s:
            return
        self.save()
        end_s = time.monotonic()
        self._next_s = end_s + max(_SAVE_EVERY_S, _SAVING_SHARE * (end_s - start_s))

    def save(self) -> None:
        """Save if there is anything new; a file without tracks is not written."""
        if self._library.changed and len(self._library):
            write_embeddings(self._output, self._library.tracks())
            self._library.changed = False


def _refuse_output(output: Path, paths: Sequence[str], *, resume: bool, overwrite: bool) -> None:
    """Refuse what cannot be written, before anything is heard."""
    check_output(output)
    if resume and overwrite:
        raise UsageError("resuming and overwriting contradict each other", next_step="Give one of them")
    if resume and output.suffix.lower() != ".npz":
        raise UsageError(f"{output} cannot be resumed", valid="Files that end in .npz can")
    refuse_overwriting(output, overwrite=resume or overwrite, inputs=paths, next_step=RESUME_OR_REPLACE)

    # Found out now, not after hours of listening.
    with writing_result(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output.parent):
            pass


def _library_for(output: Path, settings: EmbeddingSettings, *, resume: bool) -> Library:
    """Read the file to go on with, or begin with nothing."""
    if not resume or not output.exists():
        return Library(empty_embeddings(settings))

    tracks = read_embeddings(output, mapped=False)  # where files are locked while mapped, it could not be replaced
    if tracks.settings != settings:
        raise UsageError(
            f"{output} was made with other settings: {difference(tracks.settings, settings)}",
            valid="Embeddings in one file are made alike",
            next_step="Choose the same settings, another --output, or --overwrite",
        )
    return Library(replace(tracks, settings=settings))  # equal ones; where the weights lie may be new


def difference(theirs: EmbeddingSettings, ours: EmbeddingSettings) -> str:
    """Say where two settings differ, as `pool mean, not max`."""
    if theirs.model != ours.model:
        return f"model {printable(theirs.model)}, not {printable(ours.model)}"

    names = ["what", "pool", "coverage", "level", "options"]
    if theirs.model_sha256 != ours.model_sha256:
        names = ["location", "model_sha256", *names]
    their_words, our_words = _in_words(theirs, names), _in_words(ours, names)

    parts = []
    for name in dict.fromkeys((*their_words, *our_words)):
        one, other = their_words.get(name, "none"), our_words.get(name, "none")
        if their_words.get(name) != our_words.get(name):
            parts.append(f"{name} {printable(one)}, not {printable(other)}")
    return "; ".join(parts)


def _in_words(settings: EmbeddingSettings, names: Sequence[str]) -> dict[str, str]:
    """Settings as a message names them; options as they are given, `--set layers`."""
    words: dict[str, str] = {}
    for name in names:
        value = getattr(settings, name)
        if isinstance(value, Mapping) and value:
            words.update({f"--set {key}": str(part) for key, part in value.items()})
        elif name == "level":
            words[name] = "off" if value is None else f"{value.target_db:g} dBFS, {value.most_gain_db:g} dB up at most"
        else:
            words[name.replace("_", " ")] = str(value)
    return words


def _bundle_ear(
    model: str, coverage: Coverage, threads: int | None, level: LevelChoice, max_model_mb: int
) -> tuple[Ear, dict[str, Any]]:
    """Load a bundle, or both MusiCNNs; with it what the settings say of it."""
    if model == BOTH:
        bundle = load_ears(BOTH, threads=threads)
    elif Path(model).suffix == ".onnx":
        bundle = load_bundle(Path(model), threads=threads, max_model_mb=max_model_mb)
    else:
        name = DEFAULT_BUNDLE if model == "default" else model
        try:
            path = ensure_bundle(name)
        except (BundleError, UsageError):
            if is_bundle_name(name):  # its weights cannot be had: the error says how they can
                raise
            raise _no_bundle(name) from None
        bundle = load_bundle(path, threads=threads, max_model_mb=max_model_mb)

    card = bundle.card
    if card.kind != "embedding":
        raise BundleError(f"{card.name} gives no embeddings: it is a {card.kind}", valid=_MODELS)
    own = GenreHead.load_default().level if model in ("default", BOTH) else card.hearing_level
    chosen = choose_level(level, own)
    ear = Ear(Framing.of(card), coverage, bundle.run, level=chosen)
    return ear, {"model": card.name, "model_sha256": card.sha256, "level": chosen}


def _no_bundle(name: str) -> BundleError:
    """Make the error for a name that is no bundle: what it is, and how it is embedded where it can be."""
    from musicgenre.models.cards import list_cards

    model_of = {card.name: card.model for card in list_cards()}
    kind = model_of.get(name, name if name in model_of.values() else "")
    if kind == "transformer" or Path(name).is_dir() or ("/" in name and not kind):
        next_step = f"Take a model of the hub or a folder with: --model transformer --set model={name}"
    elif kind == "vggish":
        next_step = "Take it with: --model vggish"
    elif kind.startswith("musicnn"):
        bundles = [card for card, model in model_of.items() if model == kind]
        next_step = f"Take it with: --model {' or --model '.join(bundles)}"
    elif kind:
        next_step = f"{kind} sees pictures; it can be trained further (see docs/imagenet.md), not embed sound"
    else:
        near = nearest_name(name, [*NETWORKS, BOTH, *model_of])
        nearest = f"; the nearest name is {near}" if near else ""
        next_step = f"musicgenre bundles list shows the bundles there are{nearest}"

    return BundleError(f"there is no bundle {name!r} to embed with", valid=_MODELS, next_step=next_step)


def network_ear(
    name: str,
    options: Mapping[str, Any],
    coverage: Coverage,
    threads: int | None,
    level: LevelChoice = "off",
) -> tuple[Ear, dict[str, Any]]:
    """Load a representation and let it hear tracks segment by segment.

    Parameters
    ----------
    name : str
        One of `NETWORKS`.
    options : mapping
        What the representation takes.
    coverage : Coverage
        How much of a track is heard.
    threads : int, optional
        Threads that one inference may use; all cores by default.
    level : LevelChoice
        What tracks are brought to; a representation has no level of its own.

    Returns
    -------
    Ear
        Gives `embedding`; of a track that is heard in full its mean is what `TrackSound.whole` gives.
    dict
        `model`, `model_sha256`, `options`, `location` and `level` of the embeddings' settings.

    Raises
    ------
    UsageError
        When an option is not valid, or the array of a segment is no vector.
    BundleError
        When the weights cannot be had or do not fit.
    MissingExtraError
        When the extra is not installed.
    """
    made: Any = create_representation(name, **options)
    if len(made.shape()) != 1:
        raise UsageError(
            f"{name} with these options gives an array of shape {made.shape()}",
            valid="One vector per segment",
            next_step=_ONE_VECTOR[name],
        )
    made.load()

    # One that takes tracks of any length says in which pieces it hears them.
    piece, hop_s = (made, made.segment_s) if made.segment_s is not None else made.pieces()
    rate_hz = piece.sample_rate_hz
    n_threads = threads or usable_cores()

    def run(rows: Float32) -> dict[str, Float32]:
        return {"embedding": np.stack(piece.compute_many(list(rows), threads=n_threads))}

    framing = Framing(
        rate_hz, segment_samples(rate_hz, piece.segment_s), segment_samples(rate_hz, hop_s), repeat_short=False
    )
    chosen = choose_level(level, None)
    ear = Ear(framing, coverage, run, level=chosen, rows_at_once=max(1, int(_TOGETHER_S / hop_s)))

    # Settings are told apart: which weights, where they lie, and all else. A folder or file is named so that it is
    # found from other working folders too; other words and names of the hub stay.
    kept = {key: value for key, value in made.settings().items() if key not in ("name", "weights_sha256")}
    location = {}
    for key in NETWORKS[made.name]:
        if key in kept:
            place = kept.pop(key)
            path = Path(str(place)).expanduser()
            is_file = place not in ("published", "none") and path.exists()
            location[key] = str(path.absolute()) if is_file else place
    return ear, {
        "model": made.name,
        "model_sha256": made.weights_sha256,
        "options": kept,
        "location": location,
        "level": chosen,
    }
