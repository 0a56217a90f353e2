"""What in a file could have told that it was changed: a checksum, a count or a rule, apart from the readers."""

from __future__ import annotations

import io
import json
import re
import unicodedata
import zipfile
import zlib
from typing import Any

_TEXTS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".noun", ".yaml", ".py")


def telltale(data: bytes, name: str) -> str:
    """Returns what in a file tells that it is damaged; an empty string if nothing does.

    Args:
        data: The content.
        name: Of the file.
    """
    suffix = name[name.rfind(".") :]
    if name == "scalars.json":  # of which the last line may be cut off
        whole = [line for line in data.splitlines()[:-1] if line.strip()]
        return next((told for line in whole if (told := _of_text(line, ".numbers"))), "") or _of_text(data, "")
    if name in ("metrics.json", "config.json", "list.json") and b"\0" not in data:
        return _of_text(data, ".numbers")  # Python writes NaN
    if suffix in _TEXTS:
        return _of_text(data, suffix)
    if data.startswith(b"PK\x03\x04"):
        return _of_zip(data)
    if data.startswith(b"\x89PNG"):
        return _of_png(data)
    return ""


def _of_text(data: bytes, suffix: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) and suffix in (".csv", ".tsv", ".txt", ".json", ".jsonl"):
        return ""  # with its mark, a list may be in UTF-16
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "it is not UTF-8"
    if bad := re.search(r"[\x00-\x08\x0e-\x1f\x7f\ufeff]", text):
        return f"it holds {bad[0]!r}"
    if suffix in (".json", ".numbers"):
        return _of_json(text, any_number=suffix == ".numbers")
    if suffix == ".jsonl":
        return next(
            (told for line in text.splitlines() if line.strip() and (told := _of_json(line, any_number=True))), ""
        )
    return ""


def _of_json(text: str, *, any_number: bool = False) -> str:
    found: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(items)) < len(items):
            found.append("a key is there twice")
        return dict(items)

    def constant(name: str) -> float:
        if not any_number:
            found.append(f"{name} is no JSON")
        return 0.0

    def number(digits: str) -> float:
        value = float(digits)
        if not any_number and value in (float("inf"), float("-inf")):
            found.append("a number is too large")
        return value

    try:
        json.loads(text, object_pairs_hook=pairs, parse_constant=constant, parse_float=number)
    except (ValueError, RecursionError) as error:
        return f"it is no JSON: {error}"
    return "; ".join(found)


def _of_zip(data: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            names = file.namelist()
            if len(set(names)) < len(names):
                return "a member is there twice"
            return "a member's checksum is wrong" if file.testzip() else ""
    except Exception as error:
        return f"it is no zip: {error}"


def _of_png(data: bytes) -> str:
    position = 8
    while position + 8 <= len(data):
        size, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        body = data[position + 4 : position + 8 + size]
        check = data[position + 8 + size : position + 12 + size]
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT") and zlib.crc32(body).to_bytes(4, "big") != check:
            return f"the checksum of {kind.decode()} is wrong"
        position += 12 + size
        if kind == b"IEND":
            return ""
    return "it has no end"


def same_text(one: bytes, other: bytes) -> bool:
    """Returns whether two texts differ in their line ends, Unicode form or blank lines alone."""
    try:
        texts = [
            re.split(r"[ \t\r\n]+", unicodedata.normalize("NFC", data.decode("utf-8-sig")).strip())
            for data in (one, other)
        ]
    except UnicodeDecodeError:
        return False
    return texts[0] == texts[1]
