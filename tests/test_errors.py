"""Messages of the exception family."""

from __future__ import annotations

import pickle

import pytest

from musicgenre.errors import MissingExtraError, MusicgenreError, UsageError


@pytest.mark.parametrize(
    ("valid", "message"),
    [
        ("Give seconds", "no such thing. Give seconds. Go on."),
        ("one, two", "no such thing. Valid: one, two. Go on."),
        ("'one' or 2", "no such thing. Valid: 'one' or 2. Go on."),
        ("", "no such thing. Go on."),
    ],
)
def test_a_list_of_what_is_valid_is_introduced(valid: str, message: str) -> None:
    assert str(UsageError("no such thing", valid=valid, next_step="Go on")) == message


@pytest.mark.parametrize(
    "error", [UsageError("no", valid="yes", next_step="Go on"), MissingExtraError("--plot", "plot")]
)
def test_errors_cross_process_borders_whole(error: MusicgenreError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back)) == (type(error), str(error))


def test_a_message_is_one_line_that_leaves_the_terminal_as_it_is() -> None:
    error = UsageError("a\x1b[2J\nb\0", valid="\u202ec", next_step="Ä \udcff")
    assert str(error) == r"a\x1b[2J\nb\x00. Valid: \u202ec. Ä \udcff."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("valid", "told"),
    [
        ("PNG, JPEG", "it is bad. Valid: PNG, JPEG."),
        ("UTF-8", "it is bad. Valid: UTF-8."),
        ("one of a, b", "it is bad. Valid: one of a, b."),
        ("A file is never overwritten", "it is bad. A file is never overwritten."),
        ("Nearest: 'a'", "it is bad. Nearest: 'a'."),
    ],
)
def test_a_list_of_what_is_valid_is_introduced_and_a_sentence_is_not(valid: str, told: str) -> None:
    assert str(UsageError("it is bad", valid=valid)) == told
