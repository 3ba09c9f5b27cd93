"""How answers look to a person: rows that fit the terminal, a heading for each folder, colour where it is welcome."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.cells import cell_len, set_cell_size
from typer import colors

from musicgenre._text import name_list, printable, shortened
from musicgenre.cli._terminal import columns, is_screen, is_unicode, paint, print_out, say
from musicgenre.features.published.essentia.published import STYLE_MARK
from musicgenre.listening.answer import UNSURE, Answer
from musicgenre.listening.batch import Failure, Result
from musicgenre.listening.sections import MOST_SECTIONS, find_stretches

# In columns of the terminal.
_GAP = 2
_CONFIDENCE_WIDTH = 4
_WIDEST_GENRE = 24
_WIDEST_PADDED_PATH = 80  # in a pipe, where nothing is cut
_NARROWEST_NAME = 20
_NARROWEST_BAR = 10
_NAMES_SHARE = 0.5  # of what the columns of fixed width leave

_N_CANDIDATES = 3
_GENRES_COUNTED = 12  # named in a summary
_UNCALIBRATED = "tag"  # in place of a probability, where a tag alone named the genre

# What is drawn where standard output can hold it, and where it cannot.
_BAR, _PLAIN_BAR = "█", "#"
_UNSURE_BAR, _PLAIN_UNSURE_BAR = "░", "."
_SHADES, _PLAIN_SHADES = "·░▒▓█", ".:+*#"
_CONTINUES, _PLAIN_CONTINUES = "…", "~"


class Table:
    """Prints one track after the other, as they are heard.

    On a terminal a heading names the folder whenever it changes, and every row fits one line. In a pipe or a file
    each row holds the whole path, whatever its length.

    Parameters
    ----------
    paths : sequence of str
        All tracks that will come, for the width of their column.
    labels : sequence of str
        The genres that may be named; none of a tagger.
    top : int
        How many tags to name.
    timeline : {"sections", "full"} or None
        Whether to draw what was heard over time, too.
    """

    def __init__(self, paths: Sequence[str], labels: Sequence[str], *, top: int, timeline: str | None) -> None:
        self._top = top
        self._timeline = timeline
        self._folder: str | None = None
        self._told = False
        # A last column that is filled makes some terminals go on in the next line.
        self._width = columns() - 1 if is_screen() else None

        words = [UNSURE, "failed", *map(printable, labels)] if labels else ["failed"]
        self._genre_width = max(map(cell_len, words))
        if self._width is not None:
            self._genre_width = min(self._genre_width, _WIDEST_GENRE)

        # A single track, and tracks that all lie here, need no heading.
        folders = {os.path.dirname(path) for path in paths}  # noqa: PTH120 (keeps the spelling)
        self._has_headings = self._width is not None and len(paths) > 1 and folders != {""}
        self._indent = " " * _GAP if self._has_headings else ""
        longest = max((cell_len(self._name(path)) for path in paths), default=0)

        if self._width is None:
            self._name_width = min(longest, _WIDEST_PADDED_PATH)
        else:
            fixed = len(self._indent) + _GAP
            if labels:
                fixed += self._genre_width + _CONFIDENCE_WIDTH + 2 * _GAP
            left = max(1, self._width - fixed)
            self._name_width = min(longest, left, max(_NARROWEST_NAME, int(left * _NAMES_SHARE)))
            self._details_width = left - self._name_width

    def print(self, result: Result) -> None:
        """Print what became of a track; why one failed is told at the end, on standard error.

        What holds of all answers of the model is told there once, in place of a note below every track.
        """
        if isinstance(result, Answer) and result.caveats and not self._told:
            say(f"{printable(result.model)}: {'; '.join(result.caveats)}")
            self._told = True
        print_out("\n".join(self._lines(result)))

    def _lines(self, result: Result) -> Iterator[str]:
        """Give a heading, if one is due, the row of a track, its warnings, and its timeline."""
        path = result.path or "-"
        if self._has_headings:
            folder = os.path.dirname(path) or os.curdir  # noqa: PTH120 (keeps the spelling)
            if folder != self._folder:
                if self._folder is not None:
                    yield ""
                yield paint(self._cut_beginning(printable(folder)), bold=True)
                self._folder = folder

        name = self._indent + self._fit(self._name(path), self._name_width) + " " * _GAP
        if isinstance(result, Failure):
            yield name + paint("failed", colors.RED)
            return

        details = self._tags(result) if result.names_tags else self._genre(result)
        yield (name + details).rstrip()
        for warning in result.own_warnings:
            yield from self._note(printable(warning))

        if self._timeline is not None and result.names_tags:
            yield from self._tag_timeline(result)
        elif self._timeline is not None:
            yield from self._genre_timeline(result)

    def _genre(self, answer: Answer) -> str:
        """Genre, confidence, then as many of the reason, candidates and tags as fit."""
        tags = [printable(_in_short(tag, answer.genre)) for tag in list(answer.tags)[: self._top]]
        names = [] if answer.is_sure else list(answer.candidates[:_N_CANDIDATES])
        candidates = _with_percents(names, answer.scores)

        also = _beside(answer)
        style = ""
        if answer.style and _says_more(answer):
            style = f"sounds like {printable(_in_short(answer.style, answer.genre))}"
        reason: str = answer.reason or ""
        if reason == "low confidence":  # which is what `unsure` means anyway
            reason = ""
        elif reason in ("not music", "too quiet"):  # what it may be would mislead
            names, candidates, style = [], [], ""

        # What is said of a genre that is not certain matters more than tags.
        while True:
            parts: list[str] = []
            if also:
                parts.append(name_list(also))
            if reason:
                parts.append(reason)
            if candidates:
                parts.append(f"perhaps {name_list(candidates)}")
            if style:
                parts.append(style)
            if tags:
                parts.append(f"[{name_list(tags)}]")

            details = "; ".join(parts)
            if self._width is None or cell_len(details) <= self._details_width:
                break
            if tags:
                tags.pop()
            elif style:
                style = ""
            elif also:
                also.pop()
            elif reason and candidates:  # the reason says more than the candidates
                candidates = []
            elif reason:
                reason = ""
            elif candidates != names:  # the first one's probability stands beside "unsure" anyway
                candidates = names = [printable(name) for name in names]
            else:
                candidates.pop()

        # Filled up before it is painted: what sets the colour has a length, too.
        colour = colors.GREEN if answer.is_sure else colors.YELLOW
        genre = paint(self._fit(printable(answer.genre), self._genre_width), colour)
        sure = f"{answer.confidence:.0%}" if answer.is_calibrated else _UNCALIBRATED
        return f"{genre}  {sure:>{_CONFIDENCE_WIDTH}}  {details}"

    def _tags(self, answer: Answer) -> str:
        """Name the tags that were chosen, then the next most probable ones in brackets, as many as fit."""
        chosen = _with_percents(answer.chosen, answer.tags)
        others = _with_percents(self._others(answer), answer.tags)

        while True:
            in_brackets = f"[{name_list(others)}]" if others else ""
            named = name_list(chosen)
            fits = self._width is None or cell_len(f"{named} {in_brackets}") <= self._details_width
            if fits or not (others or chosen):
                break
            (others or chosen).pop()

        return f"{paint(named, colors.GREEN) if named else ''} {in_brackets}".strip()

    def _others(self, answer: Answer) -> list[str]:
        """List the most probable tags beside those that were chosen."""
        return [tag for tag in list(answer.tags)[: self._top] if tag not in answer.chosen]

    def _genre_timeline(self, answer: Answer) -> Iterator[str]:
        """Draw the genre over time: a line for each section (or stretch), its bar placed and sized as in the track."""
        sections = answer.sections if self._timeline == "sections" else find_stretches(answer)
        # The last segment may stick out of the track.
        last_s = max([answer.duration_s, *(section.end_s for section in sections)])
        clock_width = max((len(_clock(section.start_s)) for section in sections), default=0)

        margin = self._indent + " " * _GAP
        fixed = len(margin) + clock_width + 1 + self._genre_width + 1 + _CONFIDENCE_WIDTH + 1
        width = max(_NARROWEST_BAR, (self._width or columns()) - fixed)

        for section in sections:
            is_sure = section.genre != UNSURE
            block = _drawable(_BAR, _PLAIN_BAR) if is_sure else _drawable(_UNSURE_BAR, _PLAIN_UNSURE_BAR)
            left = min(width - 1, int(width * section.start_s / last_s))
            right = max(left + 1, min(width, round(width * section.end_s / last_s)))
            bar = block * (right - left)

            # What it might be stands beside the bar, where there is room.
            perhaps = "" if is_sure else f"perhaps {name_list([*map(printable, section.candidates[:_N_CANDIDATES])])}"
            drawn = " " * left + bar
            if perhaps and right + 1 + cell_len(perhaps) <= width:
                drawn += f" {perhaps}"
            elif perhaps and cell_len(perhaps) + 1 <= left:
                drawn = f"{' ' * (left - 1 - cell_len(perhaps))}{perhaps} {bar}"

            colour = colors.GREEN if is_sure else colors.YELLOW
            genre = paint(self._fit(printable(section.genre), self._genre_width), colour)
            share = f"{section.confidence:{_CONFIDENCE_WIDTH}.0%}"
            yield f"{margin}{_clock(section.start_s):>{clock_width}} {genre} {share} {drawn}"

    def _tag_timeline(self, answer: Answer) -> Iterator[str]:
        """Draw tags over time: one line per tag, the darker the more probable; what was not heard stays empty."""
        tags = [*answer.chosen, *self._others(answer)]
        if self._timeline == "sections":
            tags = tags[:MOST_SECTIONS]
        shades = _drawable(_SHADES, _PLAIN_SHADES)
        last_s = max([answer.duration_s, *(segment.end_s for segment in answer.timeline)])

        margin = self._indent + " " * _GAP
        tag_width = min(_WIDEST_GENRE, max((cell_len(printable(tag)) for tag in tags), default=0))
        fixed = len(margin) + tag_width + 1 + _CONFIDENCE_WIDTH + 1
        width = max(_NARROWEST_BAR, (self._width or columns()) - fixed)

        for tag in tags:
            # Segments may be narrower than a column or overlap: the later one is drawn over the earlier one.
            cells = [" "] * width
            for segment in answer.timeline:
                left = min(width - 1, int(width * segment.start_s / last_s))
                right = max(left + 1, min(width, round(width * segment.end_s / last_s)))
                shade = shades[min(len(shades) - 1, int(segment.tags[tag] * len(shades)))]
                cells[left:right] = shade * (right - left)
            name = self._fit(printable(tag), tag_width)
            yield f"{margin}{name} {answer.tags[tag]:{_CONFIDENCE_WIDTH}.0%} {''.join(cells)}".rstrip()

    def _note(self, warning: str) -> list[str]:
        """Write a warning below its track, on as many lines as it takes."""
        margin = self._indent + " " * _GAP
        text = f"{margin}note: {warning}"
        if self._width is None:
            return [text]
        return textwrap.wrap(text, self._width, subsequent_indent=margin + " " * len("note: "), drop_whitespace=True)

    def _name(self, path: str) -> str:
        """Name a track in its row: its file where a heading names the folder."""
        return printable(os.path.basename(path) or path if self._has_headings else path)  # noqa: PTH119

    def _fit(self, text: str, width: int) -> str:
        """Fill a name up to a width; on a terminal leave out its middle, as names begin and end with what differs."""
        too_much = cell_len(text) - width
        if too_much <= 0 or self._width is None:
            return text + " " * -too_much

        mark = _drawable(_CONTINUES, _PLAIN_CONTINUES)
        at_end = (width - len(mark)) // 2
        return _first_cells(text, width - len(mark) - at_end) + mark + _last_cells(text, at_end)

    def _cut_beginning(self, folder: str) -> str:
        """Shorten a folder to the terminal: the last folders in it say most."""
        if self._width is None or cell_len(folder) <= self._width:
            return folder
        mark = _drawable(_CONTINUES, _PLAIN_CONTINUES)
        return mark + _last_cells(folder, self._width - len(mark))


def _says_more(answer: Answer) -> bool:
    """Tell whether the style is worth a word: beside a sure genre, where no tag of that name is more probable."""
    if answer.style is None:
        return False
    genre = answer.genre.lower().replace("-", "")
    names = [tag for tag in answer.tags if tag.lower().replace("-", "") == genre]
    return all(answer.tags[answer.style] > answer.tags[tag] for tag in names)


def _beside(answer: Answer) -> list[str]:
    """Name what the wide vocabulary says beside the genre: what its family is, then the others, families in front."""
    named = answer.genres or ()
    with_children = {genre.family for genre in named if genre.name != genre.family}
    others = []
    for genre in named:
        if genre.name != genre.family:
            others.append(f"{genre.family} > {genre.name}")
        elif genre.name not in (*with_children, answer.genre):
            others.append(genre.name)
        else:
            continue
        if genre.calibrated and genre.name != answer.genre:
            others[-1] += f" {genre.score:.0%}"
    return others


def _with_percents(names: Iterable[str], scores: Mapping[str, float]) -> list[str]:
    return [f"{printable(name)} {scores[name]:.0%}" for name in names]


def _in_short(tag: str, genre: str) -> str:
    """Write a tag that is a style of a genre, `Rock---Shoegaze`, as people do: its genre only where it is another."""
    of_genre, mark, style = tag.partition(STYLE_MARK)
    if not mark:
        return tag
    return style if of_genre == genre else f"{style} ({of_genre})"


def _clock(time_s: float) -> str:
    minutes, seconds = divmod(int(time_s), 60)
    if minutes < 60:
        return f"{minutes}:{seconds:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def _drawable(text: str, plain: str) -> str:
    """Take the text that standard output can hold."""
    return text if is_unicode() else plain


def _first_cells(text: str, width: int) -> str:
    return set_cell_size(text, width)


def _last_cells(text: str, width: int) -> str:
    return set_cell_size(text[::-1], width)[::-1]


def counted_genres(genres: Mapping[str, int]) -> str:
    """Name genres and their numbers of tracks in a line, the commonest first and `unsure` last.

    Parameters
    ----------
    genres : mapping of str to int
        The empty genre, that of a tagger's tracks, is not named.
    """
    by_count = sorted(genres.items(), key=lambda pair: (-pair[1], pair[0]))
    counts = [f"{printable(genre)} {n}" for genre, n in by_count if genre not in ("", UNSURE)]
    separator = "; " if any("," in count for count in counts) else ", "
    named = [shortened(counts, _GENRES_COUNTED, separator=separator)] if counts else []
    if genres.get(UNSURE):
        named.append(f"{UNSURE} {genres[UNSURE]}")
    return separator.join(named)
