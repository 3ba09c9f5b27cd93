"""The shapes of answers, for the OpenAPI document; a test holds what makes answers to them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Probability = float
_PRINTABLE = r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$"  # a name: no control characters, not blank alone
Genre = Annotated[str, Field(min_length=1, max_length=200, pattern=_PRINTABLE)]


class _Shape(BaseModel):
    # `model` and `model_card` are names of ours: none is protected.
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Segment(_Shape):
    """A heard segment of a track: its genre, or of a tagger its tags."""

    start_s: float = Field(description="Where it begins in the track, in seconds.")
    end_s: float
    genre: str | None = None
    confidence: Probability | None = None
    tags: dict[str, Probability] | None = None


class Section(_Shape):
    """Neighbouring segments that sound like one genre."""

    start_s: float
    end_s: float
    genre: str = Field(description="The genre, or `unsure`.")
    confidence: Probability
    candidates: list[str]


class NamedGenre(_Shape):
    """One genre of the wide vocabulary."""

    name: str
    family: str
    score: Probability
    calibrated: bool = Field(description="Whether the score was held against the truth.")


class ClassifyAnswer(_Shape):
    """What was heard in one file: the fields of `musicgenre classify --format json`."""

    path: str = Field(description="What the sender called the file.")
    duration_s: float | None = Field(description="Length of the whole track; null where it failed.")
    heard_s: float | None
    genre: str | None = Field(description="The most probable genre, or `unsure`; null from a tagger.")
    confidence: Probability | None
    candidates: list[str] = Field(description="Genres whose score comes near the best one's.")
    style: str | None
    scores: dict[str, Probability] = Field(description="Probability of every genre, most probable first.")
    tags: dict[str, Probability] = Field(description="The `top` most probable tags.")
    warnings: list[str]
    model: str | None
    error: str | None = Field(description="Why the file could not be heard; null when all is well.")
    reason: str | None = Field(default=None, description="Why the genre is `unsure`; not told by a tagger.")
    genres: list[NamedGenre] | None = Field(default=None, description="With `--genres wide`: all that is named.")
    chosen: list[str] | None = Field(default=None, description="Of a tagger: the tags above their thresholds.")
    model_card: dict[str, str] | None = Field(default=None, description="Terms that bind whoever uses the answer.")
    timeline: list[Segment] | None = Field(default=None, description="With `timeline=true`: the heard segments.")
    sections: list[Section] | None = Field(default=None, description="With `timeline=true`: 20 sections at most.")


class ClassifyAnswers(_Shape):
    """One answer a file, in the order in which they were sent."""

    answers: list[ClassifyAnswer]


class EmbedAnswer(_Shape):
    """One file as a vector."""

    path: str
    vector: list[float] | None = Field(description="The embedding; null where the file failed.")
    model: str
    model_sha256: str
    what: str = Field(description="The network's output: `embedding` or `tags`.")
    pool: str = Field(description="How the heard segments became one vector.")
    coverage: str = Field(description="Seconds that were heard, or `full`.")
    options: dict[str, Any] | None = None
    warnings: list[str]
    error: str | None


class EmbedAnswers(_Shape):
    """One embedding a file, in the order in which they were sent."""

    answers: list[EmbedAnswer]


class Neighbour(_Shape):
    """A track of the index."""

    row: int = Field(description="Its row in the index, from 0 on.")
    path: str = Field(description="Its name, without the folder that all tracks of the index have in common.")
    cosine: float = Field(description="How alike the two embeddings are; 1 is the same direction.")


class SimilarAnswer(_Shape):
    """The tracks of the index that sound most like one file, the nearest first."""

    track: str
    model: str
    neighbours: list[Neighbour]
    warnings: list[str]
    error: str | None


class SimilarAnswers(_Shape):
    """One answer a file, in the order in which they were sent."""

    answers: list[SimilarAnswer]


class PlanTrack(_Shape):
    """A track of the plan: what its file says, and what would be written."""

    row: int = Field(description="Its row in the plan, from 0 on.")
    name: str = Field(description="The file's name.")
    folder: str = Field(description="Its folder, within the one that all tracks lie in.")
    artist: str
    album: str
    title: str
    now: list[str] = Field(description="Genres in the file.")
    after: list[str] = Field(description="Genres that would be written.")
    write: bool = Field(description="Whether `musicgenre library apply` writes it.")
    can_write: bool = Field(description="Whether its tags can be written at all.")
    confidence: Probability | None
    why: str = Field(description="What the row rests on, or why nothing is written.")
    note: str


class PlanTracks(_Shape):
    """Tracks of the plan that the server was started with."""

    n_rows: int = Field(description="Rows of the whole plan.")
    rows: list[PlanTrack]


class Decision(_Shape):
    """What a person decided about one track."""

    row: int = Field(ge=0, le=10_000_000, description="Its row in the plan, from 0 on.")
    write: bool = Field(description="Whether it is to be written.")
    genres: list[Genre] = Field(
        default=[], max_length=20, description="Genres in place of what is proposed; none: what is proposed."
    )


class Decisions(_Shape):
    """Decisions that are saved together."""

    decisions: list[Decision] = Field(min_length=1, max_length=1000)


class Score(_Shape):
    """A measured score, with its interval."""

    metric: str
    value: float | None
    low: float | None
    high: float | None
    interval: str = Field(description="What `low` and `high` are: mostly a 95 % interval.")
    n_tracks: int | None
    measured_on: str


class ModelAbout(_Shape):
    """A model that is served: what it names, how good it is, whose it is."""

    name: str
    is_default: bool = Field(description="Whether it answers where a request names none.")
    sha256: str
    names_tags: bool = Field(description="Whether it names any number of tags and no genre.")
    labels: list[str]
    vocabulary: list[str] = Field(description="All names that an answer may hold as genre or style, or as tags.")
    unsure_threshold: float
    licence: str
    citation: str
    origin: str
    notes: str
    scores: list[Score]
    card: dict[str, Any] = Field(description="All that its maker says of it.")


class Models(_Shape):
    """The models that are served, the default one first."""

    models: list[ModelAbout]


class State(_Shape):
    """How the server is."""

    status: str


class Problem(BaseModel):
    """What is wrong, by RFC 9457."""

    model_config = ConfigDict(extra="allow")
    type: str = Field(description="`urn:musicgenre:problem:KIND`")
    title: str
    status: int
    detail: str = Field(description="The bad value, what is valid, and the next step, as sentences.")
    problem: str = Field(description="What is wrong, with the bad value.")
    valid: str = Field(description="What would be valid; empty where nothing is to be said.")
    next_step: str = Field(description="What to do; empty where nothing is to be said.")
    answers: list[dict[str, Any]] | None = Field(
        default=None, description="Where files were sent and none could be heard: one record a file, with its `error`."
    )
