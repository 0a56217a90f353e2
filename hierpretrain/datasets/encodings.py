"""Decoding text whose encoding nobody has told: UTF-8 first, else a guess that is told, or an error."""

from __future__ import annotations

import codecs
import os
import re

from charset_normalizer import from_bytes

from hierpretrain.datasets.messages import some, warn

_MARKS = {  # the longer ones first: UTF-32's begins as UTF-16's does
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_PACKED = {  # the first bytes of files that are no text
    b"\x1f\x8b": "compressed (gzip)",
    b"BZh": "compressed (bzip2)",
    b"\xfd7zXZ": "compressed (xz)",
    b"PK\x03\x04": "a zip archive, as files of Excel are",
    b"PAR1": "a Parquet file",
}
_FOREIGN = re.compile(r"[^\W\d_]*[^\x00-\x7f][\w\x80-\U0010ffff]*")  # a word with a letter that is not ASCII
_BYTE_WORDS = re.compile(rb"[A-Za-z]*[\x80-\xff][A-Za-z\x80-\xff]*")
# what no program writes into a list; tabs, line ends and page breaks are not among them
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufeff]")
_ASCII_CONTROLS = bytes(i for i in range(128) if _CONTROLS.match(chr(i)))
_AS_GOOD = 0.06  # of the disorder that charset-normalizer finds in a reading, 0 to 1
_READINGS = 4
_ERASED = b"\xff" * 8  # of flash storage that was erased and never written


def decode(data: bytes, path: str | os.PathLike[str], encoding: str | None = None, *, keep: str = "") -> str:
    r"""Returns the text of a file, without a byte order mark, its lines ending in ``\n`` alone.

    UTF-8 is tried first, and UTF-16 and UTF-32 where the file begins with their byte order mark. Then bytes that make
    words of a Western language are read as Windows-1252, and others as charset-normalizer finds; either is a guess,
    and a warning shows words of it.

    Args:
        data: The content of the file.
        path: The file, for messages.
        encoding: The encoding, such as ``'utf-8'`` or ``'cp1252'``; by default it is found out.
        keep: A control character that the text may hold, such as a delimiter.

    Raises:
        ValueError: If there is no such encoding, the bytes are not of it, several encodings make equally good sense of
            them, eight bytes 0xff stand in a row, or the text holds a control character, as damaged files do, or a
            byte order mark inside, as files do that were put together.

    Example:
        >>> decode("größe".encode("utf-16"), "list.csv")
        'größe'
        >>> decode(b"cat\n\0\0\0", "list.csv")
        Traceback (most recent call last):
        ValueError: list.csv:2: the file holds zero bytes, as after a power loss: it is damaged; get it anew
    """
    if packed := next((kind for head, kind in _PACKED.items() if data.startswith(head)), ""):
        raise ValueError(f"{path} is no text, but {packed}; unpack it, or give it the extension that it should have")
    if (erased := data.find(_ERASED)) >= 0:
        line = data.count(b"\n", 0, erased) + 1
        raise ValueError(
            f"{path}:{line}: the file holds bytes 0xff in a row, as erased storage: it is damaged; get it anew"
        )
    mark = next((mark for mark in _MARKS if data.startswith(mark)), b"")
    if encoding is not None:
        text = _decoded_as(data, path, encoding).removeprefix("\ufeff")
    elif mark:
        text = _decoded_as(data, path, _MARKS[mark])
    else:
        text = _found_out(data, path)
    if "\r" in text:  # of Windows, and of old Macs
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    for found in _CONTROLS.finditer(text) if may_have_controls(text) else ():
        if found[0] == keep != "\0":
            continue
        line = text.count("\n", 0, found.start()) + 1
        if found[0] == "\0":
            why = "zero bytes, as after a power loss: it is damaged; get it anew"
        elif found[0] == "\ufeff":
            why = "a byte order mark inside, as where files are put together; remove it"
        else:
            why = f"the control character U+{ord(found[0]):04X}: it is damaged or no text; get it anew"
        raise ValueError(f"{path}:{line}: the file holds {why}")
    return text


def may_have_controls(text: str) -> bool:
    r"""Returns whether a text may hold control characters: quickly, if it is ASCII, as most lists are.

    Example:
        >>> may_have_controls("a,b\n"), may_have_controls("a\0b"), may_have_controls("café")
        (False, True, True)
    """
    return not text.isascii() or len(text.encode().translate(None, _ASCII_CONTROLS)) < len(text)


def _decoded_as(data: bytes, path: str | os.PathLike[str], encoding: str) -> str:
    try:
        return data.decode(encoding)
    except LookupError as error:
        raise ValueError(f"there is no encoding {encoding!r}; utf-8, cp1252 and utf-16 are some") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        if error.reason in ("truncated data", "unexpected end of data"):
            raise ValueError(
                f"{path}:{line}: the last character is incomplete: the file is truncated; get it anew"
            ) from error
        what = "UTF-8" if encoding in ("utf-8", "utf-8-sig", "utf8") else encoding
        raise ValueError(
            f"{path}:{line}: byte {data[error.start]:#04x} is not {what}; save the list as UTF-8, or name its encoding"
        ) from error


def _found_out(data: bytes, path: str | os.PathLike[str]) -> str:
    zeros = data.count(b"\0") * 3 > len(data)
    if zeros and 0 in (data[::2].count(0), data[1::2].count(0)):  # UTF-16 without its mark, of ASCII: valid UTF-8, too
        return _told(_decoded_as(data, path, wide := _utf_16(data)), path, wide)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        first = error.start
    if zeros:  # UTF-16 without its mark; a damaged file has its zeros at the end
        half = data[: len(data) // 2]
        return _told(_decoded_as(data, path, wide := _utf_16(half)), path, wide)
    if _is_western(data):
        return _told(data.decode("cp1252"), path, "cp1252")
    words = b" ".join(dict.fromkeys(_BYTE_WORDS.findall(data)))[: 1 << 16]
    readings = [match for match in from_bytes(data[: 1 << 20]) if _decodes(data, match.encoding)]
    for match in readings[:1]:
        rivals = [r for r in readings if r.chaos <= match.chaos + _AS_GOOD]
        texts = {_decodes(words, rival.encoding) for rival in rivals}
        if match.coherence > 0 or len(texts) == 1:
            return _told(data.decode(match.encoding), path, match.encoding)
    shown = {r.encoding: _FOREIGN.findall(data.decode(r.encoding))[:1] for r in readings[:_READINGS]}
    shown |= {"cp1251": _FOREIGN.findall(text)[:1]} if (text := _decodes(data, "cp1251")) else {}
    how = ", ".join(f"{word[0]!r} in {name}" for name, word in shown.items() if word)
    line = data.count(b"\n", 0, first) + 1
    raise ValueError(
        f"{path}:{line}: byte {data[first]:#04x} is not UTF-8, and it cannot be told which "
        f"encoding the list has{f' (it reads {how})' if how else ''}; name it, as in encoding='cp1252' "
        "(--encoding cp1252), or save the list as UTF-8"
    )


def _utf_16(data: bytes) -> str:
    return "utf-16-le" if data[1::2].count(0) > data[::2].count(0) else "utf-16-be"


def _decodes(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return ""


def _is_western(data: bytes) -> bool:
    """Returns whether bytes read as Windows-1252 are words of mostly ASCII letters, with a capital only in front."""
    words = {_decodes(word, "cp1252") for word in _BYTE_WORDS.findall(data)}
    return all(
        word.isalpha()
        and (word[1:].islower() or word.isupper() or len(word) == 1)
        and sum(letter.isascii() for letter in word) * 2 >= len(word)
        for word in words
    )


def _told(text: str, path: str | os.PathLike[str], encoding: str) -> str:
    words = list(dict.fromkeys(_FOREIGN.findall(text)))
    shown = f", with words such as {some(words)}. If these are wrong," if words else "; if that is wrong,"
    warn(f"{path} is not UTF-8; it was read as {encoding}{shown} name the encoding: encoding='...' (--encoding ...)")
    return text
