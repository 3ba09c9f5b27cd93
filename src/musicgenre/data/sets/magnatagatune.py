"""MagnaTagATune: 25,863 clips of 29 s with 188 tags from a game (Law et al. 2009); row code D1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path, PurePosixPath

from musicgenre._text import how_many, shortened
from musicgenre.data import _csv
from musicgenre.data._csv import CellProblem
from musicgenre.data.index import Index, Progress, with_artists
from musicgenre.data.sets._tagged import SHOWN_IDS, Clip, Wanted, choose_tags, has_columns, index_clips
from musicgenre.data.sets.registry import Archive, DataSet, register
from musicgenre.errors import DataError, UsageError

ALL_TAGS = tuple(
    """no voice,singer,duet,plucking,hard rock,world,bongos,harpsichord,female singing,clasical,sitar,
chorus,female opera,male vocal,vocals,clarinet,heavy,silence,beats,men,woodwind,funky,no strings,
chimes,foreign,no piano,horns,classical,female,no voices,soft rock,eerie,spacey,jazz,guitar,quiet,
no beat,banjo,electric,solo,violins,folk,female voice,wind,happy,ambient,new age,synth,funk,
no singing,middle eastern,trumpet,percussion,drum,airy,voice,repetitive,birds,space,strings,bass,
harpsicord,medieval,male voice,girl,keyboard,acoustic,loud,classic,string,drums,electronic,
not classical,chanting,no violin,not rock,no guitar,organ,no vocal,talking,choral,weird,opera,
soprano,fast,acoustic guitar,electric guitar,male singer,man singing,classical guitar,country,violin,
electro,reggae,tribal,dark,male opera,no vocals,irish,electronica,horn,operatic,arabic,lol,low,
instrumental,trance,chant,strange,drone,synthesizer,heavy metal,modern,disco,bells,man,deep,
fast beat,industrial,hard,harp,no flute,jungle,pop,lute,female vocal,oboe,mellow,orchestral,viola,
light,echo,piano,celtic,male vocals,orchestra,eastern,old,flutes,punk,spanish,sad,sax,slow,male,
blues,vocal,indian,no singer,scary,india,woman,woman singing,rock,dance,piano solo,guitars,
no drums,jazzy,singing,cello,calm,female vocals,voices,different,techno,clapping,house,monks,
flute,not opera,not english,oriental,beat,upbeat,soft,noise,choir,female singer,rap,metal,hip hop,
quick,water,baroque,women,fiddle,english""".replace("\n", "").split(",")
)

# The 50 most frequent, the most frequent first.
TOP_50 = tuple(
    """guitar,classical,slow,techno,strings,drums,electronic,rock,fast,piano,ambient,beat,violin,vocal,synth,female,indian,
opera,male,singing,vocals,no vocals,harpsichord,loud,quiet,flute,woman,male vocal,no vocal,pop,soft,sitar,solo,man,
classic,choir,voice,new age,dance,male voice,female vocal,beats,harp,cello,no voice,weird,country,metal,female voice,
choral""".replace("\n", "").split(",")
)

_TOP_50 = frozenset(TOP_50)

# The groups are K. Choi's (magnatagatune-list, 2016), who doubts two of them himself: opera + operatic and
# hard + hard rock. "female vocal" beside "female vocals" is ours: his list leaves it out.
SYNONYMS: tuple[tuple[str, ...], ...] = tuple(
    tuple(group.split(","))
    for group in (
        "beat,beats",
        "chant,chanting",
        "choir,choral",
        "classical,clasical,classic",
        "drum,drums",
        "electro,electronic,electronica,electric",
        "fast,fast beat,quick",
        "female,female singer,female singing,female vocal,female vocals,female voice,woman,woman singing,women",
        "flute,flutes",
        "guitar,guitars",
        "hard,hard rock",
        "harpsichord,harpsicord",
        "heavy,heavy metal,metal",
        "horn,horns",
        "india,indian",
        "jazz,jazzy",
        "male,male singer,male vocal,male vocals,male voice,man,man singing,men",
        "no beat,no drums",
        "no singer,no singing,no vocal,no vocals,no voice,no voices,instrumental",
        "opera,operatic",
        "orchestra,orchestral",
        "quiet,silence",
        "singer,singing",
        "space,spacey",
        "string,strings",
        "synth,synthesizer",
        "violin,violins",
        "vocal,vocals,voice,voices",
        "strange,weird",
    )
)

# Columns of the tables, and the one that the index adds.
ID, PATH = "clip_id", "mp3_path"
INFO_COLUMNS = ("track_number", "title", "artist", "album", "original_url")
TOP50_COLUMN = "top50_tags"

ANNOTATIONS, CLIP_INFO = "annotations_final.csv", "clip_info_final.csv"
GROUPS = ("artist", "album")
FAULTS = dict.fromkeys(
    (
        "6/norine_braun-now_and_zen-08-gently-117-146.mp3",
        "8/jacob_heringman-josquin_des_prez_lute_settings-19-gintzler__pater_noster-204-233.mp3",
        "9/american_baroque-dances_and_suites_of_rameau_and_couperin-25-"
        "le_petit_rien_xiveme_ordre_couperin-88-117.mp3",
    ),
    "an empty file (0 bytes) in the published archive",
)

_ORIGIN = "https://mirg.city.ac.uk/datasets/magnatagatune/"
_VALID = "A table with the columns clip_id, one 0/1 column a tag, and mp3_path, separated by tabs (or commas)"
_VALID_INFO = f"A table with the columns {ID}, {', '.join(INFO_COLUMNS)} and {PATH}, separated by tabs (or commas)"
_BITS = frozenset("01")
_NAME_PARTS = 6  # artist-album-number-title-start-end: the makers' script keeps "-" out of every part


@dataclass(frozen=True)
class Annotation:
    """One row: where it stands, the clip's id and file (may be empty) and the tags it has."""

    line: int
    clip_id: str
    path: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Annotations:
    """A table of tags: the names of its tag columns and its rows, both in the file's order."""

    path: Path
    tags: tuple[str, ...]
    rows: tuple[Annotation, ...]


def is_annotations(path: Path) -> bool:
    """Tell by its first line whether a file is a table of tags."""
    return has_columns(path, (ID, PATH))


def read_annotations(path: Path) -> Annotations:
    """Read a table of tags; one error names every bad cell by line and column.

    Parameters
    ----------
    path : Path
        `annotations_final.csv` or a table of its form: tabs, commas or semicolons, quoted or not, with or without a
        byte order mark, any line ends.

    Returns
    -------
    Annotations
        Rows without a file are kept, their path is empty.
    """
    lines = _csv.read_cells(path, (ID, PATH), _VALID)
    header_line, header = next(lines)
    problems = _bad_names(header_line, header)

    n, id_at, path_at = len(header), header.index(ID), header.index(PATH)
    places = [i for i in range(n) if i not in (id_at, path_at)]
    tags = tuple(header[i] for i in places)

    # In the original the tags stand together, and a slice is faster than a choice: there are 25,863 rows of 188.
    first, last = (places[0], places[-1] + 1) if places else (0, 0)
    stand_together = places == list(range(first, last))

    rows: list[Annotation] = []
    for line, cells in lines:
        if len(cells) != n:
            like_header = f"{how_many(n, 'cell')}, like the header"
            problems.append(CellProblem(line, "(all)", how_many(len(cells), "cell"), like_header))
            continue
        bits = cells[first:last] if stand_together else [cells[i] for i in places]
        if not _BITS.issuperset(bits):
            bad = [(tag, bit) for tag, bit in zip(tags, bits, strict=True) if bit not in _BITS]
            problems += [CellProblem(line, tag, bit, "0 or 1") for tag, bit in bad]
            continue
        rows.append(Annotation(line, cells[id_at], cells[path_at], tuple(compress(tags, map("1".__eq__, bits)))))

    problems += _bad_keys(rows)
    _csv.raise_problems(path, problems)
    return Annotations(path, tags, tuple(rows))


def read_clip_info(path: Path) -> dict[str, dict[str, str]]:
    """Read title, artist, album and origin of clips, by clip id; one error names every bad cell.

    Parameters
    ----------
    path : Path
        `clip_info_final.csv`; it also lists clips that have neither file nor tags.

    Returns
    -------
    dict of str to dict of str to str
        The columns `INFO_COLUMNS` and `mp3_path` of every clip.
    """
    wanted = (*INFO_COLUMNS, PATH)
    lines = _csv.read_cells(path, (ID, *wanted), _VALID_INFO)
    _, header = next(lines)
    n, id_at = len(header), header.index(ID)
    places = [header.index(name) for name in wanted]

    found: dict[str, dict[str, str]] = {}
    problems = []
    for line, cells in lines:
        if len(cells) != n:
            like_header = f"{how_many(n, 'cell')}, like the header"
            problems.append(CellProblem(line, "(all)", how_many(len(cells), "cell"), like_header))
        elif cells[id_at] in found or not cells[id_at]:
            problems.append(CellProblem(line, ID, cells[id_at], "an id that no other row has"))
        else:
            found[cells[id_at]] = {name: cells[place] for name, place in zip(wanted, places, strict=True)}

    _csv.raise_problems(path, problems)
    return found


def names_after_merging(known: Sequence[str]) -> Mapping[str, str]:
    """Map each tag to the one that stands for its group: the most frequent member of the usual 50, else the first.

    Parameters
    ----------
    known : sequence of str
        The tags of a table; only these are merged, so a table of some tags works too.

    Returns
    -------
    Mapping of str to str
        Tag to tag, every one of `known`.
    """
    present = set(known)
    names = {tag: tag for tag in known}
    for group in SYNONYMS:
        members = [tag for tag in group if tag in present]
        usual = [tag for tag in TOP_50 if tag in members]
        for tag in members:
            names[tag] = (usual or members)[0]

    return names


def index_magnatagatune(
    source: Path | str,
    *,
    clips: Path | None = None,
    tags: str = "top50",
    merge_synonyms: bool = False,
    drop_untagged: bool = False,
    group: str = "artist",
    artists: Mapping[str, str] | None = None,
    files: bool = True,
    checksums: bool = True,
    progress: Progress | None = None,
) -> Index:
    """List the clips of the original table of tags.

    Parameters
    ----------
    source : Path or str
        `annotations_final.csv`, or a folder with it. `clip_info_final.csv` beside it adds title, artist, album and
        origin.
    clips : Path, optional
        The folder with `0/` to `f/`; by default the table's own, or one inside it.
    tags : str, optional
        `top50`: the 50 tags that papers use, or, with `merge_synonyms`, the 50 most frequent merged ones;
        `all`: every column; or names with commas between them.
    merge_synonyms : bool, optional
        Whether words for the same thing become one tag, see docs/magnatagatune.md.
    drop_untagged : bool, optional
        Whether clips with none of the chosen tags are left out.
    group : str, optional
        What an artist-apart split keeps on one side: `artist` or `album`.
    artists : Mapping of str to str, optional
        Other groups, by clip id.
    files : bool, optional
        False lists every row, whether or not its file is at hand.
    checksums : bool, optional
        Whether to add the column md5.
    progress : callable, optional
        Told (files read, all files).

    Returns
    -------
    Index
        Tracks named after their clip id, with the columns parent (the song: clips of one stay on one side of every
        split), top50_tags (how many of the usual 50 tags the clip has) and duration_s.
    """
    if group not in GROUPS:
        raise UsageError(f"--group-by {group!r} is no group", valid=", ".join(GROUPS))

    source = Path(source)
    table = read_annotations(source if source.is_file() else _find_table(source))
    beside = table.path.with_name(CLIP_INFO)
    info = read_clip_info(beside) if beside.is_file() else {}

    names: Mapping[str, str] = {tag: tag for tag in table.tags}
    top = TOP_50
    if merge_synonyms:
        names = names_after_merging(table.tags)
        counts = Counter(name for row in table.rows for name in {names[tag] for tag in row.tags})
        top = tuple(sorted(set(names.values()), key=lambda name: (-counts[name], name))[: len(TOP_50)])
    known = tuple(dict.fromkeys(names[tag] for tag in table.tags))
    chosen = choose_tags(tags, known, {"top50": top})

    songs = _songs(table.rows, info)
    listed_clips = []
    for row in table.rows:
        columns = {"parent": songs.get(row.path, ""), TOP50_COLUMN: str(len(_TOP_50.intersection(row.tags)))}
        if info:
            about = info.get(row.clip_id, {})
            columns |= {name: about.get(name, "") for name in INFO_COLUMNS}
        own_group = ""
        if parts := _name_parts(row.path):
            own_group = parts[0] if group == "artist" else f"{parts[0]}-{parts[1]}"
        paths = (row.path,) if row.path else ()
        own_tags = tuple(dict.fromkeys(names[tag] for tag in row.tags))
        listed_clips.append(Clip(row.line, row.clip_id, paths, own_tags, own_group, columns))

    folder = clips if source.is_file() else clips or source
    wanted = Wanted(chosen, drop_untagged, files, checksums, FAULTS)
    found = index_clips(listed_clips, table.path, folder, wanted, progress)
    manifest = found.manifest if artists is None else with_artists(found.manifest, artists)
    return Index(manifest, found.skipped, found.expected, (*found.notes, *_info_notes(table, info)))


def _bad_names(line: int, header: Sequence[str]) -> list[CellProblem]:
    """Find names of columns that could not be tags."""
    twice = {name for name in header if header.count(name) > 1}
    problems = [CellProblem(line, name, name, "each column once") for name in sorted(twice)]

    for name in header:
        if not name.isprintable() or ";" in name or name != name.strip() or not name:
            problems.append(CellProblem(line, name, name, "a name without ';' and without space around it"))
    if len(header) < 3:
        problems.append(
            CellProblem(line, "(all)", f"{len(header)} columns", "a column a tag beside clip_id and mp3_path")
        )
    return problems


def _bad_keys(rows: Sequence[Annotation]) -> list[CellProblem]:
    """Find ids and files that stand on two rows, empty ids and names that cannot be files."""
    problems = []
    lines_of_ids: dict[str, int] = {}
    lines_of_paths: dict[str, int] = {}
    for row in rows:
        line_of_id = lines_of_ids.setdefault(row.clip_id, row.line)
        if not row.clip_id.strip():
            problems.append(CellProblem(row.line, ID, row.clip_id, "an id"))
        elif line_of_id != row.line:
            problems.append(CellProblem(row.line, ID, row.clip_id, f"each id once; line {line_of_id} has it too"))

        line_of_path = lines_of_paths.setdefault(row.path, row.line)
        if row.path and not row.path.isprintable():
            problems.append(CellProblem(row.line, PATH, row.path, "the name of a file"))
        elif row.path and line_of_path != row.line:
            problems.append(CellProblem(row.line, PATH, row.path, f"each file once; line {line_of_path} has it too"))

    return problems


def _songs(rows: Sequence[Annotation], info: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Name the song of every file: one original file, or one title by one artist on several albums."""
    joined: dict[tuple[str, str], tuple[str, str]] = {}  # from a mark of a song to the mark that leads it

    def lead(mark: tuple[str, str]) -> tuple[str, str]:
        while (upper := joined.setdefault(mark, mark)) != mark:
            mark = upper
        return mark

    files: dict[str, tuple[str, str]] = {}
    for row in rows:
        parts = _name_parts(row.path)
        if not parts:
            continue
        artist, album, number, title, *_ = parts
        files[row.path] = ("", f"{artist}-{album}-{number}-{title}")

        marks = [files[row.path]]
        if title:
            marks.append((artist, title))
        if url := info.get(row.clip_id, {}).get("original_url", ""):
            marks.append(("url", url))
        first, *others = sorted({lead(mark) for mark in marks})  # ("", name) comes first, so that a file's name leads
        joined.update(dict.fromkeys(others, first))

    return {path: lead(mark)[1] for path, mark in files.items()}


def _name_parts(path: str) -> list[str]:
    """Artist, album, number, title, start and end that a file is named after; nothing for other names."""
    parts = PurePosixPath(path).stem.split("-")
    return parts if len(parts) == _NAME_PARTS and parts[0] else []


def _info_notes(table: Annotations, info: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Say where titles and artists come from, and which clips the two tables disagree on."""
    if not info:
        return [f"there is no {CLIP_INFO} beside {table.path}: titles and artists are taken from the file names"]

    unknown = [row.clip_id for row in table.rows if row.clip_id not in info]
    other = [row.clip_id for row in table.rows if info.get(row.clip_id, {}).get(PATH, row.path) not in (row.path, "")]
    notes = []
    if unknown:
        are = "is" if len(unknown) == 1 else "are"
        notes.append(f"{how_many(len(unknown), 'clip')} {are} not in {CLIP_INFO}: {shortened(unknown, SHOWN_IDS)}")
    if other:
        have = "has" if len(other) == 1 else "have"
        named = shortened(other, SHOWN_IDS)
        notes.append(f"{how_many(len(other), 'clip')} {have} another file in {CLIP_INFO}: {named}")
    return notes


def _find_table(folder: Path) -> Path:
    """Find the table of tags in a folder or one step below."""
    for path in (folder / ANNOTATIONS, *sorted(folder.glob(f"*/{ANNOTATIONS}"))):
        if path.is_file():
            return path

    raise DataError(
        f"{folder} holds no {ANNOTATIONS}",
        valid=f"A folder with {ANNOTATIONS} and the clips in 0/ to f/ (or in mp3/0/ to mp3/f/)",
        next_step=f"The table is published at {_ORIGIN}",
    )


MAGNATAGATUNE = register(
    DataSet(
        name="magnatagatune",
        title="MagnaTagATune",
        licence="Creative Commons Attribution-NonCommercial-ShareAlike 3.0; the original tracks are Magnatune's",
        citation=(
            "E. Law, K. West, M. Mandel, M. Bay and J. S. Downie, Evaluation of algorithms using games: the case of "
            "music tagging, ISMIR 2009"
        ),
        origin="Music Informatics Research Group, City, University of London",
        size_bytes=3_000_000_000,
        n_tracks=25_863,
        labels=ALL_TAGS,
        label_kind="tags",
        archives=tuple(Archive(name, (f"{_ORIGIN}{name}",)) for name in ("mp3.zip.001", "mp3.zip.002", "mp3.zip.003")),
        joined="mp3.zip",
        files=tuple(Archive(name, (f"{_ORIGIN}{name}",)) for name in (ANNOTATIONS, CLIP_INFO)),
        index=index_magnatagatune,
        reads=is_annotations,
        faults=FAULTS,
        notes=(
            "No checksum is published. See docs/magnatagatune.md before comparing numbers: three splits and two sets "
            "of tags are in use, and a tag that is not given may still be true of the clip."
        ),
    )
)
