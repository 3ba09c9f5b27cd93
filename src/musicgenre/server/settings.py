"""What a server is started with, and what is refused before it starts."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from musicgenre._text import printable
from musicgenre.errors import UsageError
from musicgenre.listening.classifier import Genres

DEFAULT_MODEL = "default"
"""The model that is served where none is named."""

_SHORTEST_TOKEN = 16  # characters
_LONGEST_TOKEN = 1024
_ORIGIN = re.compile(r"https?://[^/\s*]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a server is started with.

    Attributes
    ----------
    host, port
        Where it listens; port 0 takes a free one.
    models : tuple of str
        What it hears with, the first by default; names or files as `Classifier` takes them.
    genres : {"ten", "wide"}
        Which genres the default model names.
    embedder : str or None
        The model of `embed`; None: that of the index, else `default` where it is among the models.
    index : Path or None
        The file of embeddings that `similar` looks in.
    plan : Path or None
        The plan of a library whose tracks can be played, by the number of their row.
    jobs : int or None
        Tracks at a time; as many as there are cores by default.
    queue : int
        Requests that may wait beside those that are worked on.
    max_upload_mb : int
        Most millions of bytes of one request.
    max_duration_s : float
        Length of the longest file that is heard, in seconds.
    max_model_mb : int
        How much memory a model may need, in millions of bytes.
    timeout_s : float
        Seconds that hearing one file may take.
    grace_s : float
        Seconds that are left for what is running when the server is asked to end.
    token : str
        What every request of the API must show; empty: nothing.
    allowed_hosts : tuple of str
        Names it answers to beside those of its own address.
    origins : tuple of str
        Origins of other sites whose pages may ask, as `https://music.example`.

    Raises
    ------
    UsageError
        A value cannot be meant, or the server would be open to others without a token.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    models: tuple[str, ...] = (DEFAULT_MODEL,)
    genres: Genres = "ten"
    embedder: str | None = None
    index: Path | None = None
    plan: Path | None = None
    jobs: int | None = None
    queue: int = 32
    max_upload_mb: int = 300
    max_duration_s: float = 14_400.0
    max_model_mb: int = 4_000
    timeout_s: float = 120.0
    grace_s: float = 30.0
    token: str = ""
    allowed_hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, and what would let strangers in."""
        if not self.models:
            raise UsageError("there is no model to serve", next_step="Name one with --model")
        if self.genres == "wide" and DEFAULT_MODEL not in self.models:
            raise UsageError(
                "--genres wide goes with the default model, which is not served", next_step="Add --model default"
            )
        if not is_loopback(self.host) and not self.token:
            raise UsageError(
                f"--host {printable(self.host)} lets other machines ask, and there is no token",
                valid="127.0.0.1, ::1 or localhost without a token",
                next_step=(
                    "Make one with: python -c 'import secrets; print(secrets.token_urlsafe())' > token.txt, and add "
                    "--token-file token.txt"
                ),
            )
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise UsageError(
                    f"--cors-origin {printable(origin)!r} is no origin",
                    valid="scheme and name of a site, as https://music.example; not *",
                    next_step="List each site by itself",
                )

    @property
    def max_upload_bytes(self) -> int:
        """Most bytes of one request."""
        return self.max_upload_mb * 1_000_000


def read_token(path: Path) -> str:
    """Read the token from its file; blanks and line breaks around it do not count.

    Raises
    ------
    UsageError
        The file cannot be read, or what is in it is no token.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UsageError(
            f"--token-file {printable(path)} cannot be read ({reason})", next_step="Check the name and its permissions"
        ) from error

    if not _SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN or not token.isascii() or not token.isprintable():
        raise UsageError(
            f"--token-file {printable(path)} holds a token of {len(token)} characters",
            valid=f"{_SHORTEST_TOKEN} to {_LONGEST_TOKEN} characters of ASCII on one line",
            next_step="Make one with: python -c 'import secrets; print(secrets.token_urlsafe())'",
        )
    if " " in token:
        raise UsageError(f"--token-file {printable(path)} holds a blank within the token", next_step="Leave it out")
    return token


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach a server at this address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
