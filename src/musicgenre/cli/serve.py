"""`musicgenre serve`: listeners over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from musicgenre.cli._options import GenreChoice

_PREFIX = "MUSICGENRE_SERVE_"


_GenresOption = Annotated[
    GenreChoice,
    typer.Option("--genres", envvar=f"{_PREFIX}GENRES", help="'wide': genres beyond the ten, by tags, uncalibrated."),
]
_IndexOption = Annotated[
    Path | None,
    typer.Option("--index", envvar=f"{_PREFIX}INDEX", help="A file of `musicgenre embed`, to find similar tracks in."),
]
_PlanOption = Annotated[
    Path | None,
    typer.Option("--plan", envvar=f"{_PREFIX}PLAN", help="A plan of `musicgenre library`, to play and review."),
]


def serve(
    host: Annotated[
        str, typer.Option("--host", envvar=f"{_PREFIX}HOST", help="Address to listen at; others need --token-file.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", envvar=f"{_PREFIX}PORT", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = 8000,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", envvar=f"{_PREFIX}MODEL", help="A model to hear with; repeatable, the first is asked."
        ),
    ] = None,
    genres: _GenresOption = GenreChoice.ten,
    jobs: Annotated[
        int | None, typer.Option("--jobs", envvar=f"{_PREFIX}JOBS", min=1, max=256, help="Tracks at a time.")
    ] = None,
    max_upload_mb: Annotated[
        int, typer.Option("--max-upload-mb", envvar=f"{_PREFIX}MAX_UPLOAD_MB", min=1, help="Most MB of one request.")
    ] = 300,
    max_duration_s: Annotated[
        float,
        typer.Option(
            "--max-duration-s", envvar=f"{_PREFIX}MAX_DURATION_S", help="Seconds of the longest track that is heard."
        ),
    ] = 14_400.0,
    timeout_s: Annotated[
        float,
        typer.Option("--timeout-s", envvar=f"{_PREFIX}TIMEOUT_S", min=0.1, help="Seconds that one track may take."),
    ] = 120.0,
    queue: Annotated[
        int, typer.Option("--queue", envvar=f"{_PREFIX}QUEUE", min=0, help="Requests that may wait for their turn.")
    ] = 32,
    grace_s: Annotated[
        float,
        typer.Option("--grace-s", envvar=f"{_PREFIX}GRACE_S", min=0, help="Seconds to finish in when asked to end."),
    ] = 30.0,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", envvar=f"{_PREFIX}TOKEN_FILE", help="File with the token that clients show."),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-host", envvar=f"{_PREFIX}ALLOWED_HOST", help="Another name it answers to; repeatable."
        ),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option("--cors-origin", envvar=f"{_PREFIX}CORS_ORIGIN", help="A site whose pages may ask; repeatable."),
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option("--embedder", envvar=f"{_PREFIX}EMBEDDER", help="Makes embeddings; 'default', vggish, a bundle."),
    ] = None,
    index: _IndexOption = None,
    plan: _PlanOption = None,
    max_model_mb: Annotated[
        int,
        typer.Option("--max-model-mb", envvar=f"{_PREFIX}MAX_MODEL_MB", min=1, help="Most MB of a bundle in memory."),
    ] = 4_000,
    check: Annotated[bool, typer.Option("--check", help="Load everything, say what is served, and end.")] = False,
) -> None:
    """Serve models over HTTP, with a page to use them: drop files, read genres.

    It ends with Ctrl-C or SIGTERM, once what is running is done.
    """
    from musicgenre.cli._terminal import print_out, say
    from musicgenre.errors import require

    require("'musicgenre serve'", "serve", "fastapi", "uvicorn", "python_multipart", "prometheus_client")
    from musicgenre.server import run
    from musicgenre.server.settings import Settings, read_token

    settings = Settings(
        host=host,
        port=port,
        models=tuple(model or ["default"]),
        genres=genres.value,
        jobs=jobs,
        queue=queue,
        max_upload_mb=max_upload_mb,
        max_duration_s=max_duration_s,
        max_model_mb=max_model_mb,
        timeout_s=timeout_s,
        grace_s=grace_s,
        allowed_hosts=tuple(allowed_host or ()),
        origins=tuple(cors_origin or ()),
        embedder=embedder,
        index=index,
        plan=plan,
        token="" if token_file is None else read_token(token_file),
    )
    if check:
        for line in run.check(settings):
            print_out(line)
        return
    raise typer.Exit(run.serve(settings, say))
