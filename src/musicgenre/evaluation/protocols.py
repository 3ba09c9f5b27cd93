"""What each protocol's numbers mean: which one leaks, and what to know about the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from musicgenre.data.manifest import Manifest, Track
from musicgenre.data.splits import SPLIT_BEFORE, Protocol, list_protocols
from musicgenre.errors import RunError
from musicgenre.runs.folder import Run

FITTED = ("weighted", "stacking")
"""Ways of ensembles to answer that learn from validation tracks."""

LEAKY_WARNING = (
    "LEAKY PROTOCOL: this number is no measure of how well new tracks are recognised. It exists only to reproduce a "
    "published claim: segments of one track stand in the training and in the test part, and the test part chose the "
    "checkpoint"
)


@dataclass(frozen=True, slots=True)
class SplitCheck:
    """What the manifest itself shows about a split.

    Parameters
    ----------
    n_test : int
        Original tracks in the part that is scored.
    n_shared_tracks : int
        How many of them (or copies of them) stand in the training part too; of test tracks, or in the validation part.
    n_shared_groups : int
        How many of them have their group, usually the artist, in the training part.
    n_shared_songs : int, optional
        How many of them were cut from a song of which another clip stands in the training part.
    n_taken : int, optional
        Validation tracks that were taken from the training part of a split without a validation part.
    part : {"test", "validation"}, optional
        The part that is scored.
    chose_weights : bool, optional
        Whether the validation part chose weights, as of a network, or none, as of a classical model.
    """

    n_test: int
    n_shared_tracks: int
    n_shared_groups: int
    n_shared_songs: int = 0
    n_taken: int = 0
    part: str = "test"
    chose_weights: bool = True


def is_leaky(protocol: str) -> bool:
    """Tell whether scores under this protocol are inflated by design."""
    known = _find_protocol(protocol)
    return known is not None and known.leaky


def learnt_tracks(manifest: Manifest, protocol: str) -> list[Track]:
    """Tracks that a run learnt from, or that chose its weights; under a leaking protocol all of them."""
    if is_leaky(protocol):
        return list(manifest.tracks)
    return [track for track in manifest.tracks if track.split in ("train", "validation")]


def caveats(protocol: str, check: SplitCheck) -> list[str]:
    """List what a reader must know about a number, the gravest first, each one sentence without the full stop."""
    if is_leaky(protocol):
        return [LEAKY_WARNING]  # nothing else matters beside it

    found = []
    if check.n_shared_tracks:
        found.append(
            f"LEAK: {check.n_shared_tracks} of {check.n_test} {check.part} tracks also stand in the training part"
        )

    known = _find_protocol(protocol)
    if known is not None:
        found.append(known.caveat)
    else:
        found.append("the split is none of ours: nothing is known about artists on both sides")
    if check.n_taken:
        did = "chose weights and thresholds"
        if not check.chose_weights:
            did = "were not trained on"
        found.append(f"the split has no validation part: {check.n_taken} of its training tracks {did}")
    if check.n_shared_songs:
        found.append(
            f"{check.n_shared_songs} of {check.n_test} {check.part} clips are of a song that is in training as well"
        )
    if check.n_shared_groups:
        share = check.n_shared_groups / check.n_test
        found.append(
            f"{check.n_shared_groups} of {check.n_test} {check.part} tracks ({share:.0%}) have their group in training"
        )
    return found


def check_split(manifests: Sequence[Manifest], part: str = "test", *, chose_weights: bool = True) -> SplitCheck:
    """Count tracks of a part that, or whose group, stand in the training part; over all folds, if there are several.

    `chose_weights` is whether the validation part chose weights, as of a network.
    """
    n_test = n_shared_tracks = n_shared_groups = n_shared_songs = n_taken = 0
    for manifest in manifests:
        learnt: set[str] = set()
        groups: set[str] = set()
        songs: set[str] = set()
        for track in manifest.tracks:
            # what chose a checkpoint was learnt from too, where the test part is concerned
            if track.split == "train" or (track.split == "validation" and part == "test"):
                learnt.add(track.source_id)
            if track.split == "train":
                groups.add(track.group)
                songs.add(track.columns.get("parent", ""))
            if track.split == "validation" and track.columns.get(SPLIT_BEFORE):
                n_taken += 1
        groups.discard("")  # who has no group shares none
        songs.discard("")

        for track in manifest.tracks:
            if track.split != part or track.augmented:
                continue
            n_test += 1
            n_shared_tracks += track.source_id in learnt
            n_shared_groups += track.group in groups
            n_shared_songs += track.columns.get("parent") in songs
    return SplitCheck(n_test, n_shared_tracks, n_shared_groups, n_shared_songs, n_taken, part, chose_weights)


def fitted_to_validation(run: Run) -> str:
    """Why the answers of a run to validation tracks are no honest ones, as a clause; empty where they are."""
    if run.info.get("ensemble", {}).get("how") in FITTED:
        return "is an ensemble that was fitted to its validation tracks"
    path = run.files.recipe
    if not path.is_file():
        return ""

    from musicgenre._yaml import read_yaml

    try:
        recipe = read_yaml(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error})", next_step="Train this run again") from error
    training = recipe.get("training") if isinstance(recipe, dict) else None
    if isinstance(training, dict) and training.get("fit_on") == "train+validation":
        return "was fitted to its validation tracks too"
    return ""


def _find_protocol(name: str) -> Protocol | None:
    """The protocol of this name; none where a manifest came with a split of its own."""
    return next((protocol for protocol in list_protocols() if protocol.name == name), None)
