"""What a file is, without decoding it."""

from __future__ import annotations

from musicgenre.audio._decoder import Decoder
from musicgenre.audio.sound import AudioInfo, Source


def probe(source: Source) -> AudioInfo:
    """Tell format, rate, channels and length of a source without decoding it.

    Parameters
    ----------
    source : str, path-like or BinaryIO
        A path, or a seekable file object opened in binary mode.

    Returns
    -------
    AudioInfo
        What the header says. Only where a format has no header that tells the length (raw AAC, MP3 without a Xing
        header) the file is walked through, still undecoded.

    Raises
    ------
    AudioError
        When the source is missing, not a regular file, empty, not audio, or has an impossible sample rate.
    """
    with Decoder(source) as decoder:
        return decoder.info
