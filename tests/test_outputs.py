"""The rule of every output: nothing is replaced unasked, an input never, and a folder of others is left alone."""

from __future__ import annotations

import errno
import os
import shutil
import typing
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import typer

from musicgenre import _files
from musicgenre._outputs import UNFINISHED, refuse_foreign_folder, refuse_overwriting, refuse_same_outputs
from musicgenre.cli import app
from musicgenre.data.manifest import Manifest, Track, read_manifest, write_manifest
from musicgenre.data.store import STORE_FILE
from musicgenre.errors import UsageError
from tests.cli import run
from tests.make_run import make_run, random_answers
from tests.small_store import make_store
from tests.sounds import music, write
from tests.toy import RATE_HZ, save_toy, save_toy_ears

pytestmark = pytest.mark.usefixtures("checked_on_short_tracks")

# What every parameter that takes a path is: an input, a file or a folder that is written, a file that grows by whole
# lines, or a folder of ours, where what is added has names of its own.
PATHS = {
    ("augment", "manifest"): "input",
    ("augment", "output"): "folder",
    ("bundles get", "labels"): "input",
    ("bundles get", "source"): "input",
    ("classify", "output"): "file",
    ("classify", "plot"): "file",
    ("compare", "against"): "input",
    ("compare", "figures"): "ours",
    ("compare", "output"): "file",
    ("compare", "runs"): "input",
    ("data audit", "path"): "input",
    ("data get", "artists"): "input",
    ("data get", "folder"): "ours",
    ("data get", "output"): "file",
    ("data get", "source"): "input",
    ("data index", "artists"): "input",
    ("data index", "clips"): "input",
    ("data index", "output"): "file",
    ("data index", "source"): "input",
    ("data split", "manifest"): "input",
    ("data split", "output"): "file",
    ("data targets", "answers"): "input",
    ("data targets", "manifest"): "input",
    ("data targets", "output"): "file",
    ("data validate", "index_file"): "input",
    ("data validate", "path"): "input",
    ("embed", "output"): "file",
    ("ensemble", "output"): "folder",
    ("ensemble", "runs"): "input",
    ("evaluate", "answers"): "file",
    ("evaluate", "data"): "input",
    ("evaluate", "labels_map"): "input",
    ("evaluate", "output"): "file",
    ("export", "check"): "input",
    ("export", "output"): "file",
    ("export", "run"): "input",
    ("leak-report", "data"): "input",
    ("leak-report", "output"): "folder",
    ("library apply", "plan_file"): "input",
    ("library export", "output"): "file",
    ("library export", "plan_file"): "input",
    ("library map init", "output"): "file",
    ("library plan", "map_file"): "input",
    ("library plan", "output"): "file",
    ("library review", "plan_file"): "input",
    ("library show", "plan_file"): "input",
    ("library undo", "path"): "input",
    ("library watch", "folders"): "input",
    ("library watch", "map_file"): "input",
    ("library watch", "output"): "extended",
    ("pipeline", "file"): "input",
    ("prepare", "cache"): "ours",
    ("prepare", "manifest"): "input",
    ("prepare", "output"): "folder",
    ("serve", "index"): "input",
    ("serve", "plan"): "input",
    ("serve", "token_file"): "input",
    ("search", "output"): "folder",
    ("shard", "output"): "folder",
    ("shard", "source"): "input",
    ("show", "output"): "file",
    ("show", "sound"): "file",
    ("show", "track"): "input",
    ("similar", "index"): "input",
    ("teach", "output"): "file",
    ("teach", "source"): "input",
    ("train", "output"): "folder",
    ("train", "store"): "folder",
}


# What to type, and which file it reads, for every output that is a file: {} stands for the output.
FILES: dict[tuple[str, str], tuple[str, str, str]] = {
    ("classify", "output"): ("classify a.wav --model toy.onnx --output {}", ".jsonl", "a.wav"),
    ("classify", "plot"): ("classify a.wav --model toy.onnx --plot {}", ".png", "a.wav"),
    ("data get", "output"): ("data get gtzan --from list.csv --folder new --output {}", ".csv", "list.csv"),
    ("data index", "output"): ("data index list.csv --output {}", ".csv", "list.csv"),
    ("data split", "output"): ("data split m.csv --protocol track --output {}", ".csv", "a.wav"),
    ("data targets", "output"): ("data targets m.csv answers.jsonl --output {}", ".csv", "answers.jsonl"),
    ("embed", "output"): ("embed a.wav --model ears.onnx --output {}", ".npz", "a.wav"),
    ("compare", "output"): ("compare run other --output {}", ".json", "run/run.json"),
    ("evaluate", "answers"): ("evaluate toy.onnx --data m.csv --answers {}", ".csv", "a.wav"),
    ("evaluate", "output"): ("evaluate run --output {}", ".json", "run/run.json"),
    ("export", "output"): ("export run --output {}", ".onnx", "run/predictions_test.csv"),
    ("library export", "output"): ("library export plan.jsonl --format csv --output {}", ".csv", "plan.jsonl"),
    ("library map init", "output"): ("library map init --model toy.onnx --output {}", ".toml", "toy.onnx"),
    ("library plan", "output"): ("library plan a.wav --model toy.onnx --output {}", ".jsonl", "a.wav"),
    ("show", "output"): ("show a.wav --output {}", ".png", "a.wav"),
    ("show", "sound"): ("show a.wav --output new.png --augment shift --sound {}", ".wav", "a.wav"),
    ("teach", "output"): ("teach m.csv --name mine --output {}", ".json", "m.csv"),
}
FOLDERS = {
    ("augment", "output"): "augment m.csv --jobs 1 --output {}",
    ("ensemble", "output"): "ensemble run other --output {}",
    ("leak-report", "output"): "leak-report table-naive-bayes-3s --data m.csv --jobs 1 --output {}",
    ("prepare", "output"): "prepare m.csv --representation mfcc --set segment_s=0.5 --jobs 1 --output {}",
    ("search", "output"): "search table-naive-bayes-3s --data m.csv --output {}",
    ("shard", "output"): "shard store --output {}",
    ("train", "output"): "train table-naive-bayes-3s --data m.csv --output {}",
    ("train", "store"): "train mfcc-cnn --data m.csv --output new --set training.epochs=1 --jobs 1 --store {}",
}


LINKS: dict[str, Callable[[Path, Path], None]] = {
    "symbolic link": lambda link, target: link.symlink_to(target),
    "hard link": lambda link, target: link.hardlink_to(target),
    "link by ..": lambda link, target: link.symlink_to(Path(os.path.relpath(target, link.parent))),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tracks, lists, models and runs: what the commands read, and no test changes."""
    folder = tmp_path_factory.mktemp("outputs")
    tracks = []
    for number, name in enumerate("abcdefgh"):
        path = write(folder / f"{name}.wav", music(1.0, RATE_HZ, 1, seed=number), RATE_HZ)
        split = ("train", "train", "validation", "test")[number % 4]
        tracks.append(Track(name, path, "xy"[number // 4], split=split))
    write_manifest(Manifest(None, tuple(tracks)), folder / "m.csv")

    (folder / "list.csv").write_text("path,label\na.wav,x\nb.wav,y\n")
    (folder / "answers.jsonl").write_text("{}\n")
    (folder / "plan.jsonl").write_text('{"format": 1, "path": "a.wav", "write": false}\n')
    save_toy(folder / "toy.onnx")
    save_toy_ears(folder / "ears.onnx")
    make_store(folder / "store")
    for name in ("run", "other"):
        make_run(folder / name, random_answers(1, 6), recipe=name)
    return folder


def typed(words: str, output: Path | str, *more: str, cwd: Path) -> tuple[int, str]:
    """Run what a person types, the output in its place; exit code, and what is said on standard error."""
    arguments = [str(output) if word == "{}" else word for word in words.split()]
    done = run(*arguments, *more, cwd=cwd, env={"MUSICGENRE_CACHE": str(cwd / "cache")})
    return done.returncode, done.stderr.decode()


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, but locks."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(".lock")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def commands(group: typer.Typer, prefix: str = "") -> Iterator[tuple[str, Callable[..., object]]]:
    """All commands of the command line with the functions behind them."""
    for command in group.registered_commands:
        assert command.callback is not None
        yield f"{prefix}{command.name or command.callback.__name__}", command.callback
    for sub in group.registered_groups:
        assert sub.typer_instance is not None
        yield from commands(sub.typer_instance, f"{prefix}{sub.name} ")


def test_every_path_of_every_command_is_known_as_input_or_output() -> None:
    """A new command, or a new option, cannot forget the rule."""
    found = set()
    for name, function in commands(app):
        for parameter, kind in typing.get_type_hints(function).items():
            takes_a_path = (
                kind is Path or Path in typing.get_args(kind) or list[Path] in (kind, *typing.get_args(kind))
            )
            assert takes_a_path or parameter != "output", f"--output of {name} names no path"
            if takes_a_path:
                found.add((name, parameter))
    assert found == PATHS.keys()
    assert FILES.keys() == {place for place, kind in PATHS.items() if kind == "file"}
    assert FOLDERS.keys() == {place for place, kind in PATHS.items() if kind == "folder"}

    asks = {name for name, function in commands(app) if "overwrite" in typing.get_type_hints(function)}
    assert asks == {name for name, _ in FILES}, "a command that writes a file can be told to replace one, no other"


@pytest.mark.parametrize("option", FILES, ids="-".join)
def test_a_file_is_not_replaced_unasked(option: tuple[str, str], place: Path, tmp_path: Path) -> None:
    words, suffix, _ = FILES[option]
    output = tmp_path / f"precious{suffix}"
    output.write_bytes(b"precious")
    before = contents(place)
    code, said = typed(words, output, cwd=place)
    assert code == 2 and f"{output} exists already" in said and "--overwrite" in said
    assert output.read_bytes() == b"precious" and contents(place) == before, "nothing was done before"

    for kind in ("folder", "link to nothing"):
        other = tmp_path / f"{kind}{suffix}"
        other.mkdir() if kind == "folder" else other.symlink_to(tmp_path / "nothing")
        code, said = typed(words, other, cwd=place)
        assert code == 2 and ("is no file but a folder" if kind == "folder" else "exists already") in said


@pytest.mark.parametrize(
    "option",
    [
        *(("classify", "plot"), ("data index", "output"), ("data split", "output"), ("evaluate", "output")),
        *(("compare", "output"), ("library export", "output"), ("library map init", "output")),
        ("library plan", "output"),
        *(("show", "output"), ("show", "sound")),
    ],
    ids="-".join,
)
@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_came_there_meanwhile_is_not_replaced(
    option: tuple[str, str], has_links: bool, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another process writes it between the first look and the end."""
    words, suffix, _ = FILES[option]
    own = Path(shutil.copytree(place, tmp_path / "own"))
    output = tmp_path / f"new{suffix}"
    begin = _files._temporary_file

    def begin_second(path: Path) -> tuple[Path, int]:
        if path.name == output.name:
            output.write_bytes(b"theirs")
        return begin(path)

    monkeypatch.setattr(_files, "_temporary_file", begin_second)
    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    code, said = typed(words, output, cwd=own)
    assert code == 2 and f"{output} cannot be written: it came there while this command was at work" in said
    assert output.read_bytes() == b"theirs" and not list(tmp_path.glob(".new*"))
    code, said = typed(words, output, "--overwrite", cwd=own)
    assert code == 0 and output.read_bytes() != b"theirs", said


def no_links(path: Path, target: Path) -> None:
    raise OSError(errno.EPERM, "no links here")


def test_of_many_writers_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "new.txt"

    def write_own(number: int) -> bool:
        try:
            _files.write_text_atomic(path, str(number), overwrite=False)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write_own, range(50)))
    assert won.count(True) == 1 and path.read_text() == str(won.index(True))
    assert contents(tmp_path).keys() == {"new.txt"}


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("option", FILES, ids="-".join)
def test_an_input_is_never_replaced(option: tuple[str, str], kind: str, place: Path, tmp_path: Path) -> None:
    words, suffix, read = FILES[option]
    output = tmp_path / f"link{suffix}"
    LINKS[kind](output, place / read)
    before = contents(place)
    code, said = typed(words, output, "--overwrite", cwd=place)
    assert code == 2 and "is one of the tracks or other files that this command reads" in said
    assert output.read_bytes() == (place / read).read_bytes() and contents(place) == before


@pytest.mark.parametrize("option", FOLDERS, ids="-".join)
def test_a_folder_of_somebody_else_is_left_alone(option: tuple[str, str], place: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine"
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    more = ("--set", "data.labels=[]") if option[0] == "train" else ()
    code, said = typed(FOLDERS[option], output, *more, cwd=place)
    assert code == 2 and "is not empty" in said
    assert contents(output) == {"notes.txt": b"mine"}

    code, said = typed(FOLDERS[option], output / "notes.txt", *more, cwd=place)
    assert code == 2 and str(output / "notes.txt") in said and contents(output) == {"notes.txt": b"mine"}


def test_what_is_asked_to_be_replaced_is(place: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(place, tmp_path / "own"))
    for words, name in (
        (FILES["evaluate", "output"][0], "report.json"),
        (FILES["data split", "output"][0], "split.csv"),
        (FILES["data index", "output"][0], "index.csv"),
        (FILES["show", "output"][0], "look.png"),
        (FILES["classify", "output"][0], "results.jsonl"),
        (FILES["embed", "output"][0], "vectors.npz"),
    ):
        (own / name).write_bytes(b"old")
        code, said = typed(words, own / name, "--overwrite", cwd=own)
        assert code == 0, said
        assert (own / name).read_bytes() not in (b"old", b"")


def test_a_list_on_standard_input_and_the_model_are_inputs(place: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(place, tmp_path / "own"))
    listed = own / "list.txt"
    listed.write_text("a.wav\n")
    with listed.open("rb") as stream:
        assert os.path.samestat(os.fstat(stream.fileno()), listed.stat())
        with pytest.raises(UsageError, match="reads"):
            refuse_overwriting(listed, overwrite=True, inputs=[stream.fileno()])
    for model in ("toy.onnx", own / "toy.onnx"):
        done = run(
            "classify", "a.wav", "--model", model, "--output", "toy.onnx", "--format", "json", "--overwrite", cwd=own
        )
        assert done.returncode == 2 and b"reads" in done.stderr


def test_a_split_may_be_written_into_the_manifest_and_nowhere_else_unasked(place: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(place, tmp_path / "own"))
    words = "data split m.csv --protocol kfold --folds 2 --output {}"
    assert typed(words, "m.csv", cwd=own)[0] == 0, "the manifest is what a split is written into"
    assert {track.fold for track in read_manifest(own / "m.csv").tracks} == {0, 1}
    (own / "link.csv").hardlink_to(own / "m.csv")
    code, said = typed(words, "link.csv", "--overwrite", cwd=own)
    assert code == 2 and "one of the tracks or other files" in said, "by another name it is an input"
    before = (own / "list.csv").read_bytes()
    assert typed(words, "list.csv", cwd=own)[0] == 2
    assert (own / "list.csv").read_bytes() == before


def test_the_default_output_of_an_export_is_no_exception(place: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(place, tmp_path / "own"))
    (own / "run" / "run.onnx").write_bytes(b"precious")
    done = run("export", "run", cwd=own)
    assert done.returncode == 2 and b"run.onnx exists already" in done.stderr
    assert (own / "run" / "run.onnx").read_bytes() == b"precious"


def test_two_outputs_are_two_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--output and --plot are the same file"):
        refuse_same_outputs([("--output", tmp_path / "a.png"), ("--plot", tmp_path / "b" / ".." / "A.PNG")])
    refuse_same_outputs([("--output", tmp_path / "a.png"), ("--plot", tmp_path / "b.png")])


@pytest.mark.skipif(os.name == "nt", reason="POSIX only")
def test_a_device_is_never_replaced() -> None:
    with pytest.raises(UsageError, match="a device or a pipe"):
        refuse_overwriting(Path(os.devnull), overwrite=True)


def test_an_augmentation_never_takes_the_place_of_the_manifest_it_reads(place: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    tracks = read_manifest(place / "m.csv").tracks
    marked = tuple(track.with_columns(augmentation="") for track in tracks)  # as augmented manifests are
    write_manifest(Manifest(None, marked), own / "manifest.csv")
    before = contents(own)
    code, said = typed("augment manifest.csv --jobs 1 --output {}", own, cwd=own)
    assert code == 2 and "is not empty: it holds manifest.csv" in said
    assert contents(own) == before


def test_what_an_augmentation_wrote_it_takes_again(place: Path, tmp_path: Path) -> None:
    words = "augment m.csv --jobs 1 --chain shift --output {}"
    output = tmp_path / "copies"
    assert typed(words, output, cwd=place)[0] == 0
    written = contents(output)
    assert UNFINISHED not in written and len(written) == 5
    assert typed(words, output, cwd=place)[0] == 0
    (output / "manifest.csv").unlink()  # as a kill would leave it
    (output / UNFINISHED).touch()
    assert typed(words, output, cwd=place)[0] == 0
    assert contents(output) == written


def test_a_preparation_removes_what_it_wrote_and_nothing_else(place: Path, tmp_path: Path) -> None:
    output = tmp_path / "store"
    words = "prepare {} --jobs 1 --representation mfcc --set segment_s=0.5 --output " + str(output)
    assert typed(words, "m.csv", cwd=place)[0] == 0
    first = contents(output)
    foreign = {"train-0123456789abcdef.npy": b"mine", "index-0123456789abcdef.csv": b"mine", "notes.txt": b"mine"}
    for name, content in foreign.items():
        (output / name).write_bytes(content)

    # another split has other parts: those of before go, those of somebody else stay
    resplit = tmp_path / "resplit.csv"
    assert typed("data split m.csv --protocol kfold --folds 2 --output {}", resplit, cwd=place)[0] == 0
    assert typed(words, resplit, cwd=place)[0] == 0
    second = contents(output)
    assert {name: second[name] for name in foreign} == foreign
    assert UNFINISHED not in second
    assert first.keys() - second.keys() == {name for name in first if name != STORE_FILE}

    # what a kill left is known by the list that was written before it
    (output / "test-fedcba9876543210.npy").write_bytes(b"half")
    (output / UNFINISHED).write_text("test-fedcba9876543210.npy\n../m.csv\nnotes.txt\n")
    (tmp_path / "m.csv").write_text("mine")
    assert typed(words, resplit, cwd=place)[0] == 0
    assert contents(output) == second
    assert (tmp_path / "m.csv").read_text() == "mine"


def test_another_programs_store_json_is_no_store_of_ours(place: Path, tmp_path: Path) -> None:
    output = tmp_path / "shop"
    output.mkdir()
    (output / STORE_FILE).write_text('{"shop": "books"}')
    code, said = typed(FOLDERS["prepare", "output"], output, cwd=place)
    assert code == 2 and "is not empty" in said and contents(output) == {STORE_FILE: b'{"shop": "books"}'}

    assert typed(FOLDERS["prepare", "output"], tmp_path / "ours", cwd=place)[0] == 0
    (tmp_path / "ours" / STORE_FILE).write_text('{"format_ver')  # a damaged store of ours is made anew
    assert typed(FOLDERS["prepare", "output"], tmp_path / "ours", cwd=place)[0] == 0


def test_a_training_goes_on_only_with_what_is_a_run(place: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(place, tmp_path / "own"))
    before = contents(own)
    words = "train table-naive-bayes-3s --data m.csv --resume --output {}"
    code, said = typed(words, ".", cwd=own)
    assert code == 2 and "holds no run, but a.wav" in said
    (tmp_path / "data").mkdir()
    shutil.copy(own / "m.csv", tmp_path / "data" / "manifest.csv")
    code, said = typed(
        "train table-naive-bayes-3s --data data/manifest.csv --resume --output {}", "data", cwd=tmp_path
    )
    assert code == 2 and "manifest.csv is one of" in said
    assert contents(own) == before


def test_a_folder_that_is_new_or_empty_may_be_written_into(tmp_path: Path) -> None:
    for folder in (tmp_path / "new", tmp_path):
        refuse_foreign_folder(folder, lambda folder: False, command="us")
    (tmp_path / ".lock").touch()
    refuse_foreign_folder(tmp_path, lambda folder: False, command="us")
    (tmp_path / "notes").touch()
    refuse_foreign_folder(tmp_path, lambda folder: True, command="us")
    with pytest.raises(UsageError, match="it holds notes"):
        refuse_foreign_folder(tmp_path, lambda folder: False, command="us")
