"""Every representation keeps the same contract."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musicgenre.data.manifest import Manifest, Track
from musicgenre.errors import DataError, UsageError
from musicgenre.features import registry
from musicgenre.features.base import Float32, Representation, TrackSound
from musicgenre.features.prepare import prepare
from musicgenre.features.registry import create_representation, list_representations, representation_from_settings
from tests.fresh import run_python
from tests.sounds import music, write
from tests.tiny_transformers import make_model

SMALL: dict[str, dict[str, Any]] = {
    "columns": {},
    "joined": {
        "parts": [
            {"name": "mfcc"},
            {"name": "melspectrogram", "preset": "a5", "segment_s": 3.0},
            {"name": "table", "whole_track": True},
        ]
    },
    "melspectrogram": {"segment_s": 3.0},
    "mfcc": {},
    "musicnn": {"weights": "none"},
    "discogs-effnet": {"weights": "none"},
    "picture": {"segment_s": 3.0, "size": 32},
    "table": {"segment_s": 3.0, "rhythm": True},
    "transformer": {"segment_s": 3.0},
    "vggish": {"n_examples": 2, "weights": "none"},
    "waveform": {"segment_s": 3.0, "scale": "standard"},
}
NAMES = list_representations()


@pytest.fixture(autouse=True, scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Make the model that the representation of hearing networks is tested with."""
    SMALL["transformer"]["model"] = str(make_model(tmp_path_factory.mktemp("models"), "distilhubert"))


def sound(rng: np.random.Generator, representation: Representation, seconds: float = 3.0) -> np.ndarray:
    n_samples = round(seconds * representation.sample_rate_hz)
    tone = np.sin(2 * np.pi * 220 / representation.sample_rate_hz * np.arange(n_samples))
    return (0.3 * tone + 0.1 * rng.standard_normal(n_samples)).astype(np.float32)


def test_the_folder_holds_the_known_ones() -> None:
    assert set(NAMES) >= {"joined", "melspectrogram", "mfcc", "picture", "table", "waveform"}
    assert set(NAMES) == set(SMALL)


@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str, rng: np.random.Generator) -> None:
    representation = create_representation(name, **SMALL[name])
    assert isinstance(representation, Representation)
    assert representation.name == name
    waveform = sound(rng, representation)
    before = waveform.copy()
    values = representation.compute(waveform)
    assert values.shape == representation.shape()
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert np.array_equal(waveform, before), "the input is left alone"
    assert np.array_equal(values, representation.compute(waveform)), "the same twice"
    assert not np.shares_memory(values, waveform)
    if representation.row_axis is not None:
        assert 0 <= representation.row_axis < values.ndim


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_samples", [0, 1, 100, 200_000])
def test_silence_and_odd_lengths(name: str, n_samples: int) -> None:
    representation = create_representation(name, **SMALL[name])
    values = representation.compute(np.zeros(n_samples, np.float32))
    assert values.shape == representation.shape()
    assert np.isfinite(values).all()


@pytest.mark.parametrize("name", NAMES)
def test_settings_make_it_again(name: str, rng: np.random.Generator) -> None:
    representation = create_representation(name, **SMALL[name])
    settings = json.loads(json.dumps(representation.settings()))
    again = representation_from_settings(settings)
    assert again.settings() == representation.settings()
    sent = pickle.loads(pickle.dumps(representation))
    waveform = sound(rng, representation)
    assert np.array_equal(again.compute(waveform), representation.compute(waveform))
    assert np.array_equal(sent.compute(waveform), representation.compute(waveform))


@pytest.mark.parametrize("name", NAMES)
def test_those_that_want_the_whole_track_say_so(name: str, rng: np.random.Generator) -> None:
    representation = create_representation(name, **SMALL[name])
    computes_tracks = type(representation).compute_track is not Representation.compute_track
    assert (representation.reads == "track") == computes_tracks
    if not computes_tracks:
        return
    waveform = sound(rng, representation, seconds=2.0 * (representation.segment_s or 3.0))
    before = waveform.copy()
    track = TrackSound.of_waveform(waveform, representation.sample_rate_hz)
    first, second = representation.compute_track(track, [0.0, 3.0], 3.0)
    assert first.shape == second.shape == representation.shape() and first.dtype == np.float32
    assert not np.array_equal(first, second), "segments differ"
    alone = representation.compute_track(track, [3.0], 3.0)[0]
    assert np.array_equal(alone, second), "a segment does not depend on which others are asked for"
    assert np.array_equal(waveform, before)


def test_another_version_is_refused() -> None:
    settings = create_representation("mfcc").settings()
    with pytest.raises(UsageError, match="version 99"):
        representation_from_settings({**settings, "version": 99})


@pytest.mark.parametrize("name", ["melspectrogram", "mfcc", "table", "picture", "waveform", "joined", "musicnn"])
def test_unknown_options_name_the_nearest(name: str) -> None:
    with pytest.raises(UsageError, match="segment_sec"):
        create_representation(name, segment_sec=3.0)


def test_unknown_names_name_the_nearest() -> None:
    with pytest.raises(UsageError, match="Nearest: 'mfcc'"):
        create_representation("mfccs")
    with pytest.raises(UsageError, match="Valid: a5, b1, musicnn, vggish"):
        create_representation("melspectrogram", preset="a6")


def test_a_name_clash_is_an_error() -> None:
    create_representation("mfcc")
    with pytest.raises(UsageError, match="taken twice"):
        registry.register("mfcc")(lambda: create_representation("waveform"))


class Loudness(Representation):
    """Loudest sample of a second: all that one from outside the package has to say."""

    name = "loudness"
    sample_rate_hz = 8_000
    segment_s = 1.0

    def shape(self) -> tuple[int, ...]:
        return (1,)

    def compute(self, waveform: Float32) -> Float32:
        return np.array([np.abs(waveform).max(initial=0.0)], np.float32)


def test_one_from_outside_the_package_is_a_short_class(tmp_path: Path) -> None:
    made = Loudness()
    assert made.settings() == {"name": "loudness", "version": 1}
    assert (made.reads, made.columns, made.blocks, made.weight_cards) == ("waveform", (), (), ())
    assert not made.hears_many and not made.is_network
    sound = write(tmp_path / "sound.wav", music(2.5))
    done = prepare(
        Manifest(None, (Track("one", sound, "a", split="train"),)), made, tmp_path / "store", cache=tmp_path / "cache"
    )
    assert done.open().everything.features[:].shape == (2, 1)
    with pytest.raises(NotImplementedError, match="loudness reads the waveform, not files"):
        made.compute_file(sound)


@pytest.mark.parametrize("name", NAMES)
def test_where_a_bundle_computes_it_is_not_told_by_the_extra(name: str) -> None:
    made = create_representation(name, **SMALL[name])
    assert made.graph_front_end == (name in ("melspectrogram", "mfcc", "musicnn", "picture", "waveform"))
    examples = create_representation("vggish", output="examples", n_examples=1)
    assert examples.graph_front_end and examples.extra == "features"
    assert not Loudness().graph_front_end and Loudness().extra == "", "in Python, and nothing to install for it"


def test_a_representation_is_what_registers_itself(tmp_path: Path) -> None:
    """A file of the folder that helps others is none, whatever it is called."""
    (tmp_path / "shared_tables.py").write_text("BANDS = 7\n", encoding="utf-8")
    (tmp_path / "two_of_them.py").write_text(
        "from musicgenre.features.registry import create_representation, register\n"
        "from musicgenre.features.representations.shared_tables import BANDS\n"
        "register('seven_bands')(lambda: create_representation('melspectrogram', n_mels=BANDS))\n"
        "register('plain')(lambda: create_representation('waveform'))\n",
        encoding="utf-8",
    )
    code = (
        "import sys\n"
        "import musicgenre.features.representations as folder\n"
        "from musicgenre.errors import UsageError\n"
        "from musicgenre.features.registry import create_representation, list_representations\n"
        "folder.__path__.append(sys.argv[1])\n"
        "print(*list_representations(), create_representation('seven_bands').shape())\n"
        "try:\n"
        "    create_representation('shared_tables')\n"
        "except UsageError as error:\n"
        "    print(error)\n"
    )
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    listed, problem = done.stdout.splitlines()
    assert listed == " ".join(sorted([*NAMES, "plain", "seven_bands"])) + " (7, 301)"
    assert problem.startswith("there is no representation named 'shared_tables'")


def test_without_numba_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import numpy as np\n"
        "from musicgenre.errors import MissingExtraError\n"
        "from musicgenre.features.registry import create_representation, list_representations\n"
        "assert 'mfcc' in list_representations()\n"
        "for name in ('melspectrogram', 'mfcc', 'table', 'picture'):\n"
        "    try:\n"
        "        create_representation(name).compute(np.zeros(70000, np.float32))\n"
        "    except MissingExtraError as error:\n"
        "        print(error.extra)\n"
    )
    done = run_python(code)
    assert (done.returncode, done.stdout.split()) == (0, ["features"] * 4), done.stderr


@pytest.mark.parametrize("cell", ["1_0", "1e39", "-1e39", "nan", "0,5", "", "9" * 5000])
def test_cells_that_are_no_numbers_of_single_precision_are_refused(cell: str) -> None:
    with pytest.raises(DataError, match="the column a holds"):
        create_representation("columns", names="a").compute_columns({"a": cell})
