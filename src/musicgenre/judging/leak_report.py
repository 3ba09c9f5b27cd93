"""One model under four protocols: how much of its score is a leak of segments, of artists, of repeated tracks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musicgenre._files import write_text_atomic
from musicgenre._json import pretty_json
from musicgenre._text import how_many
from musicgenre.data.manifest import Manifest, read_manifest
from musicgenre.errors import DataError, MusicgenreError, RecipeError, UsageError, needing
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.evaluation.html import html_page
from musicgenre.evaluation.metrics import Estimate
from musicgenre.evaluation.plots import interval_chart
from musicgenre.evaluation.report import LabelReport
from musicgenre.training.request import check_request, check_tracks

if TYPE_CHECKING:
    from musicgenre.training.recipes import Recipe

PROTOCOLS = ("segment-leaky", "track", "artist", "fault-filtered")
"""From the one that leaks most to the one that leaks least."""

MEANING = {
    "segment-leaky": "segments of one track train and test, and the test part chose the weights: a known mistake",
    "track": "tracks apart, their artists and repeated tracks on both sides",
    "artist": "artists apart: what new music is like",
    "fault-filtered": "GTZAN without repeats and faults, artists apart by hand",
}

FORMAT_VERSION = 1
REPORT_FILE, PAGE_FILE = "leak-report.json", "leak-report.html"


@dataclass(frozen=True, slots=True)
class LeakRow:
    """What one protocol gave.

    Parameters
    ----------
    protocol : str
        Its name; `kfold` and `artist-kfold` where there are folds.
    accuracy, segment_accuracy : Estimate or None
        By track, its segments together, and by single segments; None where the protocol could not be had.
    n_test : int
        Tracks that were tested.
    reason : str
        Why it could not be had, one sentence; empty where it could.
    """

    protocol: str
    accuracy: Estimate | None = None
    segment_accuracy: Estimate | None = None
    n_test: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LeakReport:
    """One recipe under every protocol.

    Parameters
    ----------
    recipe, data : str
        What was trained, on which manifest.
    rows : tuple of LeakRow
        One a protocol, in the order of `PROTOCOLS`.
    n_seeds : int
        Trainings behind each number.
    """

    recipe: str
    data: str
    rows: tuple[LeakRow, ...]
    n_seeds: int = 1

    @property
    def setting(self) -> str:
        """What the numbers stand on, in one line."""
        return f"{self.recipe} on {self.data}, {how_many(self.n_seeds, 'seed')}"

    def to_text(self) -> str:
        """Plain text for the terminal."""
        lines = [f"leak report: {self.setting}", ""]
        lines.append(f"  {'protocol':<16}  {'by track, 95 %':<22}  {'by segment, 95 %':<22}  tracks  what it says")
        for row in self.rows:
            if row.accuracy is None:
                lines.append(f"  {row.protocol:<16}  not to be had: {row.reason}")
                continue
            meaning = MEANING[_plain_name(row.protocol)]
            lines.append(
                f"  {row.protocol:<16}  {row.accuracy!s:<22}  {row.segment_accuracy!s:<22}  {row.n_test:6d}  {meaning}"
            )
        lines += ["", *(f"  {line}" for line in self.findings())]
        return "\n".join(lines) + "\n"

    def findings(self) -> list[str]:
        """What lies between the numbers; nothing is claimed where intervals say nothing."""
        found = []
        by_name = {_plain_name(row.protocol): row for row in self.rows if row.accuracy is not None}
        for flattering, honest in (("segment-leaky", "track"), ("track", "artist"), ("track", "fault-filtered")):
            if flattering not in by_name or honest not in by_name:
                continue
            one, other = by_name[flattering], by_name[honest]
            first = one.segment_accuracy if flattering == "segment-leaky" else one.accuracy
            second = other.accuracy
            assert first is not None and second is not None
            apart = "the intervals are apart" if first.low > second.high else "the intervals overlap"
            unit = " (by segment, as such reports count)" if flattering == "segment-leaky" else ""
            found.append(
                f"{flattering}{unit} {first.value:.3f}, {honest} {second.value:.3f}: "
                f"{first.value - second.value:+.3f}; {apart}."
            )
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return {"format_version": FORMAT_VERSION, **asdict(self), "findings": self.findings()}

    def to_html(self) -> str:
        """One page with the picture, nothing beside it needed."""
        bars = []
        cells = []
        for row in self.rows:
            if row.accuracy is None or row.segment_accuracy is None:
                why = f"not to be had: {escape(row.reason)}"
                cells.append(f"<tr><td>{escape(row.protocol)}</td><td colspan=4>{why}</td></tr>")
                continue
            if row.protocol == "segment-leaky":
                leaky = row.segment_accuracy
                bars.append(("segment-leaky, by segment", leaky.value, leaky.low, leaky.high))
            bars.append((f"{row.protocol}, by track", row.accuracy.value, row.accuracy.low, row.accuracy.high))
            meaning = MEANING[_plain_name(row.protocol)]
            columns = (row.protocol, str(row.accuracy), str(row.segment_accuracy), str(row.n_test), meaning)
            cells.append("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in columns) + "</tr>")

        head = "".join(f"<th>{name}</th>" for name in ("protocol", "by track", "by segment", "tracks", "what it says"))
        findings = "".join(f"<p>{escape(line)}</p>" for line in self.findings())
        sections = [
            f"<h1>One model, {len(self.rows)} protocols</h1>\n<p>{escape(self.setting)}</p>",
            interval_chart("Accuracy with 95 % intervals", bars),
            f'<table class="words"><tr>{head}</tr>{"".join(cells)}</table>',
            findings,
        ]
        return html_page(f"Leak report: {self.recipe}", sections)


def leak_report(
    recipe: str | Path,
    data: Manifest | Path,
    output: Path,
    *,
    overrides: Sequence[str] = (),
    folds: int = 0,
    seeds: int = 1,
    resume: bool = False,
    jobs: int = 1,
    report: Callable[[str], None] = lambda text: None,
    progress: Callable[[str, int, int], None] | None = None,
) -> LeakReport:
    """Train a recipe under every protocol that the data can give, and leave runs and report in a folder.

    Parameters
    ----------
    recipe : str or Path
        As `musicgenre.training.train.train` takes it; it names one label per track.
    data : Manifest or Path
        The tracks. A split that they carry is put aside.
    output : Path
        A new or empty folder: one run a protocol, `leak-report.json` and `leak-report.html`.
    overrides : sequence of str
        `section.key=value` each, of anything but the protocol.
    folds : int
        Folds of a cross-validation of the protocols `track` and `artist`; 0: one split.
    seeds : int
        Trainings with different seeds.
    resume : bool
        Go on with what is in `output`.
    jobs : int
        Processes that prepare.
    report, progress : callable
        As `train` takes them.

    Raises
    ------
    UsageError
        The recipe names tags, a key of the protocol is set, or the output is taken.
    DataError
        No protocol at all can be had.
    """
    chosen, whole = _check_request(recipe, data, overrides, seeds, folds)
    refused = _refusals(chosen, whole, folds)
    with needing("training", "train"):  # the light install has no torch
        from musicgenre.training.material import representation_of
        from musicgenre.training.train import train

    hears_whole = representation_of(chosen, whole).segment_s is None
    rows = []
    for protocol in PROTOCOLS:
        n_folds = folds if protocol in ("track", "artist") else 0
        report(f"== {protocol}")
        try:
            if protocol == "segment-leaky" and hears_whole:  # which would train, and say nothing
                raise DataError("the recipe reads whole tracks: there are no segments to deal")
            if protocol in refused:
                raise refused[protocol]
            folder = train(
                _under(chosen, protocol),
                whole,
                output=output / protocol,
                overrides=[*overrides, f"protocol.name={protocol}"],  # for the record
                seeds=seeds,
                folds=n_folds,
                resume=resume and (output / protocol).is_dir(),
                keep_state=False,
                jobs=jobs,
                report=report,
                progress=progress,
            )
        except (DataError, RecipeError) as error:
            reason = _reason(error)
            report(f"{protocol} is not to be had: {reason}")
            rows.append(LeakRow(_named(protocol, n_folds), reason=reason))
            continue
        found = evaluate(folder)
        assert isinstance(found, LabelReport)
        rows.append(LeakRow(found.protocol, found.accuracy, found.segment_accuracy, found.n_tracks))

    if all(row.accuracy is None for row in rows):
        raise DataError(f"no protocol can be had from these tracks: {rows[0].reason}")
    name = whole.path.name if whole.path else "tracks"
    made = LeakReport(chosen.name, name, tuple(rows), seeds)
    write_text_atomic(output / REPORT_FILE, pretty_json(made.as_dict()))
    write_text_atomic(output / PAGE_FILE, made.to_html())
    return made


def _check_request(
    recipe: str | Path | Recipe, data: Manifest | Path, overrides: Sequence[str], seeds: int, folds: int
) -> tuple[Recipe, Manifest]:
    """Read recipe and tracks, these without a split, and refuse what no protocol can be had of."""
    for override in overrides:
        if override.startswith("protocol"):
            raise UsageError(f"--set {override} asks for a protocol, and every one is tried", next_step="Leave it out")
    chosen = check_request(recipe, overrides, seeds=seeds, folds=folds)
    if chosen.is_tagging or chosen.variants():
        raise UsageError(
            f"the recipe {chosen.name} is no single model with one label per track",
            valid="a recipe with task: single_label and without variants",
        )

    manifest = data if isinstance(data, Manifest) else read_manifest(data)
    bare = [replace(track, split="", fold=None) for track in manifest.tracks if not track.augmented]
    return chosen, Manifest(manifest.path, tuple(bare))


def _refusals(recipe: Recipe, manifest: Manifest, folds: int) -> dict[str, DataError | RecipeError]:
    """What the tracks alone say against a protocol, by its name; raised where they say something against all."""
    refused: dict[str, DataError | RecipeError] = {}
    for protocol in PROTOCOLS:
        try:
            if protocol == "artist" and not any(track.group for track in manifest.tracks):
                raise DataError("the manifest has no artists (column group)")
            check_tracks(_under(recipe, protocol), manifest, folds=folds if protocol in ("track", "artist") else 0)
        except (DataError, RecipeError) as error:
            refused[protocol] = error
    if len(refused) == len(PROTOCOLS):
        raise DataError(f"no protocol can be had from these tracks: {_reason(refused[PROTOCOLS[0]])}")
    return refused


def _under(recipe: Recipe, protocol: str) -> Recipe:
    """The recipe with a protocol in its plainest form."""
    section = recipe.protocol.model_copy(update={"name": protocol, "options": {}})
    return recipe.model_copy(update={"protocol": section})


def _reason(error: MusicgenreError) -> str:
    return f"{error.problem}".rstrip(".")


def _named(protocol: str, folds: int) -> str:
    if not folds:
        return protocol
    return "kfold" if protocol == "track" else "artist-kfold"


def _plain_name(protocol: str) -> str:
    return {"kfold": "track", "artist-kfold": "artist"}.get(protocol, protocol)
