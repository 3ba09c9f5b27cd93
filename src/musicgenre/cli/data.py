"""`musicgenre data`: get, list, check, audit and split labelled music."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from musicgenre._outputs import refuse_input, refuse_overwriting
from musicgenre._text import how_many, name_list, printable
from musicgenre.cli import _tag_lists as tag_lists
from musicgenre.errors import UsageError

if TYPE_CHECKING:
    from musicgenre.data.index import Index
    from musicgenre.data.manifest import Manifest, Track

app = typer.Typer(help="Get, list, check, audit and split labelled music.", no_args_is_help=True)

_SHOWN_LINES = 20
_SHOWN_LABELS = 20
_SHOWN_REASONS = 5
_NARROWEST_LABELS = 5  # letters of the table of labels by part

# Options of protocols with a flag of their own; any other is given with --set.
_FLAGS = {
    "test_size": "--test-size",
    "validation_size": "--validation-size",
    "train_size": "--train-size",
    "test_per_class": "--test-per-class",
    "validation_per_class": "--validation-per-class",
    "stratify_test": "--random-test",
    "folds": "--folds",
    "number": "--number",
}

_Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--labels",
        metavar="A,B,C|@FILE",
        help="Only these labels, or those of a file, one a line; repeatable.",
    ),
]
_Artists = Annotated[
    Path | None, typer.Option("--artists", metavar="FILE", help="CSV with track_id and artist_group: sets the groups.")
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the manifest if it exists.")]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


@app.command("index")
def index(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder with one subfolder per genre (GTZAN's layout works too), or a list of tracks (CSV, TSV)."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The manifest to write.")] = Path("manifest.csv"),
    labels: _Labels = None,
    artists: _Artists = None,
    pictures: Annotated[bool, typer.Option("--pictures", help="The tracks are PNG or JPEG pictures.")] = False,
    table: Annotated[bool, typer.Option("--table", help="The CSV is a table of features, one row per track.")] = False,
    path_column: Annotated[str, typer.Option("--path-column", help="The CSV's column with the file.")] = "path",
    label_column: Annotated[str, typer.Option("--label-column", help="The CSV's column with the label.")] = "label",
    id_column: Annotated[
        str | None, typer.Option("--id-column", help="The CSV's column with unique names (--table: filename).")
    ] = None,
    clips: tag_lists.Clips = None,
    files: tag_lists.Files = True,
    tags: tag_lists.Tags = None,
    merge_synonyms: tag_lists.Merge = False,
    drop_untagged: tag_lists.Drop = False,
    group_by: tag_lists.GroupBy = None,
    checksums: Annotated[
        bool,
        typer.Option("--checksums/--no-checksums", help="Add an md5 column, used to find copies of the same file."),
    ] = True,
    overwrite: _Overwrite = False,
    quiet: _Quiet = False,
) -> None:
    """List tracks and labels in a manifest (CSV).

    Exit code 1 if files had to be left out.
    """
    from musicgenre.audio import decoding_apart
    from musicgenre.cli._terminal import counting
    from musicgenre.data import index as indexing

    inputs = [path for path in (source, artists, clips, *_files_of_labels(labels)) if path is not None]
    refuse_overwriting(output, overwrite=overwrite, inputs=inputs)
    asked = tag_lists.Asked(tags, merge_synonyms, drop_untagged, group_by, clips, files)
    chosen = _names_of_labels(labels)
    found = tag_lists.read(source, asked, chosen, artists, checksums=checksums, quiet=quiet)
    if found is not None:
        _write(found, output, overwrite=overwrite)

    groups = indexing.read_artists(artists) if artists else None
    if table and (pictures or source.is_dir()):
        raise UsageError("--table goes with a CSV", valid="A CSV file and no --pictures")

    with decoding_apart(), counting("read", quiet=quiet) as progress:
        if table:
            found = indexing.index_table(
                source, id_column=id_column or "filename", label_column=label_column, labels=chosen, artists=groups
            )
        elif source.is_file():
            found = indexing.index_csv(
                source,
                path_column=path_column,
                label_column=label_column,
                id_column=id_column,
                labels=chosen,
                artists=groups,
                checksums=checksums,
                progress=progress,
            )
        else:
            found = indexing.index_folder(
                source, labels=chosen, artists=groups, pictures=pictures, checksums=checksums, progress=progress
            )
    with decoding_apart(), counting("looked at", quiet=quiet) as progress:
        found = indexing.without_broken_sounds(found, progress)

    _write(found, output, overwrite=overwrite)


@app.command("get")
def get(
    name: Annotated[str, typer.Argument(help="A data set: see `musicgenre data info`.")],
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE|FOLDER", help="A copy at hand instead of the network.")
    ] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="Where to (default: data/NAME).")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: FOLDER/manifest.csv.")] = None,
    labels: _Labels = None,
    tags: tag_lists.Tags = None,
    merge_synonyms: tag_lists.Merge = False,
    drop_untagged: tag_lists.Drop = False,
    group_by: tag_lists.GroupBy = None,
    artists: _Artists = None,
    overwrite: _Overwrite = False,
    quiet: _Quiet = False,
) -> None:
    """Provide a published data set: download or take a copy, unpack, list.

    Exit code 1 if tracks are missing.
    """
    from musicgenre.audio import decoding_apart
    from musicgenre.cli._terminal import counting, transferring
    from musicgenre.data.download import checksum_problem, fetch_data_set
    from musicgenre.data.index import read_artists, with_chosen_labels
    from musicgenre.data.sets import get_set

    data_set = get_set(name)
    options = tag_lists.Asked(tags, merge_synonyms, drop_untagged, group_by).options(data_set, labels)
    folder = folder or Path("data") / name
    target = output or folder / "manifest.csv"
    inputs = [path for path in (source, artists, *_files_of_labels(labels)) if path is not None]
    refuse_overwriting(target, overwrite=overwrite, inputs=inputs)

    typer.echo(data_set.card())
    whole = source is not None and source.is_file() and len(data_set.archives) == 1
    if source is not None and whole and (problem := checksum_problem(source, data_set.archives[0])):
        typer.echo(f"note: {problem}; `musicgenre data validate` compares the tracks one by one", err=True)

    groups = read_artists(artists) if artists else None
    with transferring(quiet=quiet) as transferred:
        place = fetch_data_set(data_set, folder, source=source, progress=transferred)
    with decoding_apart(), counting("read", quiet=quiet) as progress:
        found = data_set.list_tracks(place, artists=groups, progress=progress, **options)

    # What is absent is told before labels are chosen: the others are missing from the copy all the same.
    absent = sorted(set(data_set.track_ids()) - {track.track_id for track in found.manifest.tracks})
    if chosen := _names_of_labels(labels):
        found = dataclasses.replace(found, manifest=with_chosen_labels(found.manifest, chosen))
    for track_id in absent[:_SHOWN_LINES]:
        typer.echo(f"missing: {track_id}", err=True)
    if len(absent) > _SHOWN_LINES:
        typer.echo(f"missing: {len(absent) - _SHOWN_LINES} more", err=True)
    _write(found, target, overwrite=overwrite, failed=bool(absent))


@app.command("validate")
def validate(
    path: Annotated[Path, typer.Argument(help="A manifest; with --set the folder of the data set.")],
    set_name: Annotated[str | None, typer.Option("--set", metavar="NAME", help="Check against this data set.")] = None,
    index_file: Annotated[
        Path | None, typer.Option("--index", metavar="FILE", help="Checksums: CSV (track_id, md5) or mirdata's JSON.")
    ] = None,
    decode: Annotated[
        bool, typer.Option("--decode/--no-decode", help="Decode files that no checksum vouches for.")
    ] = True,
    quiet: _Quiet = False,
) -> None:
    """Name missing, changed, corrupt and extra files.

    Exit code 1 if there are any.
    """
    from musicgenre.audio import decoding_apart
    from musicgenre.cli._terminal import counting
    from musicgenre.data import validate as checking
    from musicgenre.data.manifest import read_manifest
    from musicgenre.data.sets import get_set

    notes: tuple[str, ...] = ()
    with decoding_apart(), counting("check", quiet=quiet) as progress:
        if set_name is not None:
            data_set = get_set(set_name)
            known, notes = checking.published_checksums(data_set, path, index=index_file)
            result = checking.validate_set(data_set, path, checksums=known, progress=progress)
        else:
            given = checking.read_checksums(index_file) if index_file else None
            manifest = read_manifest(path)
            result = checking.validate_manifest(manifest, checksums=given, decode=decode, progress=progress)

    for finding in result.findings:
        of_track = f"{finding.kind}\t{printable(finding.track_id or '-')}\t{printable(finding.path)}"
        typer.echo(f"{of_track}\t{printable(finding.reason)}")
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    kinds = ", ".join(f"{len(result.of_kind(kind))} {kind}" for kind in ("missing", "changed", "corrupt", "extra"))
    checked = how_many(result.n_checked, "track")
    typer.echo(f"{checked} checked, {result.n_compared} against a checksum: {kinds}", err=True)
    raise typer.Exit(0 if result.ok else 1)


@app.command("targets")
def targets(
    manifest: Annotated[Path, typer.Argument(help="The manifest.")],
    answers: Annotated[Path, typer.Argument(help="JSON lines that `musicgenre classify` wrote with a tagger.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write here instead of into it.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --output if it exists.")] = False,
) -> None:
    """Add what a tagger says of each track as soft targets (columns target:TAG), to train another model on them."""
    from musicgenre.data.manifest import read_manifest
    from musicgenre.data.targets import TARGET_PREFIX, with_teacher

    before = read_manifest(manifest)
    target = _manifest_to_write(before, output, overwrite, answers)
    taught = with_teacher(before, answers)
    written = _write_manifest(taught, target, overwrite=overwrite or target == before.path)
    n_tags = sum(name.startswith(TARGET_PREFIX) for name in taught.extra_columns)
    typer.echo(f"{printable(written)}: {how_many(len(taught), 'track')}, soft targets of {how_many(n_tags, 'tag')}")


@app.command("split")
def split(
    manifest: Annotated[Path, typer.Argument(help="The manifest; the split is written into it.")],
    protocol: Annotated[str, typer.Option("--protocol", help="How to split: see `musicgenre data info`.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same split.")] = 0,
    test_size: Annotated[
        float | None, typer.Option("--test-size", help="A share below 1, or a number of tracks (default 0.2).")
    ] = None,
    validation_size: Annotated[
        float | None, typer.Option("--validation-size", help="The same for validation (default 0.1; 0: none).")
    ] = None,
    train_size: Annotated[
        float | None, typer.Option("--train-size", help="The same for training (default: all that is left).")
    ] = None,
    test_per_class: Annotated[int | None, typer.Option("--test-per-class", help="Test tracks of each label.")] = None,
    validation_per_class: Annotated[
        int | None, typer.Option("--validation-per-class", help="Validation tracks of each label.")
    ] = None,
    random_test: Annotated[
        bool,
        typer.Option("--random-test", help="Draw the test tracks at random, without keeping the share of each label."),
    ] = False,
    folds: Annotated[int | None, typer.Option("--folds", help="How many folds (default 5).")] = None,
    number: Annotated[int | None, typer.Option("--number", help="Which of several published splits.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any option of the protocol by its name. May be repeated."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write here instead.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --output if it exists.")] = False,
) -> None:
    """Split tracks under a named protocol; identical files and copies stay on one side."""
    from musicgenre.cli._options import parse_settings
    from musicgenre.data.manifest import read_manifest
    from musicgenre.data.splits import VALIDATION_SHARE, get_protocol
    from musicgenre.data.splits import split as split_manifest

    chosen = get_protocol(protocol)
    options = parse_settings(settings or [])
    flags = {
        "test_size": test_size,
        "validation_size": validation_size,
        "train_size": train_size,
        "test_per_class": test_per_class,
        "validation_per_class": validation_per_class,
        "stratify_test": False if random_test else None,
        "folds": folds,
        "number": number,
    }
    for name, value in flags.items():
        if value is not None and name in options:
            raise UsageError(f"{_FLAGS[name]} and --set {name} say the same", valid="One of them")
        if value is not None:
            options[name] = value

    before = read_manifest(manifest)
    target = _manifest_to_write(before, output, overwrite)
    done = split_manifest(before, protocol, seed=seed, **options)
    written = _write_manifest(done, target, overwrite=overwrite or target == before.path)

    if chosen.leaky:
        typer.echo(f"WARNING: {chosen.summary} {chosen.comparable}", err=True)
    _echo_balance(done)
    parts = {track.split for track in done.tracks}
    if "train" in parts and "test" not in parts:
        typer.echo("note: no track tests, and 'musicgenre train' wants a test part", err=True)
    elif "train" in parts and "validation" not in parts:
        here = "; --validation-size 0.1 takes them here" if "validation_size" in chosen.options else ""
        typer.echo(
            f"note: no track validates: 'musicgenre train' takes {VALIDATION_SHARE:.1%} of the training tracks for "
            f"it, as it does with every such split{here}",
            err=True,
        )
    typer.echo(f"comparable with: {chosen.comparable}")
    typer.echo(f"{printable(written)}: {protocol}, seed {seed}")


@app.command("audit")
def audit(
    path: Annotated[Path, typer.Argument(help="A manifest, or a folder with one folder per genre.")],
    quiet: _Quiet = False,
) -> None:
    """Look for copies, artists on both sides, contradicting labels, lopsided classes.

    Exit code 1 for leaks.
    """
    from musicgenre.audio import decoding_apart
    from musicgenre.cli._terminal import counting
    from musicgenre.data.audit import audit as audit_manifest
    from musicgenre.data.index import index_folder
    from musicgenre.data.manifest import read_manifest

    with decoding_apart(), counting("read", quiet=quiet) as progress:
        manifest = index_folder(path, progress=progress).manifest if path.is_dir() else read_manifest(path)
        found = audit_manifest(manifest, progress=progress)

    _echo_balance(manifest)
    for ids in found.duplicates:
        where = ", in different parts: A LEAK" if ids in found.copies_across else ""
        label = ", with different labels" if ids in found.conflicts else ""
        typer.echo(printable(f"same content: {', '.join(ids)}{label}{where}"))

    _echo_first([f"group on several sides: {name} ({', '.join(at)})" for name, at in found.groups_across.items()])
    _echo_first([f"song on several sides: {name} ({', '.join(at)})" for name, at in found.songs_across.items()])
    if found.n_test_with_known_group:
        share = found.n_test_with_known_group / found.n_test
        typer.echo(
            f"{found.n_test_with_known_group} of {found.n_test} test tracks ({share:.0%}) have their group in train"
        )

    for track_id in found.augmented_outside_train:
        typer.echo(f"augmented outside train: {printable(track_id)}")
    _echo_first([f"missing: {track_id}" for track_id in found.missing])
    for warning in found.warnings:
        typer.echo(f"note: {printable(warning)}")

    typer.echo("no leak, no contradiction found" if found.ok else "look at the lines above before trusting a result")
    raise typer.Exit(0 if found.ok else 1)


@app.command("info")
def info(
    name: Annotated[str | None, typer.Argument(help="A data set or protocol; all by default.")] = None,
) -> None:
    """Describe data sets (licence, citation, origin) and protocols (what may be compared with what)."""
    from musicgenre.data.sets import list_sets
    from musicgenre.data.splits import list_protocols

    sets = {data_set.name: data_set for data_set in list_sets()}
    protocols = {protocol.name: protocol for protocol in list_protocols()}
    if name is not None and name not in sets and name not in protocols:
        raise UsageError(f"there is no data set or protocol {name!r}", valid=", ".join([*sets, *protocols]))

    for data_set in sets.values():
        if name in (None, data_set.name):
            typer.echo(data_set.card() + "\n")
    for protocol in protocols.values():
        if name in (None, protocol.name):
            options = ", ".join(_FLAGS.get(option, f"--set {option}=VALUE") for option in protocol.options) or "none"
            typer.echo(f"{protocol.name}\n  does      {protocol.summary}\n  compare   {protocol.comparable}")
            typer.echo(f"  options   {options}\n")


def _write_manifest(manifest: Manifest, path: Path, *, overwrite: bool) -> Path:
    """Write a manifest; one that came there meanwhile stays."""
    from musicgenre._files import came_meanwhile
    from musicgenre.data.manifest import write_manifest

    try:
        return write_manifest(manifest, path, overwrite=overwrite)
    except FileExistsError as error:
        raise came_meanwhile(path) from error


def _manifest_to_write(manifest: Manifest, output: Path | None, overwrite: bool, *also_read: Path) -> Path:
    """Say where a changed manifest goes: into itself by default, else where nothing is lost."""
    assert manifest.path is not None, "it was read from a file"
    if output is None or output.absolute() == manifest.path:
        refuse_input(manifest.path, also_read)
        return manifest.path

    inputs = [manifest.path, *also_read, *(track.path for track in manifest.tracks)]
    refuse_overwriting(output, overwrite=overwrite, inputs=inputs)
    return output


def _files_of_labels(given: Sequence[str] | None) -> list[Path]:
    """Files that `--labels @FILE` names."""
    return [Path(text[1:]) for text in given or () if text.startswith("@")]


def _names_of_labels(given: Sequence[str] | None) -> list[str] | None:
    """Names that were asked for, or several with commas between them; None where none were given."""
    if not given:
        return None

    names: list[str] = []
    for text in given:
        lines = [text]
        if text.startswith("@"):
            path = Path(text[1:])
            try:
                lines = path.read_text("utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(
                    f"--labels {text}: {path} cannot be read ({error})", valid="A text file with a label a line"
                ) from error
        own = [line for line in lines if line.replace(",", "").strip()]
        if not own:
            raise UsageError(f"--labels {text!r} names no label", valid="Names with commas between them")
        names += own
    return names


def _echo_balance(manifest: Manifest) -> None:
    """Print how many tracks each label has in each part or fold that has any, and what labels a part has none of."""
    # A manifest of folds has no parts until one fold is taken: then its table is by fold.
    folds = sorted({track.fold for track in manifest.tracks if track.fold is not None})
    by_fold = bool(folds) and not any(track.split for track in manifest.tracks)

    def place(track: Track) -> str:
        if not by_fold:
            return track.split
        return "" if track.fold is None else str(track.fold)

    totals = Counter(place(track) for track in manifest.tracks)
    possible = [*map(str, folds)] if by_fold else ["train", "validation", "test"]
    names: dict[str, str] = {}
    for part in [*possible, ""]:
        if totals[part]:
            title = f"fold {part}" if by_fold else part
            names[part] = title if part else "no part"

    counts = Counter((label, place(track)) for track in manifest.tracks for label in track.labels)
    rows = [(label, [counts[label, part] for part in names]) for label in manifest.labels]
    untagged = Counter(place(track) for track in manifest.tracks if not track.labels)
    if untagged:
        rows.append(("(untagged)", [untagged[part] for part in names]))
    rows.append(("all", [totals[part] for part in names]))

    width = max(_NARROWEST_LABELS, *(len(label) for label, _ in rows))
    typer.echo(" ".join([" " * width, *(f"{name:>10}" for name in names.values())]))
    for label, cells in rows:
        typer.echo(" ".join([f"{label:<{width}}", *(f"{cell:>10}" for cell in cells)]))

    for part, name in names.items():
        never = [label for label in manifest.labels if not counts[label, part]]
        if part and never:
            found = "1 label has" if len(never) == 1 else f"{len(never)} labels have"
            typer.echo(f"WARNING: {found} no track in {name}: {', '.join(never)}", err=True)


def _echo_first(lines: Sequence[str]) -> None:
    """Print the first lines of one kind and count the others."""
    for line in lines[:_SHOWN_LINES]:
        typer.echo(printable(line))
    if (more := len(lines) - _SHOWN_LINES) > 0:
        typer.echo(f"{lines[0].partition(':')[0]}: {more} more")


def _write(found: Index, output: Path, *, overwrite: bool, failed: bool = False) -> NoReturn:
    """Write the manifest, say what was left out and what is in it, and exit."""
    refuse_input(output, [track.path for track in found.manifest.tracks])
    written = _write_manifest(found.manifest, output, overwrite=overwrite)

    left_out = [*found.expected, *found.skipped]
    for path, reason in left_out:
        typer.echo(f"left out: {printable(path)}: {printable(reason)}", err=True)
    if len(left_out) > 1:
        reasons = Counter(re.sub(r"^line \d+ of", "a line of", reason) for _, reason in left_out)
        most = printable("; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(_SHOWN_REASONS)))
        typer.echo(f"left out: {len(left_out)} in all ({most})", err=True)
    for note in found.notes:
        typer.echo(f"note: {printable(note)}", err=True)

    # A few labels stand in order of their names, of many the most frequent are shown.
    counts = found.manifest.counts()
    labels = list(counts)
    more = max(0, len(labels) - _SHOWN_LABELS)
    if more:
        labels = sorted(labels, key=lambda label: -counts[label])[:_SHOWN_LABELS]
    named = name_list(f"{label} {counts[label]}" for label in labels)
    if more:
        named += f" and {how_many(more, 'more label')}"
    typer.echo(f"{printable(written)}: {how_many(len(found.manifest), 'track')} ({named})")
    raise typer.Exit(1 if found.skipped or failed else 0)
