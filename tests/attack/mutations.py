"""Ways to damage bytes, text, JSON and protobuf messages; what comes out follows from the random numbers given."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

from musicgenre._protobuf import ProtobufError, bytes_field, fields, write_varint

Mutation = Callable[[bytes, random.Random], bytes]

IMPOSSIBLE = (ValueError, TypeError, OverflowError, KeyError)
"""What a mutation raises where the damage that it chose fits no JSON and no array."""

ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 2**31, 2**63, 10**400, -(10**400), 1e308, -0.5, float("nan"), float("inf"), "",
    "\x1b[31m", "a\nb", "\u202eabc", "x" * 100_000, "../../etc/passwd", "//host/share", "\\\\host\\share",
    "facebook/nobody", [], {}, [[]], ["a"], ["a", "a"], {"name": "picture"}, [1e400], [None] * 3,
)  # fmt: skip

ODD_TEXTS = (
    *(
        "",
        " ",
        "\0",
        "\r",
        "\r\n",
        "\n\n",
        "\t",
        '"',
        "'",
        '""',
        ",",
        ";",
        "|",
        ":",
        "::",
        "=",
        "-",
        "- ",
        "#",
        "%",
        "@",
    ),
    *(
        "*a",
        "&a ",
        "<<: *a",
        "!!python/object:os.system ",
        "!!binary ",
        "!!set ",
        "? ",
        "---\n",
        "...\n",
        "[",
        "{",
        "]",
    ),
    *(
        "[" * 2_000,
        "{" * 2_000,
        "(" * 500,
        "- " * 2_000,
        "a.b" * 50,
        "[[a]]\n",
        "0x",
        "1e999",
        "nan",
        ".inf",
        "-0",
        "00",
    ),
    *("9" * 400, "9" * 5_000, "-1", "0", "1", "99999999999999999999", "2001-99-99", "2001-02-03", "true", "null", "~"),
    *("\ufeff", "\u202e", "\x1b[2J", "\x7f", "\ud7ff", "\u0000", "Ä", "日本", "x" * 200_000, "../../etc/passwd"),
    *("=cmd|' /C calc'!A0", "C:\\Windows", "\\\\host\\share", "//host/share", "file:///etc/passwd", "http://host/a"),
)
"""What is put into text: marks of CSV, YAML, TOML and JSON, numbers, dates, names that lead elsewhere, long ones."""

ODD_INTEGERS = (
    0,
    1,
    2,
    3,
    7,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
)
_HEAD_BYTES = 256
_LONGEST_RUN = 64


def flipped(content: bytes, chance: random.Random) -> bytes:
    """Change a few bits."""
    damaged = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8))):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def cut(content: bytes, chance: random.Random) -> bytes:
    """Leave off the end, or a piece in the middle."""
    start = chance.randrange(len(content))
    return content[:start] if chance.random() < 0.5 else content[:start] + content[start + chance.randrange(1, 64) :]


def flipped_head(content: bytes, chance: random.Random) -> bytes:
    """Change a few bits where formats say what they are."""
    return flipped(content[:_HEAD_BYTES], chance) + content[_HEAD_BYTES:]


def overwritten(content: bytes, chance: random.Random) -> bytes:
    """Put zeros, ones or noise in the place of a run of bytes."""
    start = chance.randrange(len(content))
    length = min(chance.choice((4, _LONGEST_RUN, len(content))), len(content) - start)
    run = chance.choice((bytes(length), b"\xff" * length, chance.randbytes(length)))
    return content[:start] + run + content[start + length :]


def repeated(content: bytes, chance: random.Random) -> bytes:
    """Put a piece of the file into another place of it."""
    start, place = chance.randrange(len(content)), chance.randrange(len(content))
    piece = content[start : start + chance.randrange(1, 4 * _LONGEST_RUN)]
    return content[:place] + piece + content[place:]


def odd_integer(content: bytes, chance: random.Random) -> bytes:
    """Put a number of 2, 4 or 8 bytes that few expect somewhere, mostly where headers stand."""
    most = _HEAD_BYTES if chance.random() < 0.7 else len(content)
    place = chance.randrange(min(most, len(content)))
    kind, n_bytes = chance.choice((("H", 2), ("I", 4), ("Q", 8)))
    number = chance.choice((*ODD_INTEGERS, chance.getrandbits(64), len(content), 2 * len(content)))
    value = struct.pack(chance.choice("<>") + kind, number & ((1 << 8 * n_bytes) - 1))
    return content[:place] + value + content[place + n_bytes :]


def odd_text(content: bytes, chance: random.Random) -> bytes:
    """Put an odd text into another, between characters or in the place of a word or a line."""
    text = content.decode("utf-8", "surrogateescape")
    odd = chance.choice(ODD_TEXTS)
    what = chance.randrange(4)
    if what == 0:
        place = chance.randrange(len(text) + 1)
        text = text[:place] + odd + text[place:]
    elif what == 1:
        words = text.split(" ")
        words[chance.randrange(len(words))] = odd
        text = " ".join(words)
    else:
        lines = text.split("\n")
        at = chance.randrange(len(lines))
        cells = chance.choice((",", ":", "=", "\t")) if what == 2 else None
        parts = lines[at].split(cells)
        if parts:
            parts[chance.randrange(len(parts))] = odd
        lines[at] = (cells or " ").join(parts)
        text = "\n".join(lines)
    return text.encode("utf-8", "surrogateescape")


def odd_lines(content: bytes, chance: random.Random) -> bytes:
    """Drop, repeat, swap or join lines, or end them in another way."""
    lines = content.split(b"\n")
    at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    what = chance.randrange(6)
    if what == 0:
        del lines[at]
    elif what == 1:
        lines.insert(other, lines[at])
    elif what == 2:
        lines[at], lines[other] = lines[other], lines[at]
    elif what == 3:
        lines[at] *= chance.choice((2, 50))
    else:
        return chance.choice((b"\r\n", b"\r", b"\n\n", b" ", b"\0")).join(lines)
    return b"\n".join(lines)


def recoded(content: bytes, chance: random.Random) -> bytes:
    """Write text in another encoding, or none."""
    text = content.decode("utf-8", "replace")
    return chance.choice((
        text.encode("utf-16"), text.encode("utf-32-be"), text.encode("utf-8-sig"), text.encode("latin-1", "replace"),
        text.encode("utf-7"), b"", b"\0" * len(content), b"\xff\xfe", b"\xef\xbb\xbf",
    ))  # fmt: skip


TEXT: tuple[Mutation, ...] = (odd_text, odd_text, odd_text, odd_lines, recoded, flipped, cut)
"""For files that people write."""

BINARY: tuple[Mutation, ...] = (flipped, flipped_head, cut, overwritten, repeated, odd_integer, odd_integer)
"""For files that programs write."""


def scrambled_fields(content: bytes, chance: random.Random, depth: int = 0) -> bytes:
    """Drop, repeat, swap or change one field of a protobuf message, somewhere in it, with all lengths right."""
    try:
        parts = [(number, value, content[start:end]) for number, value, (start, end) in fields(content)]
    except ProtobufError:
        parts = []
    if not parts:
        return flipped(content, chance) if content else bytes([chance.randrange(256)])

    at = chance.randrange(len(parts))
    number, value, whole = parts[at]
    pieces = [piece for _, _, piece in parts]
    what = chance.randrange(8)
    if isinstance(value, bytes) and value and depth < 6 and what < 5:
        pieces[at] = bytes_field(number, scrambled_fields(value, chance, depth + 1))
    elif what == 5:
        del pieces[at]
    elif what == 6:
        pieces.insert(chance.randrange(len(pieces) + 1), whole)
    elif isinstance(value, int):
        odd = chance.choice((0, 1, 2, 7, 127, 2**31, 2**32 + 1, 2**63, 2**64 - 1, chance.randrange(2**16)))
        pieces[at] = write_varint(number << 3) + write_varint(odd)
    else:
        pieces[at] = bytes_field(chance.choice((number, chance.randrange(1, 30))), value)
    return b"".join(pieces)


def odd_json(values: Any, chance: random.Random) -> Any:
    """Put an odd value in a place of some JSON, or take a key away."""
    if isinstance(values, dict) and values:
        key = chance.choice(sorted(values))
        changed = dict(values)
        if chance.random() < 0.1:
            del changed[key]
        elif isinstance(values[key], dict | list) and values[key] and chance.random() < 0.6:
            changed[key] = odd_json(values[key], chance)
        else:
            changed[key] = chance.choice(ODD_VALUES)
        return changed
    if isinstance(values, list) and values:
        changed_list = list(values)
        at = chance.randrange(len(values))
        if chance.random() < 0.2:
            del changed_list[at]
        else:
            changed_list[at] = odd_json(values[at], chance) if chance.random() < 0.5 else chance.choice(ODD_VALUES)
        return changed_list
    return chance.choice(ODD_VALUES)


def odd_json_file(content: bytes, chance: random.Random) -> bytes:
    """Put an odd value into a JSON file, or into one line of a file of JSON lines."""
    lines = [content] if b"\n{" not in content.strip() else content.splitlines()
    at = chance.randrange(len(lines))
    changed = odd_json(json.loads(lines[at]), chance)
    lines[at] = json.dumps(changed, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    return b"\n".join(lines)


JSON: tuple[Mutation, ...] = (odd_json_file, odd_json_file, odd_json_file, odd_text, odd_lines, flipped, cut)
"""For JSON, and for lines of it."""
