"""`musicgenre library`: propose genres for music files, look, write them, take them back."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musicgenre._text import how_many, printable, shortened
from musicgenre.cli._library_options import (
    Coverage,
    Decade,
    Exclude,
    Jobs,
    Level,
    MapFile,
    MaxGenres,
    Model,
    Mood,
    Style,
    Threads,
    check_style,
    decade_field,
)
from musicgenre.cli._options import GenreChoice, GenresOption
from musicgenre.cli.library_watch import watch
from musicgenre.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from musicgenre.library.journal import Change, Journal
    from musicgenre.library.plan import PlanRow
    from musicgenre.library.write import Left, Written

app = typer.Typer(
    help="Write genres into your music files, and take them back: plan, show, apply, undo.", no_args_is_help=True
)
_MOST_LISTED = 50  # failures


class PolicyName(Enum):
    """What happens to a genre that a file has."""

    keep = "keep"
    merge = "merge"
    replace = "replace"


class GroupBy(StrEnum):
    """What answers together."""

    track = "track"
    album = "album"


OnlyMissing = Annotated[bool, typer.Option("--only-missing", help="Only files that name no genre now.")]
MinConfidence = Annotated[
    float, typer.Option("--min-confidence", min=0.0, max=1.0, help="Only what was heard with this probability.")
]
GenreFilter = Annotated[list[str] | None, typer.Option("--genre", help="Only tracks with this genre proposed.")]
AlbumFilter = Annotated[list[str] | None, typer.Option("--album", help="Only tracks of this album.")]
BreakLinks = Annotated[
    bool, typer.Option("--break-links", help="Give a file of several names (hard links) one of its own.")
]
NewTimes = Annotated[bool, typer.Option("--keep-times/--new-times", help="Whether files keep their time of change.")]


@app.command()
def plan(
    paths: Annotated[
        list[str], typer.Argument(help="Files, folders (searched recursively), globs, or - for a list on stdin.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the plan here, a line per track.")
    ] = None,
    show_it: Annotated[bool, typer.Option("--show", help="Show what would change.")] = False,
    policy: Annotated[
        PolicyName, typer.Option("--policy", help="For a genre that is there: keep it, merge, or replace it.")
    ] = PolicyName.keep,
    max_genres: MaxGenres = 1,
    genres: GenresOption = GenreChoice.ten,
    style: Style = False,
    mood: Mood = False,
    decade: Decade = "",
    by: Annotated[GroupBy, typer.Option("--by", help="Let the tracks of an album answer together.")] = GroupBy.track,
    map_file: MapFile = None,
    update_own: Annotated[
        bool, typer.Option("--update-own", help="Renew genres that came from us and that nobody changed.")
    ] = False,
    model: Model = "default",
    coverage: Coverage = None,
    level: Level = None,
    exclude: Exclude = None,
    jobs: Jobs = None,
    threads: Threads = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what you edited in --output; rows of changed files are made again.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --output if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no summary.")] = False,
) -> None:
    """Hear tracks and propose genres for their files; no music file is touched.

    What was heard is remembered by its sound: an interrupted plan goes on where it was, moved and renamed files are
    not heard again. Exit code: 0 all fine, 1 some tracks failed, 2 misuse.
    """
    from musicgenre._outputs import refuse_overwriting
    from musicgenre.audio import decoding_apart
    from musicgenre.cli._terminal import INTERRUPTED, counting_several, say_interrupted
    from musicgenre.library.genre_map import GenreMap, read_map
    from musicgenre.library.journal import Journal
    from musicgenre.library.make_plan import PlanOptions, make_plan
    from musicgenre.library.memory import HeardMemory
    from musicgenre.library.plan import PlanRow as Row
    from musicgenre.library.plan import write_plan
    from musicgenre.listening.batch import plan_threads
    from musicgenre.listening.classifier import Classifier
    from musicgenre.listening.paths import gather_paths, refuse_missing

    # What is wrong with the options is told before the model is loaded.
    if output is None and not show_it:
        raise UsageError("a plan needs a place", next_step="Add -o plan.jsonl, or --show to look only")
    gathered = gather_paths(paths, exclude or [], stdin=sys.stdin.buffer)
    refuse_missing(paths, gathered)
    check_style(style, max_genres, genres)
    field = decade_field(decade)
    if output is not None:
        advice = "Add --resume to keep what you edited in it, or --overwrite to replace it"
        refuse_overwriting(output, overwrite=resume or overwrite, inputs=[*gathered.paths, model], next_step=advice)
    n_jobs, n_threads = plan_threads(jobs, threads, len(gathered.paths))

    rows: list[Row] = []
    try:
        with (
            decoding_apart(),  # a file that no decoder survives costs one line; it begins before the model is loaded
            HeardMemory() as memory,
            Journal() as journal,
            _plan_held(output, resume=resume) as kept,
            counting_several(quiet=quiet) as report,
        ):
            classifier = Classifier(model, coverage=coverage, threads=n_threads, level=level, genres=genres.value)
            names = GenreMap() if map_file is None else read_map(map_file, classifier.vocabulary)
            options = PlanOptions(policy.value, max_genres, style, mood, field, by is GroupBy.album, update_own, names)
            made = make_plan(
                [os.path.abspath(path) for path in gathered.paths],  # noqa: PTH100  a plan is good in any folder
                classifier,
                memory,
                journal,
                options,
                settings=coverage or "default",
                jobs=n_jobs,
                report=report,
            )
            for row in made:
                before = kept.get(row.path, row)
                rows.append(before if before.tags_sha256 == row.tags_sha256 else row)
            rows += [Row(failure.path, write=False, why="failed", note=failure.error) for failure in gathered.failures]
            if output is not None:
                write_plan(rows, output, overwrite=resume or overwrite)
    except KeyboardInterrupt:
        say_interrupted("interrupted: what was heard is remembered; the same command goes on from there")
        raise typer.Exit(INTERRUPTED) from None

    if show_it:
        _show_rows(rows, unsure=False)
    raise typer.Exit(_report_plan(rows, output, quiet=quiet))


@app.command()
def show(
    plan_file: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan.")],
    unsure: Annotated[bool, typer.Option("--unsure", help="List what stays as it is instead, and why.")] = False,
    only_missing: OnlyMissing = False,
    min_confidence: MinConfidence = 0.0,
    genre: GenreFilter = None,
    album: AlbumFilter = None,
) -> None:
    """Show what a plan would change, by album, as `now -> after`; and how many of each genre."""
    from musicgenre.library.plan import read_plan

    rows = _selected_rows(list(read_plan(plan_file)), only_missing, min_confidence, genre, album)
    _show_rows(rows, unsure=unsure)
    typer.echo(_summary(rows))


@app.command()
def review(
    plan_file: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan.")],
    limit: Annotated[int, typer.Option("--limit", min=1, help="Lines at most.")] = 50,
) -> None:
    """List first where the ear and the file disagree: the surest disagreements on top."""
    from musicgenre.cli._terminal import print_out
    from musicgenre.library.plan import read_plan

    rows = [row for row in read_plan(plan_file) if row.proposed and row.now]
    differing = [row for row in rows if not {n.casefold() for n in row.proposed} & {n.casefold() for n in row.now}]
    differing.sort(key=lambda row: -(row.confidence or 0.0))
    for row in differing[:limit]:
        sure = "" if row.confidence is None else f"  {row.confidence:.0%}"
        print_out(
            f"{printable(', '.join(row.now))} <> {printable(', '.join(row.proposed))}{sure}  {printable(row.path)}"
        )
    typer.echo(f"{len(differing)} of {how_many(len(rows), 'track')} with a genre were heard otherwise")


@app.command()
def apply(
    plan_file: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    only_missing: OnlyMissing = False,
    min_confidence: MinConfidence = 0.0,
    genre: GenreFilter = None,
    album: AlbumFilter = None,
    keep_times: NewTimes = True,
    break_links: BreakLinks = False,
    id3v24: Annotated[
        bool, typer.Option("--id3v24", help="Make ID3v2.3 tags 2.4, which keeps several genres apart.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no summary.")] = False,
) -> None:
    """Write what a plan says into the music files; `undo` takes back every byte.

    A file that changed since the plan was made is left alone and named. Exit code: 0 all fine, 1 some files were left,
    2 misuse.
    """
    from musicgenre.cli._terminal import INTERRUPTED, counting, say, say_interrupted
    from musicgenre.library.journal import Journal
    from musicgenre.library.plan import read_plan
    from musicgenre.library.write import Wanted, WriteOptions, Written, locked, settle_open, write_files

    every_row = list(read_plan(plan_file))
    rows = _selected_rows(every_row, only_missing, min_confidence, genre, album)
    chosen = [row for row in rows if row.write and row.set]
    if not chosen:
        typer.echo("nothing to write: no row of the plan says so")
        return
    if not yes:
        _ask(f"Write into {how_many(len(chosen), 'file')}? `musicgenre library undo --last` takes it back.")

    options = WriteOptions(keep_times=keep_times, break_links=break_links, upgrade_id3=id3v24)
    wanted = []
    for row in chosen:
        person = row.correction is not None
        model, checksum = ("", "") if person else (row.model, row.model_sha256)
        wanted.append(Wanted(row.path, row.set, row.sound_sha256, row.tags_sha256, model, checksum))

    with Journal() as journal, locked(journal):
        settle_open(journal)
        # What a person put in place of a proposal holds from now on, also where the file cannot be written.
        for row in every_row:
            if row.correction is not None and row.sound_sha256:
                journal.correct(row.sound_sha256, row.correction)
        try:
            with counting("writing", quiet=quiet) as update:
                outcomes = []
                for outcome in write_files(journal, journal.begin("apply"), wanted, options):
                    outcomes.append(outcome)
                    update(len(outcomes), len(wanted))
        except KeyboardInterrupt:
            settle_open(journal)
            say_interrupted("interrupted: every file is as it was or as planned; the same command goes on")
            raise typer.Exit(INTERRUPTED) from None
    if not quiet and any(isinstance(outcome, Written) for outcome in outcomes):
        say("to take it back: musicgenre library undo --last")
    raise typer.Exit(_report(outcomes, "written"))


@app.command()
def undo(
    last: Annotated[bool, typer.Option("--last", help="The last run.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", help="Everything since then: 2026-11-28, or with T12:30 behind it.")
    ] = None,
    path: Annotated[Path | None, typer.Option("--path", help="Everything in this file or folder.")] = None,
    run: Annotated[int | None, typer.Option("--run", help="A run, by its number in `history`.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    keep_times: NewTimes = True,
    break_links: BreakLinks = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no summary.")] = False,
) -> None:
    """Give files back the very bytes of their old tags.

    Where other tags were changed since, only the genre goes back; where the genre itself was changed, it stays.
    An undo is a run of its own and can be taken back.
    """
    from musicgenre.cli._terminal import INTERRUPTED, counting, say_interrupted
    from musicgenre.library.journal import Journal
    from musicgenre.library.undo import undo as take_back
    from musicgenre.library.write import WriteOptions, locked, settle_open

    if sum([last, since is not None, path is not None, run is not None]) != 1:
        raise UsageError("undo needs to know what", valid="One of --last, --since TIME, --path PATH, --run NUMBER")
    with Journal() as journal, locked(journal):
        settle_open(journal)
        if last:
            standing = [one.id for one in journal.runs() if one.n_undone < one.n_files]
            if not standing:
                typer.echo("nothing to take back")
                return
            run = standing[0]
        _refuse_unknown_run(journal, run)
        where = None if path is None else os.path.abspath(path)  # noqa: PTH100  as the journal names files
        changes = journal.changes(run_id=run, since=_time(since), path=where, state="done")
        if run is None:
            # What took something back before is not taken back by the way.
            changes = [change for change in changes if change.takes_back is None]
        if not changes:
            typer.echo("nothing to take back")
            return
        # of an undo that is taken back the genres stand in the files again: nobody shall think that they went
        is_again = _writes_again(journal, changes)
        if not yes:
            n_changes = how_many(len(changes), "change")
            _ask(f"Write {n_changes} again?" if is_again else f"Take back {n_changes}?")
        try:
            with counting("taking back", quiet=quiet) as update:
                outcomes = []
                for outcome in take_back(journal, changes, WriteOptions(keep_times, break_links)):
                    outcomes.append(outcome)
                    update(len(outcomes), len(changes))
        except KeyboardInterrupt:
            settle_open(journal)
            say_interrupted("interrupted: every file is whole; the same command goes on")
            raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(_report(outcomes, "written again" if is_again else "given back"))


def _refuse_unknown_run(journal: Journal, run: int | None) -> None:
    """Refuse the number of a run that there is none of."""
    if run is not None and run not in {one.id for one in journal.runs()}:
        raise UsageError(f"there is no run {run}", next_step="`musicgenre library history` lists them")


def _writes_again(journal: Journal, changes: Sequence[Change]) -> bool:
    """Whether taking these back takes back an undo, and not an undo of an undo."""
    taken_back = {change.id: change.takes_back for change in journal.changes()}
    steps, place = 0, changes[0].takes_back
    while place is not None:
        steps, place = steps + 1, taken_back.get(place)
    return steps % 2 == 1


history = typer.Typer(help="What was written, and when.", invoke_without_command=True)
app.add_typer(history, name="history")


@history.callback()
def list_history(
    context: typer.Context,
    path: Annotated[Path | None, typer.Option("--path", help="Of this file or folder.")] = None,
    run: Annotated[int | None, typer.Option("--run", help="The files of a run.")] = None,
) -> None:
    """List runs, or with an option files: what was written into them and what stood there."""
    from musicgenre.cli._terminal import print_out, say
    from musicgenre.library.journal import Journal

    if context.invoked_subcommand is not None:
        return
    with Journal() as journal:
        if path is None and run is None:
            runs = journal.runs()
            for one in runs:
                undone = f", {one.n_undone} taken back" if one.n_undone else ""
                print_out(f"run {one.id}  {one.started}  {one.kind}  {how_many(one.n_files, 'file')}{undone}")
            if runs:
                say(f"the journal takes {journal.size_bytes() / 1e6:.1f} MB")
            return
        _refuse_unknown_run(journal, run)
        where = None if path is None else os.path.abspath(path)  # noqa: PTH100  as the journal names files
        changes = journal.changes(run_id=run, path=where)
        if not changes:
            say("nothing was written there")
        for change in changes:
            for field, after in change.values_after.items():
                before = ", ".join(change.values_before.get(field, ())) or "(none)"
                now = ", ".join(after) or "(none)"
                undone = "  (taken back)" if change.state == "undone" else ""
                name = printable(change.path)
                print_out(
                    f"run {change.run_id}  {change.written}  {printable(before)} -> {printable(now)}  {name}{undone}"
                )


@history.command()
def prune(
    older_than: Annotated[str, typer.Option("--older-than", help="A date: 2026-01-31. What is older is forgotten.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget old changes: they cannot be taken back any more."""
    from musicgenre.library.journal import Journal

    before = _time(older_than) or ""
    if not yes:
        _ask(f"Forget everything written before {before}? It cannot be taken back then.")
    with Journal() as journal:
        typer.echo(f"forgot {how_many(journal.prune(before), 'change')}")


map_app = typer.Typer(help="From a model's labels to your own genres.", no_args_is_help=True)
app.add_typer(map_app, name="map")


@map_app.command("init")
def map_init(
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("genres.toml"),
    model: Annotated[str, typer.Option("--model", help="The model whose labels it lists.")] = "default",
    genres: GenresOption = GenreChoice.ten,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a commented map with every label of a model, for `plan --map`."""
    from musicgenre._files import write_text_atomic, writing_result
    from musicgenre._outputs import refuse_overwriting
    from musicgenre.library.genre_map import map_to_begin_with
    from musicgenre.listening.classifier import Classifier

    refuse_overwriting(output, overwrite=overwrite, inputs=[model])
    classifier = Classifier(model, genres=genres.value)
    with writing_result(output):
        write_text_atomic(output, map_to_begin_with(classifier.vocabulary, classifier.model), overwrite=overwrite)
    words = ["musicgenre library plan MUSIC", *([f"--model {printable(model)}"] if model != "default" else [])]
    words += ["--genres wide"] if genres is GenreChoice.wide else []
    typer.echo(f"wrote {printable(output)}; use it with: {' '.join(words)} --map {printable(output)}")


class ListFormat(StrEnum):
    """What a plan can be exported as."""

    m3u8 = "m3u8"
    nsp = "nsp"
    csv = "csv"


@app.command("export")
def export_plan(
    plan_file: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for playlists, or the CSV file.")],
    kind: Annotated[
        ListFormat, typer.Option("--format", help="A playlist per genre, or one table.")
    ] = ListFormat.m3u8,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Make a playlist per genre (M3U, or Navidrome's smart playlists), or a table, of a plan."""
    from musicgenre._outputs import refuse_input
    from musicgenre.library.plan import read_plan
    from musicgenre.library.playlists import write_lists, write_table

    rows = list(read_plan(plan_file))
    refuse_input(output, [plan_file, *(row.path for row in rows)])
    if kind is ListFormat.csv:
        write_table(rows, output, overwrite=overwrite)
        typer.echo(f"wrote {printable(output)}")
        return
    for made in write_lists(rows, output, is_smart=kind is ListFormat.nsp, overwrite=overwrite):
        typer.echo(f"wrote {printable(made)}")


app.command()(watch)


def _selected_rows(
    every_row: list[PlanRow],
    only_missing: bool,
    min_confidence: float,
    genres: list[str] | None,
    albums: list[str] | None,
) -> list[PlanRow]:
    """Rows that the filters leave; a genre or an album that the plan does not know is told."""
    from musicgenre.cli._terminal import say
    from musicgenre.library.plan import selected, unknown_names

    genres, albums = genres or [], albums or []
    for hint in unknown_names(every_row, genres=genres, albums=albums):
        say(printable(hint))
    return list(
        selected(every_row, only_missing=only_missing, min_confidence=min_confidence, genres=genres, albums=albums)
    )


@contextmanager
def _plan_held(output: Path | None, *, resume: bool) -> Iterator[dict[str, PlanRow]]:
    """Let no other command write the plan in the block; give its rows by path, where it is gone on with."""
    from musicgenre._locks import file_lock
    from musicgenre.library.plan import read_plan

    if output is None:
        yield {}
        return
    with file_lock(output, "'musicgenre library plan'"):
        kept = read_plan(output) if resume and output.exists() else ()
        yield {row.path: row for row in kept}


def _show_rows(rows: Iterable[PlanRow], *, unsure: bool) -> None:
    """Print changes (or what stays), grouped by album."""
    from musicgenre.cli._terminal import paint, print_out

    album: tuple[str, str] | None = None
    for row in rows:
        if row.write == unsure:
            continue
        if row.album_key != album:
            album = row.album_key
            named = f"{row.album}  ({album[0]})" if row.album else album[0]
            print_out(paint(printable(named), bold=True))
        name = printable(Path(row.path).name)
        sure = "" if row.confidence is None else f"  {row.confidence:.0%}"
        note = f"  ({printable(row.note)})" if row.note else ""
        if unsure:
            now = printable(", ".join(row.now)) or "(none)"
            print_out(f"  {name}: {now} stays: {row.why}{note}")
            continue
        changes = []
        for field, after in row.set.items():
            before = ", ".join(row.now) if field == "genre" else ""
            label = "" if field == "genre" else f"{field.removeprefix('custom:').lower()} "
            changes.append(f"{label}{printable(before) or '(none)'} -> {printable(', '.join(after)) or '(none)'}")
        why = "" if row.why == "heard" else f"  {row.why}"
        print_out(f"  {name}: {'; '.join(changes)}{sure}{why}{note}")


def _summary(rows: Iterable[PlanRow]) -> str:
    """Count what would be written by genre, and what stays by reason."""
    rows = list(rows)
    genres: Counter[str] = Counter()
    stays: Counter[str] = Counter()
    for row in rows:
        if row.write:
            genres.update(name for name in row.set.get("genre", ()) if name not in row.now)
        else:
            stays[row.why] += 1
    counts = [f"{printable(name)} {n}" for name, n in genres.most_common()]
    n_written = sum(row.write for row in rows)
    text = f"{n_written} of {how_many(len(rows), 'file')} would change"
    if counts:
        text += f": {shortened(counts, 20)}"
    if stays:
        text += f"\n{len(rows) - n_written} stay: " + ", ".join(f"{why} {n}" for why, n in stays.most_common())
    return text


def _report_plan(rows: list[PlanRow], output: Path | None, *, quiet: bool) -> int:
    """List what could not be heard, count the rest, name the next command; tell the exit code."""
    from musicgenre.cli._terminal import say

    failed = [row for row in rows if row.why == "failed"]
    for row in failed[:_MOST_LISTED]:
        place = "" if row.path in row.note else f"{printable(row.path)}: "
        say(f"failed: {place}{printable(row.note)}")
    if not quiet:
        say(_summary(rows))
        place = printable(output) if output is not None else "plan.jsonl"
        if output is None:
            say(f"to write it: the same command with -o {place}, then: musicgenre library apply {place}")
        elif any(row.write for row in rows):
            say(f"nothing was written; to write it: musicgenre library apply {place}")
    return 1 if failed else 0


def _report(outcomes: Iterable[Written | Left], done: str) -> int:
    """List what was left, count the rest, tell the exit code."""
    from musicgenre.cli._terminal import say
    from musicgenre.library.write import Left

    outcomes = list(outcomes)
    left = [outcome for outcome in outcomes if isinstance(outcome, Left)]
    failed = [outcome for outcome in left if outcome.is_failure]
    for outcome in failed[:_MOST_LISTED]:
        say(f"left: {printable(outcome.reason)}")
    if len(failed) > _MOST_LISTED:
        say(f"and {len(failed) - _MOST_LISTED} more")
    parts = [f"{len(outcomes) - len(left)} {done}"]
    if len(left) > len(failed):
        parts.append(f"{len(left) - len(failed)} said so already")
    if failed:
        parts.append(f"{len(failed)} left as they were")
    say(", ".join(parts))
    return 1 if failed else 0


def _ask(question: str) -> None:
    """Ask a person once; without one, nothing is done."""
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to be asked", next_step="Add --yes to do it without asking")
    if not typer.confirm(question, err=True):
        typer.echo("nothing was done", err=True)
        raise typer.Exit(0)


def _time(text: str | None) -> str | None:
    """Read a date or time (of this place, unless it says otherwise) as the journal writes it."""
    from datetime import UTC, datetime

    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{text!r} is no time", valid="2026-11-28, or 2026-11-28T12:30") from error
