"""What people write and keep: manifests, recipes, maps and settings, plans, result files and the folders of runs."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

from musicgenre.data.index import index_csv, read_artists
from musicgenre.data.manifest import read_manifest, write_manifest
from musicgenre.data.splits import split
from musicgenre.data.targets import tag_targets
from musicgenre.data.validate import read_checksums
from musicgenre.errors import MusicgenreError, UsageError
from musicgenre.evaluation.study import write_reports
from musicgenre.filetags.splice import Edit, Splice
from musicgenre.library.genre_map import map_to_begin_with, read_map
from musicgenre.library.journal import Change, Journal
from musicgenre.library.memory import HeardMemory
from musicgenre.library.plan import PlanRow, read_plan, selected, write_plan
from musicgenre.library.playlists import write_lists, write_table
from musicgenre.listening.results import ResultFile
from musicgenre.training.recipe_names import recipe_files
from musicgenre.training.recipes import load_recipe
from tests.attack.base import BrokenPromiseError, Target
from tests.attack.models import BEFORE
from tests.attack.mutations import BINARY, JSON, ODD_TEXTS, TEXT, Mutation
from tests.cli import run
from tests.sounds import music, write
from tests.toy import RATE_HZ, save_toy

_LABELS = ("jazz", "rock", "pop")
_MISUSE = 2
_OF_RUNS = ("run.json", "group.json", "study.json")
_MANIFEST = (
    "track_id,path,label,split,group,fold,target:loud\n"
    + "".join(
        f"t{n},{n}.wav,{_LABELS[n % 3]},{('train', 'validation', 'test')[n % 3]},g{n},{n % 2},0.{n}\n"
        for n in range(9)
    )
    + '"t, 9","a ""b"".wav",jazz,train,,1,0.5\n'
).encode()
_ARTISTS = b"track_id,artist_group\nt0,one\nt1,two\nt2,\n"
_CHECKSUMS = b"track_id,md5\nt0,0123456789abcdef0123456789abcdef\nt1,fedcba9876543210fedcba9876543210\n"
_RECIPE = """base: mfcc-cnn
summary: "One of mine"
notes: 'no more than "words"'
systems: [E3, M1]
representation:
  name: mfcc
  options: {<<: &one {segment_s: 3.0}, n_mfcc: 13}
model: {name: cnn2d}
training:
  epochs: 3
  batch_size: 16
  learning_rate: 1.0e-3
  patience: null
protocol: {name: track, seed: 0, options: {}}
"""
_SETTINGS = b'[classify]\ncoverage = 5\ntop = 3\nthreads = 1\nformat = "json"\nquiet = true\n\n[embed]\njobs = 2\n'


def manifests(folder: Path) -> list[Target]:
    """Manifests and other tables of tracks."""
    about = [
        ("manifest", _MANIFEST, ".csv", use_manifest),
        ("manifest before", (BEFORE / "music.csv").read_bytes(), ".csv", use_manifest),
        ("artists", _ARTISTS, ".csv", lambda path: _read(read_artists(path))),
        ("checksums", _CHECKSUMS, ".csv", lambda path: _read(read_checksums(path))),
        ("table", _MANIFEST, ".csv", lambda path: _read(index_csv(path, checksums=False).notes)),
    ]
    found = []
    for name, content, suffix, use in about:
        files = {f"damaged{suffix}": content, "0.wav": b"", "1.wav": b""}
        found.append(Target(name, files, (f"damaged{suffix}",), TEXT, use))
    return found


def use_manifest(path: Path) -> None:
    """Read a manifest, split it, and write it.

    Raises
    ------
    BrokenPromiseError
        What is written is not what was read.
    """
    manifest = read_manifest(path)
    for act in (lambda: tag_targets(manifest), lambda: split(manifest, "track", seed=1)):
        try:
            act()
        except MusicgenreError:  # too few tracks of a label, say
            continue
    again = read_manifest(write_manifest(manifest, path.with_name("again.csv")))
    if [track.track_id for track in again.tracks] != [track.track_id for track in manifest.tracks]:
        raise BrokenPromiseError("a manifest is not what was written")
    if again.labels != manifest.labels:
        raise BrokenPromiseError(f"the labels {manifest.labels} became {again.labels}")


def recipes(folder: Path) -> list[Target]:
    """Recipes of one's own, those of the package, and settings from the command line."""
    published = [path for name, path in recipe_files().items() if not name.startswith("_")]
    found = [Target.of_file("own", _RECIPE.encode(), ".yaml", TEXT, use_recipe)]
    found += [Target.of_file(path.stem, path.read_bytes(), ".yaml", TEXT, use_recipe) for path in published[::8]]
    settings = b"training.epochs=3\nmodel={name: cnn2d}\nrepresentation.options.segment_s=3.0\nnotes=words"
    return [*found, Target.of_file("settings", settings, ".txt", TEXT, use_settings)]


def use_recipe(path: Path) -> None:
    """Read a recipe, and what it is written as once more.

    Raises
    ------
    BrokenPromiseError
        The two differ.
    """
    recipe = load_recipe(path)
    path.with_name("again.yaml").write_text(recipe.as_yaml(), encoding="utf-8")
    again = load_recipe(path.with_name("again.yaml"))
    if again.as_yaml() != recipe.as_yaml():
        raise BrokenPromiseError("a recipe is not what was written")


def use_settings(path: Path) -> None:
    """Change a recipe by lines such as `section.key=value`."""
    settings = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    load_recipe("mfcc-cnn", settings).as_yaml()


def maps(folder: Path) -> list[Target]:
    """Maps from labels to one's own genres, and the file of settings."""
    own = '\ncasing = "title"\nwrite_parents = true\nwhitelist = ["Jazz"]\n[parents]\nJazz = "Music"\n'
    full = own + '[labels]\njazz = ["Jazz", "Soul"]\nrock = ""\n[ignore.artists]\n"A*" = ["Pop"]\n'
    texts = {"to begin with": map_to_begin_with(_LABELS, "toy"), "full": full}
    found = [Target.of_file(name, text.encode(), ".toml", TEXT, use_map) for name, text in texts.items()]

    model = save_toy(folder / "toy.onnx").read_bytes()
    sound = write(folder / "sound.wav", music(0.5, RATE_HZ, 1), RATE_HZ).read_bytes()
    files = {"config.toml": _SETTINGS, "toy.onnx": model, "sound.wav": sound}
    return [*found, Target("settings", files, ("config.toml",), (*TEXT, odd_setting, odd_setting), use_config)]


def odd_setting(content: bytes, chance: random.Random) -> bytes:
    """Give a setting a value of another kind."""
    lines = content.decode().splitlines()
    at = chance.choice([number for number, line in enumerate(lines) if "=" in line])
    values = (
        "1",
        "-1",
        "0",
        "9" * 300,
        "1e999",
        "nan",
        "true",
        '""',
        "[]",
        "[1, 'a']",
        "{}",
        "1979-05-27",
        "07:32:00",
        '"a\\u0000"',
    )
    quoted = '"' + chance.choice(ODD_TEXTS).replace("\\", "\\\\").replace('"', "'") + '"'
    lines[at] = f"{lines[at].split('=')[0]}= {chance.choice((*values, quoted))}"
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def use_map(path: Path) -> None:
    """Read a map and name the genres of some tracks."""
    genre_map = read_map(path, _LABELS)
    for artist in ("", "An Artist"):
        names = genre_map.names(_LABELS, artist=artist, path="music/a.mp3")
        if not all(name.isprintable() for name in names):
            raise BrokenPromiseError(f"the names are {names}")


def use_config(path: Path) -> None:
    """Classify a sound with the settings of a file."""
    folder = path.parent
    environment = {"MUSICGENRE_CONFIG": str(folder)}
    done = run("classify", folder / "sound.wav", "--model", folder / "toy.onnx", cwd=folder, env=environment)
    said = done.stderr.decode("utf-8", "replace")
    if b"not enough memory" in done.stderr or any(not (line.isprintable()) for line in said.splitlines()):
        raise BrokenPromiseError(said)
    if done.returncode == _MISUSE:
        raise UsageError(" ".join(said.split()))
    if done.returncode not in (0, 1):
        raise BrokenPromiseError(f"exit code {done.returncode}: {said}")


def plans(folder: Path) -> list[Target]:
    """Plans of a library, its journal, and the memory of what was heard."""
    about = {
        "sound_sha256": "0" * 64,
        "tags_sha256": "1" * 64,
        "container": "flac",
        "artist": "An Artist",
        "album": "B",
    }
    rows = [
        PlanRow("a.flac", True, ("Rock",), ("Jazz",), 0.9, set={"genre": ("Jazz",)}, meant=("Jazz",), **about),  # type: ignore[arg-type]
        PlanRow("b.mp3", False, (), ("Pop", "Soul"), None, why="unsure", note="too short", **about),  # type: ignore[arg-type]
    ]
    write_plan(rows, folder / "plan.jsonl")

    splice = Splice((Edit(10, b"Rock", b"Jazz"),))
    change = Change(
        "/a.flac", "0" * 64, "1" * 64, "2" * 64, {"genre": ()}, {"genre": ("Jazz",)}, splice, "toy", "3" * 64
    )
    with Journal(folder / "journal.sqlite") as journal:
        [number] = journal.open_changes(journal.begin("apply"), [change])
        journal.settle([number])
        journal.correct("0" * 64, ["Jazz"])
    with HeardMemory(folder / "heard.sqlite") as memory:
        memory.remember("0" * 64, "settings", {"genre": "jazz", "scores": {"jazz": 1.0}})
    for name in ("journal", "heard"):
        for ending in ("-wal", "-shm"):
            (folder / f"{name}.sqlite{ending}").unlink(missing_ok=True)

    return [
        Target.of_file("plan", (folder / "plan.jsonl").read_bytes(), ".jsonl", JSON, use_plan),
        Target.of_file("journal", (folder / "journal.sqlite").read_bytes(), ".sqlite", BINARY, use_journal),
        Target.of_file("memory", (folder / "heard.sqlite").read_bytes(), ".sqlite", BINARY, use_memory),
    ]


def use_plan(path: Path) -> None:
    """Read a plan, write it again, and make lists of it.

    Raises
    ------
    BrokenPromiseError
        What is written is not what was read.
    """
    rows = list(read_plan(path))
    list(selected(rows, only_missing=True, min_confidence=0.5, genres=["jazz"], albums=["b"]))
    write_plan(rows, path.with_name("again.jsonl"))
    if list(read_plan(path.with_name("again.jsonl"))) != rows:
        raise BrokenPromiseError("a plan is not what was written")

    write_table(rows, path.with_name("table.csv"), overwrite=False)
    for is_smart in (False, True):
        lists = list(write_lists(rows, path.parent / f"lists-{is_smart}", is_smart=is_smart, overwrite=False))
        if any(list_.parent != path.parent / f"lists-{is_smart}" for list_ in lists):
            raise BrokenPromiseError(f"the lists are {lists}")


def use_journal(path: Path) -> None:
    """Read all that was written."""
    with Journal(path) as journal:
        journal.runs()
        journal.unsettled()
        list(journal.changes())
        journal.correction("0" * 64)
        journal.ours("a.flac")


def use_memory(path: Path) -> None:
    """Ask what was heard, and remember something."""
    with HeardMemory(path) as memory:
        memory.heard("0" * 64, "settings")
        memory.remember("2" * 64, "settings", {"genre": "rock"})
        if memory.heard("2" * 64, "settings") not in (None, {"genre": "rock"}):
            raise BrokenPromiseError("what was remembered is another thing")


def results(folder: Path) -> list[Target]:
    """Result files that are gone on with, and answers that become targets."""
    found = []
    for name in ("results.jsonl", "results.csv", "tags.jsonl"):
        suffix = Path(name).suffix
        mutations: tuple[Mutation, ...] = TEXT if suffix == ".csv" else JSON
        found.append(Target.of_file(name, (BEFORE / name).read_bytes(), suffix, mutations, use_results))
    return found


def use_results(path: Path) -> None:
    """Go on with a result file."""
    settings = {"model": "toy", "coverage": "18", "model_sha256": "0" * 64}
    kind = "csv" if path.suffix == ".csv" else "json"
    with ResultFile(path, kind, settings, resume=True, overwrite=False) as file:  # type: ignore[arg-type]
        file.done(os.fspath(path))


def runs(folder: Path) -> list[Target]:
    """Folders of runs, of groups of them and of a study, as earlier versions left them."""
    found = []
    for name in ("mfcc", "mel", "tags", "table", "group", "study", "ensemble"):
        for pattern, mutations in (("*.json", JSON), ("*.csv", TEXT), ("*.yaml", TEXT)):
            whole = shutil.copytree(BEFORE / name, folder / f"{name}-{pattern[2:]}")
            if not list(whole.rglob(pattern)):
                continue
            found.append(Target.of_folder(whole, pattern, mutations, use_run, name=f"{name} {pattern}"))
    return found


def use_run(path: Path) -> None:
    """Evaluate a run and write its reports."""
    above = [folder for folder in path.parents if any((folder / name).is_file() for name in _OF_RUNS)]
    for report in write_reports(above[-1]):
        if not all(line.isprintable() for line in (*report.to_text().splitlines(), *report.to_json().splitlines())):
            raise BrokenPromiseError("a report that cannot be printed")


def _read(value: object) -> None:
    """What was read is enough."""
