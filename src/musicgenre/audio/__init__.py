"""Audio in: any common file, file object or array becomes mono float32 at the rate that is wanted.

soundfile decodes what libsndfile reads well, PyAV the rest (AAC, ALAC, Opus, Vorbis, WMA, WavPack, video); both are
imported only when a file needs them. Every failure is an `AudioError`; what could be decoded in spite of a fault comes
back with a warning.
"""

from musicgenre._text import printable
from musicgenre.audio._decoder import Decoder
from musicgenre.audio._readers import as_audio_error
from musicgenre.audio.level import AS_IT_IS, Gain, Level, LevelChoice, choose_level, level_db, parse_level
from musicgenre.audio.load import SoundStream, from_array, load, load_spans, measure, open_source, probe, stream
from musicgenre.audio.sound import MAX_DURATION_S, AudioInfo, Float32, Sound, Source, Spans
from musicgenre.audio.walk import AUDIO_SUFFIXES, find_audio_files, is_in_walk
from musicgenre.audio.workers import decoders_replaced, decoding_apart, naming

__all__ = [
    "AS_IT_IS",
    "AUDIO_SUFFIXES",
    "MAX_DURATION_S",
    "AudioInfo",
    "Decoder",
    "Float32",
    "Gain",
    "Level",
    "LevelChoice",
    "Sound",
    "SoundStream",
    "Source",
    "Spans",
    "as_audio_error",
    "choose_level",
    "decoders_replaced",
    "decoding_apart",
    "find_audio_files",
    "from_array",
    "is_in_walk",
    "level_db",
    "load",
    "load_spans",
    "measure",
    "naming",
    "open_source",
    "parse_level",
    "printable",
    "probe",
    "stream",
]
