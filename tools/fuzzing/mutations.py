"""Mutations of files: what disks, transfers, editors, careless scripts and attackers do to them."""

from __future__ import annotations

import io
import json
import pickle
import random
import re
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

_TEXTS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".noun", ".yaml", ".py")
_DEEP = 20_000
_LONG = "9" * 5000
_DATE = (2026, 1, 1, 0, 0, 0)  # of what is in archives: mutations are those of their seed, whenever they are made
_FIELDS = (
    *("", " ", "0", "-1", "1.0", "1e999", "nan", "NaN", "inf", "-0", "0x10", "1_000", "\u0663", "true", "null", "None"),
    *("..", "../../etc/passwd", "/etc/passwd", "a\\b", "C:\\a", ".", "a//b", "~", "*", "caf\u00e9", "cafe\u0301"),
    *(
        '"',
        "'",
        ",",
        ";",
        "\t",
        "{}",
        "[]",
        "\u2028",
        "\u200b",
        "\x1b[2J",
        "x" * 100_000,
        _LONG,
        "1" * 20,
        "\U0001f600",
    ),
)
_BYTES = (b"\0", b"\0" * 64, b"\xff\xfe", b"\xef\xbb\xbf", b"\x02", b"\r", b"\n", b'"', b"\xed\xa0\x80", b"\x80")
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 5, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, "", "x", "..", "\ud800", "a\0"),
    *([], {}, [[]], [None], {"": 0}, {"type": "x"}, ["x"] * 3, [5]),
)
_RAW = (  # what no value of Python's is written as
    *("NaN", "Infinity", "-Infinity", "1e999", "-1e-999", _LONG, f"-{_LONG}", '"\\ud800"', '"\\u0000"', "01", "'x'"),
    *("[" * _DEEP + "]" * _DEEP, '{"a":' * _DEEP + "0" + "}" * _DEEP, "[" * _DEEP, "", "undefined", "[0,]"),
)


def mutate(data: bytes, suffix: str, draw: random.Random, others: list[bytes]) -> tuple[bytes | None, str]:
    """Returns a file's content after a random mutation, and what was done.

    Args:
        data: The content.
        suffix: Of the file's name, which tells what it should hold.
        draw: The generator.
        others: Contents of other files, whose place this one may take.

    Returns:
        The new content, ``None`` for no file; and the mutation in words.
    """
    kinds: list[tuple[int, Callable[..., tuple[bytes | None, str]]]] = [
        (4, _bits),
        (2, _byte),
        (3, _truncated),
        (2, _tail_of_zeros),
        (3, _inserted),
        (2, _deleted),
        (2, _repeated),
        (1, _moved),
        (1, lambda data, draw: (draw.choice(others), "the content of another file")),
        (1, lambda data, draw: (_strange(draw), "a file of another kind")),
    ]
    if suffix in _TEXTS:
        kinds += [(3, _lines), (1, _line_ends), (1, _encoded), (4, _field)]
    if suffix in (".json", ".jsonl"):
        kinds += [(16, _json if suffix == ".json" else _json_line)]
    if data.startswith(b"PK\x03\x04"):
        kinds += [(12, _zip)]
    if data.startswith(b"\x93NUMPY"):
        kinds += [(10, _npy)]
    for _ in range(20):
        weights = [weight for weight, _ in kinds]
        ((_, kind),) = draw.choices(kinds, weights)
        changed, words = kind(data, draw)
        if changed != data:
            return changed, words
    return None, "removed"


# ---------------------------------------------------------------- bytes
def _place(data: bytes, draw: random.Random) -> int:
    """Returns a position; the ends of a file, where formats keep what counts, come up more often."""
    near = draw.choice((len(data), len(data), 200))
    place = draw.randrange(max(1, min(near, len(data))))
    return place if draw.random() < 0.8 else max(0, len(data) - 1 - place)


def _bits(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    changed, places = bytearray(data), []
    for _ in range(draw.choice((1, 1, 1, 1, 2, 8))):
        if data:
            place, bit = _place(data, draw), draw.randrange(8)
            changed[place] ^= 1 << bit
            places.append(f"{place}.{bit}")
    return bytes(changed), f"bits {', '.join(places)} flipped"


def _byte(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    place, value = _place(data, draw), draw.choice((0, 0xFF, 0x80, draw.randrange(256)))
    return data[:place] + bytes([value]) + data[place + 1 :], f"byte {place} is {value:#04x}"


def _truncated(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    place = draw.choice((0, 1, _place(data, draw), _place(data, draw), max(0, len(data) - 1)))
    return data[:place], f"cut off at {place} of {len(data)}"


def _tail_of_zeros(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    place = draw.choice((0, _place(data, draw), len(data)))
    return data[:place] + b"\0" * max(1, len(data) - place), f"zeros from {place} on"


def _span(data: bytes, draw: random.Random) -> tuple[int, int]:
    start = _place(data, draw)
    return start, min(len(data), start + draw.choice((1, 2, 8, 100, 4096)))


def _inserted(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    place = draw.choice((0, _place(data, draw), len(data)))
    new = draw.choice((draw.choice(_BYTES), draw.randbytes(draw.choice((1, 4, 64)))))
    return data[:place] + new + data[place:], f"{new[:8]!r} inserted at {place}"


def _deleted(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    start, end = _span(data, draw)
    return data[:start] + data[end:], f"bytes {start} to {end} deleted"


def _repeated(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    start, end = _span(data, draw)
    times = draw.choice((1, 1, 50))
    return data[:end] + data[start:end] * times + data[end:], f"bytes {start} to {end} repeated {times} times"


def _moved(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    start, end = _span(data, draw)
    rest = data[:start] + data[end:]
    place = _place(rest, draw)
    return rest[:place] + data[start:end] + rest[place:], f"bytes {start} to {end} moved to {place}"


def _strange(draw: random.Random) -> bytes:
    """Returns a small file of some kind."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("a", date_time=_DATE), "b")
    nested: Any = [0] * 10
    for _ in range(30):
        nested = [nested] * 8  # shared: a few hundred bytes, of which no text could be made
    return draw.choice(
        (
            b"",
            b"\n",
            b"\xef\xbb\xbf",
            b"{}",
            b"[]",
            b"0",
            b"null",
            b'""',
            b"[" * 100_000,
            archive.getvalue(),
            b"\x89PNG\r\n\x1a\n" + bytes(60),
            b"\x93NUMPY\x01\x00v\x00"
            + b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 9), }".ljust(117)
            + b"\n",
            pickle.dumps(nested, protocol=2),
            pickle.dumps({"state_dict": {"0.weight": nested}}, protocol=2),
            b"\x80\x02]q\x00(K\x01K\x02e.",
            b"\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
            b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + bytes(64),
            zlib.compress(bytes(1 << 20)),
            b"%PDF-1.4\n",
            bytes(1024),
            "image;kind\n\u00e9;b\n".encode("utf-16"),
        )
    )


# ---------------------------------------------------------------- lines and fields
def _lines(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    lines = data.splitlines(keepends=True)
    if len(lines) < 2:
        return data, ""
    i, j = draw.randrange(len(lines)), draw.randrange(len(lines))
    how = draw.choice(("swapped", "repeated", "deleted", "joined", "blank"))
    if how == "swapped":
        lines[i], lines[j] = lines[j], lines[i]
    elif how == "repeated":
        lines.insert(j, lines[i])
    elif how == "deleted":
        del lines[i]
    elif how == "joined":
        lines[i] = lines[i].rstrip(b"\r\n")
    else:
        lines.insert(i, b"\n")
    return b"".join(lines), f"line {i + 1} {how}" + (f" with {j + 1}" if how == "swapped" else "")


def _line_ends(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    end = draw.choice((b"\r\n", b"\r", b"\n\r", b"\x0b", b"\xe2\x80\xa8", b"\n\n"))
    return data.replace(b"\r\n", b"\n").replace(b"\n", end), f"lines end in {end!r}"


def _encoded(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    name = draw.choice(("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "cp037", "utf-7", "shift-jis"))
    try:
        return data.decode().encode(name), f"in {name}"
    except UnicodeError:
        return data, ""


def _field(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    fields = list(re.finditer(rb"[^\s,;:\"'{}\[\]()=]+", data))
    if not fields:
        return data, ""
    field, other = draw.choice(fields), draw.choice(fields)
    new = other[0] if draw.random() < 0.3 else draw.choice(_FIELDS).encode()
    return data[: field.start()] + new + data[field.end() :], f"{field[0][:20]!r} at {field.start()} is {new[:20]!r}"


# ---------------------------------------------------------------- JSON
def _json(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    try:
        tree = json.loads(data)
    except ValueError:
        return data, ""
    places: list[tuple[Any, Any]] = []  # a container, and the key or index of a part
    stack = [tree]
    while stack:
        part = stack.pop()
        if isinstance(part, dict | list):
            inner = list(part.items() if isinstance(part, dict) else enumerate(part))
            places += [(part, key) for key, _ in inner]
            stack += [value for _, value in inner]
    if not places:
        return data, ""
    # parts near the top, of which there are few, come up as often as those below
    container, key = draw.choice(places if draw.random() < 0.5 else places[: 4 + len(places) // 20])
    how = draw.choice(("value", "value", "value", "raw", "raw", "deleted", "twice", "renamed", "wrapped", "repeated"))
    mark = "\x01mark\x01"
    raw = ""
    if how == "value":
        container[key] = new = draw.choice(_VALUES)
        how = f"is {str(new)[:20]!r}"
    elif how == "raw":
        raw, container[key] = draw.choice(_RAW), mark
        how = f"is {raw[:20]} ({len(raw)} characters)"
    elif how == "deleted":
        del container[key]
    elif how == "wrapped":
        container[key] = [container[key]]
    elif how == "repeated" and isinstance(container, list):
        container.insert(key, container[draw.randrange(len(container))])
    elif isinstance(container, dict):
        other = draw.choice(list(container))
        if how == "renamed":
            container[draw.choice(_FIELDS)] = container.pop(key)
        else:
            container[mark] = container[other]
            raw, how = json.dumps(other), f"twice, as {other!r}"
    else:
        return data, ""
    text = (
        json.dumps(tree).replace(json.dumps(mark), raw, 1)
        if raw or mark in (container if isinstance(container, dict) else ())
        else json.dumps(tree)
    )
    if "\\u0001mark" in text:  # a value that is nothing at all
        text = text.replace(json.dumps(mark), "", 1)
    return text.encode(), f"{key!r} {how}"[:100]


def _json_line(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    lines = data.splitlines(keepends=True)
    if not lines:
        return data, ""
    i = draw.randrange(len(lines))
    lines[i], words = _json(lines[i], draw)
    return b"".join(line.rstrip(b"\n") + b"\n" for line in lines) if words else data, f"line {i + 1}: {words}"


# ---------------------------------------------------------------- containers
def _zip(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    """Mutates a member of an archive and packs it anew, with the right checksums."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            members = [(info, file.read(info)) for info in file.infolist()]
    except Exception:
        return data, ""
    if not members:
        return data, ""
    i = draw.randrange(len(members))
    info, content = members[i]
    how = draw.choice(("changed",) * 6 + ("deleted", "twice", "renamed"))
    words = how
    if how == "changed":
        suffix = ".txt" if info.filename.endswith((".xml", ".rels", "byteorder", "version")) else ""
        changed, words = mutate(content, suffix, draw, [other for _, other in members])
        members[i] = (info, changed or b"")
    elif how == "deleted":
        del members[i]
    elif how == "twice":
        members.append((info, draw.choice(members)[1]))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for number, (each, content) in enumerate(members):
            name = each.filename
            if how == "renamed" and number == i:
                name = draw.choice(("../out", "/tmp/out", "x", "a/" * 200 + "b"))
            new = zipfile.ZipInfo(name, date_time=_DATE)
            new.compress_type, new.external_attr = each.compress_type, each.external_attr
            file.writestr(new, content)
    return packed.getvalue(), f"member {info.filename!r}: {words}"


_HEADERS = (
    "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 6), }",
    "{'descr': '<f4', 'fortran_order': True, 'shape': (6, 60), }",
    "{'descr': '<i8', 'fortran_order': False, 'shape': (60, -1), }",
    "{'descr': '<i8', 'fortran_order': False, 'shape': (), }",
    "{'descr': '<i8', 'fortran_order': False, 'shape': (0, 3), }",
    "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 6), }",
    "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<U5', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<f4', 'fortran_order': False}",
    "(" * 200,
)


def _npy(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    """Changes the header of an array."""
    size = int.from_bytes(data[8:10], "little")
    header = data[10 : 10 + size]
    how = draw.randrange(4)
    if how == 0:
        place, bit = draw.randrange(len(header)), draw.randrange(8)
        changed = bytearray(header)
        changed[place] ^= 1 << bit
        return data[:10] + bytes(changed) + data[10 + size :], f"bit {place}.{bit} of the header flipped"
    if how == 1:
        place = draw.randrange(10)
        return data[:place] + bytes([draw.randrange(256)]) + data[place + 1 :], f"byte {place} of the preamble changed"
    if how == 2:
        numbers = list(re.finditer(rb"\d+", header))
        found = draw.choice(numbers)
        new = draw.choice((b"0", b"1", b"7", b"60", b"99999999", b"-1"))
        header = (header[: found.start()] + new + header[found.end() :]).rstrip().ljust(size - 1) + b"\n"
        return data[:8] + len(header).to_bytes(2, "little") + header + data[
            10 + size :
        ], f"{found[0]!r} of the header is {new!r}"
    new = draw.choice(_HEADERS).ljust(size - 1).encode() + b"\n"
    return data[:8] + len(new).to_bytes(2, "little") + new + data[
        10 + size :
    ], f"the header is {new.strip().decode()[:80]}"
