"""Columns of partitions: those of a result file of one machine, with types that are the same in every partition."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from musicgenre.cluster.partitions import Row, parquet_bytes
from musicgenre.embedding.file import EmbeddingSettings, Library, empty_embeddings, write_embeddings


class AnswerColumns:
    """Columns of answers: the keys of the JSON lines that `classify --output` writes on one machine.

    Parameters
    ----------
    names_tags, names_wide : bool
        Whether the model is a tagger, and whether it names genres of the wide vocabulary.
    has_card : bool
        Whether its terms bind who uses its answers.
    timeline : bool
        Whether rows hold the heard segments.
    """

    failed_prefix = "failed-"  # with the columns of the others

    def __init__(self, *, names_tags: bool, names_wide: bool, has_card: bool, timeline: bool) -> None:
        import pyarrow as arrow

        text, number, whole = arrow.string(), arrow.float64(), arrow.int64()
        texts, scores = arrow.list_(text), arrow.map_(text, number)
        columns = {
            "path": text,
            "duration_s": number,
            "heard_s": number,
            "genre": text,
            "confidence": number,
            "candidates": texts,
            "style": text,
            "scores": scores,
            "tags": scores,
            "warnings": texts,
            "model": text,
            "error": text,
        }
        columns |= {"chosen": texts} if names_tags else {"reason": text}
        if names_wide:
            genre = {"name": text, "family": text, "score": number, "calibrated": arrow.bool_()}
            columns["genres"] = arrow.list_(arrow.struct(genre))
        if has_card:
            columns["model_card"] = arrow.map_(text, text)
        if timeline:
            span = {"start_s": number, "end_s": number}
            named = {"genre": text, "confidence": number}
            segment = {**span, "tags": scores} if names_tags else {**span, **named}
            columns["timeline"] = arrow.list_(arrow.struct(segment))
            if not names_tags:
                columns["sections"] = arrow.list_(arrow.struct({**span, **named, "candidates": texts}))
        columns |= {"size_bytes": whole, "modified_ns": whole, "sha256": text, "coverage": text, "model_sha256": text}
        self._schema = arrow.schema(list(columns.items()))

    def encode(self, rows: Sequence[Row]) -> bytes:
        """Write rows of tracks that were heard."""
        import pyarrow as arrow

        plain = [_with_pairs(row) for row in rows]
        return parquet_bytes(arrow.Table.from_pylist(plain, schema=self._schema))

    def encode_failed(self, rows: Sequence[Row]) -> bytes:
        """Write rows of tracks that failed: the same columns."""
        return self.encode(rows)


class EmbeddingColumns:
    """Columns of embeddings: each partition is a `.parquet` file as `embed --output` writes it on one machine.

    Parameters
    ----------
    settings : EmbeddingSettings
        What they are made with.
    """

    failed_prefix = "_failed-"

    def __init__(self, settings: EmbeddingSettings) -> None:
        self._settings = settings

    def encode(self, rows: Sequence[Row]) -> bytes:
        """Write the vectors of tracks, which stand in rows as `track`."""
        library = Library(empty_embeddings(self._settings))
        for row in rows:
            library.add(row["track"])
        with tempfile.TemporaryDirectory(prefix="musicgenre-") as folder:
            path = Path(folder) / "part.parquet"
            write_embeddings(path, library.tracks())
            return path.read_bytes()

    def encode_failed(self, rows: Sequence[Row]) -> bytes:
        """Write which tracks failed, and why."""
        import pyarrow as arrow

        text, whole = arrow.string(), arrow.int64()
        schema = arrow.schema([("path", text), ("error", text), ("size_bytes", whole), ("modified_ns", whole)])
        return parquet_bytes(arrow.Table.from_pylist(list(rows), schema=schema))


def _with_pairs(row: Mapping[str, Any]) -> Row:
    """Write mappings within a row, those of scores, as lists of pairs: what Parquet's maps are made of."""
    written: Row = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            written[name] = list(value.items())
        elif isinstance(value, list):
            written[name] = [_with_pairs(part) if isinstance(part, Mapping) else part for part in value]
        else:
            written[name] = value
    return written
