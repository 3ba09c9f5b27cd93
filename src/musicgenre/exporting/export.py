"""Export a run to a bundle, and check the bundle against the model as it was trained before it is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from musicgenre import audio
from musicgenre._files import writing_result
from musicgenre._outputs import refuse_overwriting
from musicgenre._text import how_many
from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.container import save_bundle
from musicgenre.bundle.load import read_card
from musicgenre.errors import AudioError, BundleError, UsageError
from musicgenre.exporting.exportable import EnsembleModel, Exportable, RunModel, Sound, noise
from musicgenre.exporting.support import known_music, tracks_at_hand
from musicgenre.listening.classifier import Classifier
from musicgenre.runs.folder import Run, files_of_runs, open_run

TOLERANCE = 1e-3
"""Largest difference in probability that an exported bundle may show against the training-time model."""

# Lengths at which a bundle is heard through the Classifier and held against the run, in seconds: around the clips that
# models of whole tracks learn from. For the others fewer will do, for networks such as transformers take their time;
# yet always one that is shorter than a segment and one that is longer.
_WHOLE_TRACKS_S = (5.0, 20.0, 29.0, 30.0, 90.0)
_SEGMENTS_S = (5.0, 20.0)
_SHORTER, _LONGER = 0.5, 1.5  # of a segment
_SHORTEST_S = 0.1  # what a resampler can make something of
_N_CHECKED_TRACKS = 5
_N_NOISE_ROWS = 8
_NOISE_SEED = 20_002
_SHOWN_RUNS = 5


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export made and how it was checked.

    Parameters
    ----------
    path : Path
        The bundle.
    card : BundleCard
        Its card.
    checked_on : tuple of str
        Names of the tracks that the bundle and the training-time model both heard; empty: noise was used.
    n_segments : int
        Segments compared.
    largest_difference : float
        Largest difference in probability.
    by_length : mapping of float to float
        Largest difference in probability between the answer to a track of so many seconds, sound in and answer out,
        and the run's own.
    """

    path: Path
    card: BundleCard
    checked_on: tuple[str, ...]
    n_segments: int
    largest_difference: float
    by_length: Mapping[float, float]

    def to_text(self) -> str:
        """Plain text for the terminal."""
        heard = "noise (no track of the manifest is at hand)"
        if self.checked_on:
            heard = how_many(len(self.checked_on), "track")
        heard += f", {how_many(self.n_segments, 'segment')}"
        size_mb = self.path.stat().st_size / 1e6
        lines = [
            f"{self.path} ({size_mb:.1f} MB): {', '.join(self.card.labels)}",
            f"  checked on {heard}: probabilities within {self.largest_difference:.1e} of the training-time model",
            f"  heard whole at {', '.join(f'{length_s:g}' for length_s in self.by_length)} s: within "
            f"{max(self.by_length.values()):.1e} of the run's own answer",
        ]

        for score in self.card.scores:
            leak = " (LEAKY)" if score["leaky"] else ""
            lines.append(
                f"  {score['metric']} {score['value']:.3f} "
                f"({score['interval']}: {score['low']:.3f} to {score['high']:.3f}), "
                f"protocol {score['protocol']}{leak}, {how_many(score['n_tracks'], 'track')}, seed {score['seed']}"
            )

        for weights in self.card.weights:
            licence = weights["licence"].partition(". ")[0].rstrip(".")  # its name; the whole text is on the card
            lines.append(f"  made with the weights {weights['name']} ({weights['origin']}): {licence}")

        if self.card.extra:
            lines.append(f"  needs musicgenre[{self.card.extra}] where it is used: its front end is not in the graph")
        lines.append(f"  try it: musicgenre classify song.mp3 --model {self.path}")
        return "\n".join(lines)


def export_run(
    folder: str | Path,
    output: str | Path | None = None,
    *,
    check: Sequence[str | Path] | None = None,
    licence: str = "",
    citation: str = "",
    tolerance: float = TOLERANCE,
    overwrite: bool = False,
    with_support: bool = True,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Export one run to a bundle: front end, normalisation and network in one ONNX file, with its card.

    An ensemble becomes one bundle too: its members side by side, and on the card how they answer together.

    Parameters
    ----------
    folder : str or Path
        A run folder: one seed and one fold.
    output : str or Path, optional
        The bundle; by default `RECIPE.onnx` in the run folder.
    check : sequence of str or Path, optional
        Tracks on which the bundle is held against the training-time model; by default test tracks of the run's own
        manifest, and noise where none of those is at hand.
    licence, citation : str
        Written on the card.
    tolerance : float
        Largest difference in probability that is let pass.
    overwrite : bool
        Replace a bundle that exists.
    with_support : bool
        Let the bundle tell what is unlike its training music: it hears up to 300 tracks of the training and of the
        validation part for that.
    jobs : int
        Tracks at a time, for that.
    progress : callable
        Told (tracks done, tracks in all), of that.

    Returns
    -------
    Exported

    Raises
    ------
    RunError
        No run folder, a group of runs, or a damaged one; an ensemble whose members are gone, changed or ensembles.
    BundleError
        The bundle does not agree with the training-time model: nothing is written.
    UsageError
        The folder holds several runs, or the bundle exists and is not to be replaced.
    """
    folder = Path(folder)
    if (folder / "group.json").is_file():
        children = sorted(path.parent.relative_to(folder).as_posix() for path in folder.rglob("run.json"))
        more = ", ..." if len(children) > _SHOWN_RUNS else ""
        raise UsageError(
            f"{folder} holds {len(children)} runs, and a bundle holds one",
            valid=f"one of {', '.join(children[:_SHOWN_RUNS])}{more}",
            next_step=f"For example: musicgenre export {folder / children[0]}" if children else "",
        )
    run = open_run(folder)
    path = run.folder / f"{run.recipe}.onnx" if output is None else Path(output)
    if path.suffix != ".onnx":
        raise UsageError(f"{path.name} cannot be the name of a bundle", valid="a name that ends in .onnx")
    refuse_overwriting(path, overwrite=overwrite, inputs=[*files_of_runs(folder), *(check or ())])

    model: Exportable
    if "ensemble" in run.info:
        model = EnsembleModel.of_run(run, licence=licence, citation=citation)
    else:
        model = RunModel.of_run(run, licence=licence, citation=citation)
    sounds, checked_paths = _sounds_to_check(run, model, check)

    # The bundle is tried from a file, as it will be used, and kept only where it answers as the model does.
    graph = model.graph()
    with tempfile.TemporaryDirectory() as temporary:
        trial = Path(temporary) / "trial.onnx"
        # Calibration is fitted after training, so both sides are compared without.
        save_bundle(trial, graph, replace(model.card, temperature=1.0, tag_scales=(), tag_biases=()))
        difference = model.difference(trial, sounds)
        by_length = _differences_by_length(trial, model, checked_paths)
        _refuse_disagreement(difference, by_length, tolerance)

        # Taggers are never unsure.
        card = model.card
        if with_support and not run.is_tagging:
            save_bundle(trial, graph, card)
            known = known_music(trial, run, model.reads, jobs=jobs, progress=progress)
            card = model.with_support(known.supports, known.note)

    with writing_result(path, "Give another --output", kind=BundleError):
        save_bundle(path, graph, card, overwrite=overwrite)
    n_segments = sum(len(rows) for sound in sounds for rows in sound)
    names = tuple(Path(track).name for track in checked_paths)
    return Exported(path, read_card(path), names, n_segments, difference, by_length)


def _refuse_disagreement(difference: float, by_length: Mapping[float, float], tolerance: float) -> None:
    """Refuse a bundle that answers otherwise than its run."""
    failed = {"": difference} | {f" on a track of {length_s:g} s": found for length_s, found in by_length.items()}
    for where, found in failed.items():
        if not found <= tolerance:  # so that NaN does not pass
            raise BundleError(
                f"the exported bundle differs from the training-time model by {found:.2g} in probability{where}",
                valid=f"at most {tolerance:g}",
                next_step="Nothing was written; please report this with the run's recipe.yaml",
            )


def _differences_by_length(trial: Path, model: Exportable, paths: Sequence[str | Path]) -> dict[float, float]:
    """Let the Classifier hear files of several lengths, and the run; the first track is repeated or cut, or noise."""
    import soundfile

    rate_hz = model.card.sample_rate_hz
    sound = noise(rate_hz, seed=_NOISE_SEED)
    if paths:
        sound = audio.load(Path(paths[0]), rate_hz).waveform

    # As any file is heard, but in full: of less the run has no answer.
    classifier = Classifier(str(trial), coverage="full", threads=1, level="off")
    file = trial.with_name("trial.wav")
    differences = {}
    for length_s in _lengths_to_hear_s(model.card):
        waveform = np.resize(sound, round(length_s * rate_hz))
        soundfile.write(file, waveform, rate_hz, subtype="FLOAT")
        answer = classifier.classify(file)

        said = model.answer(waveform, rate_hz)
        given = answer.tags if answer.names_tags else answer.scores
        differences[length_s] = max(abs(given[label] - probability) for label, probability in said.items())
    return differences


def _lengths_to_hear_s(card: BundleCard) -> list[float]:
    """Lengths of the tracks that show whether a bundle answers as its run, in seconds, shortest first."""
    cards = card.member_cards if card.kind == "ensemble" else (card,)
    lengths_s = set(_SEGMENTS_S)
    for member in cards:
        if member.hears == "whole":
            lengths_s.update(_WHOLE_TRACKS_S)
            continue

        segment_s = member.segment_samples / member.sample_rate_hz
        if segment_s <= min(_SEGMENTS_S):
            lengths_s.add(max(_SHORTEST_S, _SHORTER * segment_s))
        if segment_s >= max(_SEGMENTS_S):
            lengths_s.add(_LONGER * segment_s)
    return sorted(lengths_s)


def _sounds_to_check(
    run: Run, model: Exportable, check: Sequence[str | Path] | None
) -> tuple[list[Sound], list[Path]]:
    """Segments of real tracks, an entry a track, and the tracks; noise and no tracks without any."""
    if check:
        paths = [Path(path) for path in check]
        return [model.segments_of(path) for path in paths], paths

    # Sound files of the run's manifest, those of the test part first.
    sounds: list[Sound] = []
    checked: list[Path] = []
    for track in sorted(tracks_at_hand(run), key=lambda track: track.split != "test"):
        if len(checked) == _N_CHECKED_TRACKS:
            break
        try:
            sounds.append(model.segments_of(track.path))
        except AudioError:
            continue  # training may have left it out for the same reason
        checked.append(track.path)
    return sounds or [model.noise(_N_NOISE_ROWS, _NOISE_SEED)], checked
