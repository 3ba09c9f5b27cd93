"""From tracks to the rows of a plan: look at the files, hear what was not heard before, put albums together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre.audio import decoding_apart
from musicgenre.filetags.base import CUSTOM, GROUPING, MOOD
from musicgenre.filetags.music_file import FileTags, opened
from musicgenre.library.genre_map import GenreMap, risky
from musicgenre.library.journal import Journal
from musicgenre.library.memory import HeardMemory
from musicgenre.library.plan import PlanRow, Policy, decide
from musicgenre.listening.answer import UNSURE
from musicgenre.listening.batch import Failure, hear_many
from musicgenre.listening.classifier import Classifier
from musicgenre.models.wide import genre_names

Report = Callable[[str, int, int], None]
"""Told what is done: name, done, all."""

# Tags of the published networks that name a mood, and a decade.
MOODS = ("happy", "sad", "Mellow", "chill", "chillout", "party", "sexy", "beautiful", "easy listening", "catchy")
DECADES = {"60s": "1960s", "70s": "1970s", "80s": "1980s", "90s": "1990s", "00s": "2000s"}
# From this mean probability on a mood or a decade is written: not fitted, as no truth for either is at hand.
_TAG_THRESHOLD = 0.25
_MOST_MOODS = 2
_AGREEING_SHARE = 2 / 3  # of an album's tracks, that the album may speak for them


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """How a plan is made.

    Attributes
    ----------
    policy : {"keep", "merge", "replace"}
        What happens to a genre that is there.
    max_genres : int
        Genres per track at most.
    style, mood : bool
        Also propose the style (a finer genre among the network's tags), and moods in a field of their own.
    decade : str
        Field for the decade: `grouping` or `custom:NAME`; empty: none.
    by_album : bool
        Let tracks of one album answer together where they agree.
    update_own : bool
        Renew what we wrote and nobody changed.
    genre_map : GenreMap
        From labels to one's own genres.
    """

    policy: Policy = "keep"
    max_genres: int = 1
    style: bool = False
    mood: bool = False
    decade: str = ""
    by_album: bool = False
    update_own: bool = False
    genre_map: GenreMap = field(default_factory=GenreMap)


def make_plan(
    paths: Sequence[str],
    classifier: Classifier,
    memory: HeardMemory,
    journal: Journal,
    options: PlanOptions,
    *,
    settings: str,
    jobs: int = 1,
    report: Report = lambda what, done, total: None,
    as_known: Callable[[str, FileTags], FileTags] = lambda path, tags: tags,
) -> Iterator[PlanRow]:
    """Make the rows of a plan, in the order of the paths.

    Parameters
    ----------
    paths : sequence of str
        The tracks.
    classifier : Classifier
        What hears them.
    memory : HeardMemory
        What was heard before; grows.
    journal : Journal
        What we wrote before, and what a person corrected.
    options : PlanOptions
        How.
    settings : str
        What, beside the model, decides what is heard: the coverage.
    jobs : int
        Tracks at a time.
    report : callable
        Told how far it is.
    as_known : callable
        Given a path and what its tags say, tells what another program's library says of the track instead.

    Yields
    ------
    PlanRow
        One a path; a file that cannot be heard has a row that says why.
    """
    looks: dict[str, FileTags | str] = {}
    for number, path in enumerate(paths):
        try:
            looks[path] = as_known(path, memory.look(path))
        except OSError as error:
            looks[path] = f"{path}: the file could not be read ({error.strerror or error})."
        report("looking", number + 1, len(paths))

    settings = f"{classifier.model_sha256} {settings}"
    failures = _hear_missing(looks, classifier, memory, settings, jobs, report)

    # Tracks of one folder stand together, so an album is complete when the next one begins.
    album: list[tuple[PlanRow, Mapping[str, Any]]] = []
    for path in paths:
        tags = looks[path]
        if isinstance(tags, str) or path in failures:
            reason = tags if isinstance(tags, str) else failures[path]
            row, record = PlanRow(path, write=False, why="failed", note=reason), {}
        else:
            record = memory.heard(tags.sound_sha256, settings) or {}
            row = _row(path, tags, record, classifier, options)
        if album and (not options.by_album or row.album_key != album[0][0].album_key):
            yield from _decided(album, looks, journal, options)
            album = []
        album.append((row, record))
    yield from _decided(album, looks, journal, options)


def _hear_missing(
    looks: Mapping[str, FileTags | str],
    classifier: Classifier,
    memory: HeardMemory,
    settings: str,
    jobs: int,
    report: Report,
) -> dict[str, str]:
    """Hear every sound that was not heard before, once; tell which files failed, and why."""
    missing: dict[str, list[str]] = defaultdict(list)
    for path, tags in looks.items():
        if not isinstance(tags, str) and memory.heard(tags.sound_sha256, settings) is None:
            missing[tags.sound_sha256].append(path)

    failures: dict[str, str] = {}
    sounds = {same[0]: sound for sound, same in missing.items()}
    with decoding_apart(len(sounds)):
        results = hear_many(list(sounds), classifier.classify, jobs=jobs)
        for number, (path, result) in enumerate(zip(sounds, results, strict=True)):
            if isinstance(result, Failure):
                failures |= dict.fromkeys(missing[sounds[path]], result.error)
            else:
                record = result.as_dict()
                record["threshold"] = result.unsure_threshold
                memory.remember(sounds[path], settings, record)
            report("listening", number + 1, len(sounds))
    return failures


def _row(
    path: str, tags: FileTags, record: Mapping[str, Any], classifier: Classifier, options: PlanOptions
) -> PlanRow:
    """What a file says and what was heard of it; nothing is decided yet."""
    row = PlanRow(
        path,
        write=False,
        now=tags.genres,
        artist=tags.artist or tags.album_artist,
        album=tags.album,
        title=tags.title,
        container=tags.container,
        sound_sha256=tags.sound_sha256,
        tags_sha256=tags.tags_sha256,
        model=classifier.model,
        model_sha256=classifier.model_sha256,
        note="; ".join(record.get("warnings", [])),
    )
    if not tags.container:
        return replace(row, why="failed", note="tags of this kind of file cannot be written")
    if classifier.names_tags:
        chosen = record.get("chosen", [])
        confidence = max((record["tags"][label] for label in chosen), default=None)
        return _proposing(row, chosen, confidence, options)

    labels, confidence = _labels(row, record, options)
    row = _proposing(row, labels, confidence, options)
    if record["genre"] == UNSURE:
        candidates = ", ".join(record["candidates"][:3])
        parts = [record.get("reason"), f"perhaps {candidates}", row.note]
        row = replace(row, why="unsure", note="; ".join(filter(None, parts)))
    return row


def _labels(row: PlanRow, record: Mapping[str, Any], options: PlanOptions) -> tuple[tuple[str, ...], float | None]:
    """Labels that an answer names, no more than are wanted where there are many, and a probability that is one."""
    wide = record.get("genres")
    if wide is None:
        labels = [record["genre"]] if record["genre"] != UNSURE else []
        if labels and options.style and record["style"]:
            labels.append(record["style"])
        return tuple(labels), record["confidence"]

    # What the person's map drops must not take the place of another.
    artist, path, names = row.artist, row.path, options.genre_map.names
    kept = [genre for genre in wide if names([genre["name"]], artist=artist, path=path)]
    leading = [genre for genre in wide if genre["name"] == record["genre"]]
    calibrated = record["confidence"] if all(genre["calibrated"] for genre in leading) else None
    chosen = genre_names(kept, record["genre"], options.max_genres)
    return chosen or tuple(genre["name"] for genre in wide), calibrated


def _proposing(row: PlanRow, labels: Sequence[str], confidence: float | None, options: PlanOptions) -> PlanRow:
    """Bring labels to the person's own genres."""
    proposed = options.genre_map.names(labels, artist=row.artist, path=row.path)
    note = row.note
    for name in proposed[: options.max_genres]:
        if risky(name):
            note = "; ".join(filter(None, [note, risky(name)]))
    why = "heard" if proposed else ("dropped" if labels else "unsure")
    return replace(row, proposed=proposed, confidence=confidence, why=why, note=note)


def _decided(
    album: Sequence[tuple[PlanRow, Mapping[str, Any]]],
    looks: Mapping[str, FileTags | str],
    journal: Journal,
    options: PlanOptions,
) -> Iterator[PlanRow]:
    """Let an album answer together where it can, a person's correction win, and the policy decide."""
    records = [record for row, record in album if row.why in ("heard", "unsure")]
    answer = _wide_album_answer(records) if any("genres" in record for record in records) else _album_answer(records)
    for row, record in album:
        if options.by_album and row.album and answer is not None and row.why in ("heard", "unsure"):
            labels, probability = _labels(row, {**record, **answer}, options)
            heard = row.proposed
            row = replace(_proposing(replace(row, note=""), labels, probability, options), why="album")  # noqa: PLW2901
            if heard and heard[:1] != row.proposed[:1]:
                note = "; ".join(filter(None, [row.note, f"alone it was heard as {heard[0]}"]))
                row = replace(row, note=note)  # noqa: PLW2901

        corrected = journal.correction(row.sound_sha256) if row.sound_sha256 else None
        if corrected is not None and row.why != "failed":
            row = replace(row, proposed=corrected, why="corrected", confidence=None)  # noqa: PLW2901
        yield decide(
            row,
            policy=options.policy,
            ours=journal.ours(row.path),
            update_own=options.update_own,
            max_genres=max(options.max_genres, len(corrected or ())),
            extra=_extra(row, looks[row.path], record, options),
        )


def _album_answer(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Mean of calibrated scores over an album's tracks, where two thirds of them agree with it; None elsewhere."""
    scored = [record for record in records if record.get("scores")]
    if len(scored) < 2:
        return None
    labels = sorted(scored[0]["scores"])
    scores = np.array([[record["scores"].get(label, 0.0) for label in labels] for record in scored])
    mean = scores.mean(axis=0)
    best = int(mean.argmax())
    agreeing = Counter(int(row.argmax()) for row in scores)[best]
    if agreeing < _AGREEING_SHARE * len(scored) or mean[best] < max(record["threshold"] for record in scored):
        return None
    return {"genre": labels[best], "confidence": float(mean[best])}


def _wide_album_answer(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What two thirds of an album's tracks name of the wide vocabulary, the commonest first; None where nothing is."""
    if len(records) < 2:
        return None
    entries: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        for genre in record["genres"]:
            entries[genre["name"]].append(genre)

    shared = {name: same for name, same in entries.items() if len(same) >= _AGREEING_SHARE * len(records)}
    if not shared:
        return None
    led = Counter(record["genre"] for record in records)
    leading = max(shared, key=lambda name: (led[name], len(shared[name])))

    # Families stand in the order of what is said most often, each before its children.
    in_order = sorted(shared, key=lambda name: (name != leading, -led[name], -len(shared[name])))
    genres: list[dict[str, Any]] = []
    for family in dict.fromkeys(shared[name][0]["family"] for name in in_order):
        members = [name for name in in_order if shared[name][0]["family"] == family]
        for name in dict.fromkeys((family, *members)):
            same = shared.get(name) or shared[members[0]]
            score = sum(genre["score"] for genre in same) / len(same)
            calibrated = all(genre["calibrated"] for genre in same)
            genres.append({"name": name, "family": family, "score": score, "calibrated": calibrated})
    [confidence] = [genre["score"] for genre in genres if genre["name"] == leading]
    return {"genre": leading, "genres": genres, "confidence": confidence}


def _extra(
    row: PlanRow, look: FileTags | str, record: Mapping[str, Any], options: PlanOptions
) -> dict[str, tuple[str, ...]]:
    """Moods and the decade, from the network's tags; a field that holds something is kept unless all is replaced."""
    tags: Mapping[str, float] = record.get("tags", {})
    extra: dict[str, tuple[str, ...]] = {}
    if row.why == "failed" or isinstance(look, str):
        return extra
    if options.mood:
        moods = [tag for tag, probability in tags.items() if tag in MOODS and probability >= _TAG_THRESHOLD]
        if moods:
            extra[MOOD] = tuple(mood.lower() for mood in moods[:_MOST_MOODS])
    if options.decade:
        decades = [tag for tag, probability in tags.items() if tag in DECADES and probability >= _TAG_THRESHOLD]
        if decades:
            field = options.decade if options.decade.startswith(CUSTOM) else GROUPING
            extra[field] = (DECADES[decades[0]],)

    for field, values in list(extra.items()):
        if field.startswith(CUSTOM):
            with opened(Path(row.path)) as file:
                there = file.values(field)
        else:
            there = look.moods if field == MOOD else look.groupings
        if there == values or (there and options.policy != "replace"):
            del extra[field]
    return extra
