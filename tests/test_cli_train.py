"""The commands train and recipes, run as a person runs them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from musicgenre.training.recipe_names import list_recipes
from tests.cli import run
from tests.fresh import run_python
from tests.labelled_music import make_collection, make_table
from tests.limits import GUARD_S

ROOT = Path(__file__).resolve().parents[1]
QUICK = (
    "--set",
    "training.epochs=2",
    "--set",
    "protocol.options={test_size: 0.34, validation_size: 0.17}",
    "--jobs",
    "1",
)


def cache(folder: Path) -> dict[str, str]:
    return {"MUSICGENRE_CACHE": str(folder / "cache")}


def text(stream: bytes) -> str:
    return stream.decode("utf-8", "replace")


def test_recipes_lists_all_with_row_codes() -> None:
    done = run("recipes")
    lines = text(done.stdout).splitlines()
    assert done.returncode == 0
    assert [line.split()[0] for line in lines] == list_recipes()
    assert any(line.startswith("mfcc-cnn ") and "E1, E3, E5" in line for line in lines)


def test_the_light_install_lists_recipes_and_knows_wrong_names() -> None:
    def run_light(*words: str) -> subprocess.CompletedProcess[str]:
        # pydantic may be there all the same: some versions of typer bring it
        hidden = ("torch", "lightning", "yaml", "sklearn", "scipy", "audiomentations", "numba", "matplotlib")
        program = (
            f"import sys; sys.modules.update(dict.fromkeys({hidden!r})); sys.argv = {['musicgenre', *words]!r};"
            "from musicgenre.cli import main; main()"
        )
        return run_python(program)

    assert run_light("recipes").stdout == text(run("recipes").stdout)
    assert run_light("recipes", "E4").stdout == text(run("recipes", "E4").stdout)
    whole = run_light("recipes", "mfcc-cnn")
    assert whole.returncode == 2 and "reading recipes needs packages" in whole.stderr
    for command in (("train", "e33", "--data", "m.csv"), ("shard", "m.csv", "--recipe", "e33", "--output", "s")):
        wrong = run_light(*command)
        assert wrong.returncode == 2 and "there is no recipe named 'e33'. Nearest: mfcc-cnn." in wrong.stderr


MISUSE = {
    "train e33 --data none.csv": "no recipe named 'e33'",
    "train mfcc-cnn --data none.csv": "no file",
    "train mfcc-cnn --data none.csv --set training.epoch=3": "unknown key",
    "train mfcc-cnn --data none.csv --resume": "nothing to resume",
    "train mfcc-cnn --data none.csv --set model.name=mffc-cnn": "Nearest: 'mfcc-cnn'",
    "train mfcc-cnn --data none.csv --set representation.name=mfc": "Nearest: 'mfcc'",
    "train vggish-tagger --data labels.csv": "every track of the manifest has one label",
    "train mfcc-cnn --data tags.csv --set data.labels=[]": "12 tracks of the manifest have tags and no label",
    "train mfcc-cnn --data labels.csv --set data.labels=[jazz,polka]": "polka",
    "train mfcc-cnn --data labels.csv --set data.labels=[] --set protocol.name=artist": "group",
    "train mfcc-cnn --data labels.csv --set data.labels=[] --set protocol.name=artits": "Did you mean 'artist'?",
    "train mfcc-cnn --data labels.csv --set data.labels=[] --folds 13": "13 folds",
    "shard labels.csv --recipe vggish-tagger --output s": "every track of the manifest has one label",
    "search vggish-tagger --data labels.csv": "every track of the manifest has one label",
    "train mfcc-cnn --data halves.csv --set data.labels=[]": "the split has no test part",
    "train mfcc-cnn --data trains.csv --set data.labels=[]": "the split has no validation part and no test part",
    "search mfcc-cnn --data halves.csv --set data.labels=[]": "no test part, on which the winner is scored",
    "search mfcc-cnn --data labels.csv --set data.labels=[] --resume": "nothing to resume",
    "search mfcc-cnn --data labels.csv --set data.labels=[] --space model.width=4": "leaves nothing to choose",
    "search mfcc-cnn --data labels.csv --set data.labels=[] --space training.epoch=4,8": "unknown key",
    "search mfcc-cnn --data labels.csv --set protocol.name=segment-leaky": "the test part chooses the checkpoint",
    "leak-report e33 --data none.csv": "no recipe named 'e33'",
    "leak-report mfcc-cnn --data none.csv": "no file",
    "leak-report mfcc-cnn --data labels.csv --set protocol.name=track": "every one is tried",
    "leak-report mel-cnn2d-tags --data labels.csv": "no single model with one label per track",
    "leak-report mfcc-cnn --data tags.csv --set data.labels=[]": "no protocol can be had from these tracks: 12 tracks",
    "leak-report mfcc-cnn --data labels.csv --set data.labels=[polka]": "polka",
    "models resnet35": "Nearest: resnet",
    "compare none none": "no run folder",
    "augment none.csv": "no file",
    "shard none.csv --recipe mfcc-cnn --output s": "no file",
    "prepare none.csv --representation mfcc": "no file",
    "prepare labels.csv --representation mfc": "Nearest: 'mfcc'",
    "prepare labels.csv --representation mfcc --set n_mfc=3": "n_mfcc",
    "show none.wav --output p.png": "does not exist",
    "show none.wav --output p.png --augment a4": "no augmentation chain",
    "evaluate none": "no run folder",
    "evaluate none --data labels.csv": "no model 'none'",
    "evaluate default --data none.csv": "no file",
    "ensemble none other": "no run folder",
    "pipeline none.yaml": "none.yaml",
    "export none": "no run folder",
}
"""Commands that are misused, and what is said of it."""

# What takes seconds to load. All commands run in one process: each tells its exit code and what of that it loaded.
_HEAVY = (
    "torch",
    "lightning",
    "transformers",
    "sklearn",
    "scipy",
    "audiomentations",
    "librosa",
    "matplotlib",
    "numba",
    "onnx",
    "optuna",
    "plotly",
)
_MISUSING = f"""
import io, json, sys
from musicgenre.cli import main
for words in json.loads(sys.argv[1]):
    before = set(sys.modules)
    sys.argv, out, err = ["musicgenre", *words.split()], sys.stdout, sys.stderr
    sys.stdout = sys.stderr = said = io.StringIO()
    code = 0
    try:
        main()
    except SystemExit as error:
        code = error.code
    sys.stdout, sys.stderr = out, err
    loaded = [name for name in {_HEAVY!r} if name in set(sys.modules) - before]
    print(json.dumps([words, code, said.getvalue(), loaded]))
"""


@pytest.fixture(scope="module")
def misused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    """Exit code, words and heavy packages of every command of `MISUSE`."""
    command = [sys.executable, "-c", _MISUSING, json.dumps(list(MISUSE))]
    folder = tmp_path_factory.mktemp("misused")
    rows = [f"{number}.wav,{('jazz', 'metal')[number % 2]}" for number in range(12)]
    (folder / "labels.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    (folder / "tags.csv").write_text("\n".join(["path,labels", *(f"{row};slow" for row in rows)]), encoding="utf-8")
    for name, parts in (("halves", ("train", "train", "validation")), ("trains", ("train",))):
        split = [f"{row},{parts[number // 2 % len(parts)]}" for number, row in enumerate(rows)]
        (folder / f"{name}.csv").write_text("\n".join(["path,label,split", *split]), encoding="utf-8")
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GUARD_S, cwd=folder)
    return {words: told for words, *told in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("words", MISUSE)
def test_misuse_is_told_before_anything_heavy_is_loaded(words: str, misused: dict[str, list[object]]) -> None:
    """Loading these takes seconds; that none is loaded is what keeps the answer quick."""
    code, said, loaded = misused[words]
    assert (code, loaded) == (2, []) and MISUSE[words] in str(said), said


@pytest.mark.parametrize(
    ("words", "package", "extra"),
    [
        (("wav2vec2-finetune",), "transformers", "pretrained"),
        (("wavlm-linear-probe",), "transformers", "pretrained"),
        (("mfcc-cnn", "--set", "training.stream.active=4"), "pescador", "stream"),
    ],
)
def test_an_absent_extra_is_told_before_the_tracks_are_looked_at(
    words: tuple[str, ...], package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    done = run("train", *words, "--data", "none.csv")
    assert done.returncode == 2 and f"musicgenre[{extra}]" in text(done.stderr)


def test_recipes_lists_those_that_match_a_pattern() -> None:
    done = run("recipes", "fusion-cnn?d*")
    names = [line.split()[0] for line in text(done.stdout).splitlines()]
    assert (
        names == [name for name in list_recipes() if name.startswith(("fusion-cnn1d", "fusion-cnn2d"))]
        and len(names) > 1
    )
    nothing = run("recipes", "zz*")
    assert nothing.returncode == 2 and "no recipe's name matches 'zz*'" in text(nothing.stderr)
    assert "--set changes one recipe" in text(run("recipes", "fusion*", "--set", "training.epochs=7").stderr)


def test_a_pattern_that_matches_nothing_offers_the_nearest_names() -> None:
    done = run("recipes", "mfcc*cn")
    assert done.returncode == 2 and "Nearest: mfcc-cnn, mfcc-" in text(done.stderr)
    assert "Nearest" not in text(run("recipes", "zzz*qq").stderr)


def test_recipes_are_found_by_row_code_and_by_what_they_were_called() -> None:
    for code in ("E4", "e4"):
        lines = text(run("recipes", code).stdout).splitlines()
        names = [line.split()[0] for line in lines]
        assert names == ["mfcc-gru", "mfcc-gru-leaky", "mfcc-lstm", "mfcc-lstm-leaky"]
    formerly = text(run("recipes", "b9-cnn?d*").stdout)
    assert formerly == text(run("recipes", "fusion-cnn?d-msd*").stdout)
    whole = run("recipes", "e3", "--set", "training.epochs=7")
    assert "epochs: 7" in text(whole.stdout) and "e3 is called mfcc-cnn now\n" in text(whole.stderr)
    nothing = run("recipes", "E7")
    assert nothing.returncode == 2 and "no recipe has the row code E7. docs/codes.md" in text(nothing.stderr)


def test_recipes_shows_one_whole() -> None:
    done = run("recipes", "mfcc-cnn", "--set", "training.epochs=7")
    assert "epochs: 7" in text(done.stdout)
    assert "name: mfcc-cnn" in text(done.stdout)


def test_train_from_sound_and_resume(tmp_path: Path) -> None:
    data = make_collection(tmp_path / "music")
    env = {"MUSICGENRE_CACHE": str(tmp_path / "cache")}
    arguments = ("train", "mfcc-cnn", "--data", data, "--output", tmp_path / "run", *QUICK)
    done = run(*arguments, env=env)
    assert done.returncode == 0, text(done.stderr)
    assert text(done.stdout).splitlines()[-1] == str(tmp_path / "run")
    assert (tmp_path / "run" / "predictions_test.csv").is_file()
    again = run(*arguments, env=env)
    assert again.returncode == 2
    assert "not empty" in text(again.stderr)
    assert "finished already" in text(run(*arguments, "--resume", env=env).stderr)


def test_a_corrupt_track_is_named_at_the_end_and_in_the_exit_code(tmp_path: Path) -> None:
    data = make_collection(tmp_path / "music")
    broken = sorted((tmp_path / "music").rglob("*.wav"))[0]
    broken.write_bytes(b"RIFF and no more")
    done = run("train", "mfcc-cnn", "--data", data, "--output", tmp_path / "run", *QUICK, env=cache(tmp_path))
    assert done.returncode == 1, text(done.stderr)
    assert f"failed: {broken.stem} was skipped" in text(done.stderr)
    assert text(done.stdout).splitlines()[-1] == str(tmp_path / "run")
    assert (tmp_path / "run" / "predictions_test.csv").is_file()


def test_train_passes_on_what_prepare_warns_of(tmp_path: Path) -> None:
    data = make_collection(tmp_path / "music")
    short, torn = sorted((tmp_path / "music").rglob("*.wav"))[:2]
    sound, rate_hz = soundfile.read(short)
    soundfile.write(short, sound[: rate_hz // 20], rate_hz)
    torn.write_bytes(torn.read_bytes()[:-2000])
    done = run("train", "mfcc-cnn", "--data", data, "--output", tmp_path / "run", *QUICK, env=cache(tmp_path))
    assert done.returncode == 0, text(done.stderr)
    assert f"look at {short.stem}: is 0.05 s long, shorter than" in text(done.stderr)
    assert f"look at {torn.stem}: " in text(done.stderr)


def test_leaky_recipe_prints_its_warning(tmp_path: Path) -> None:
    data = make_collection(tmp_path / "music", tracks_a_label=2, duration_s=6.0)
    done = run(
        "train", "mfcc-cnn-leaky", "--data", data, "--output", tmp_path / "run", "--set", "training.epochs=1", "-q",
        env={"MUSICGENRE_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, text(done.stderr)
    assert "warning: segment-leaky: segments of one track train and test" in text(done.stderr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("e33",), "Nearest: mfcc-cnn"),
        (("mfcc-cnn", "--set", "training.epoch=3"), "Nearest: 'training.epochs'"),
        (("mfcc-cnn", "--set", "training.epochs=lots"), "valid integer"),
        (("mfcc-cnn", "--resume"), "nothing to resume"),
        (("mfcc-cnn", "--folds", "1"), "folds=1"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    make_table(tmp_path / "m.csv", ("tempo",))
    done = run("train", *arguments, "--data", tmp_path / "m.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert message in text(done.stderr)
    assert not (tmp_path / "runs").exists()


def test_absent_manifest(tmp_path: Path) -> None:
    done = run("train", "mfcc-cnn", "--data", tmp_path / "no.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert "no.csv" in text(done.stderr)


def test_the_recipe_page_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "recipes_page.py", "--check"], check=False)
    assert done.returncode == 0


def test_train_in_the_light_install_names_what_to_install() -> None:
    program = (
        "import sys; sys.modules['lightning'] = None;"
        "sys.argv = ['musicgenre', 'train', 'mfcc-cnn', '--data', 'm.csv'];"
        "from musicgenre.cli import main; main()"
    )
    done = run_python(program)
    assert done.returncode == 2
    assert done.stderr.startswith("error: training needs packages that are not installed")
    assert "musicgenre[train]" in done.stderr
