"""What requests may say beside their images, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from hierpretrain import _texts
from hierpretrain._json import parse_json
from hierpretrain.serve.limits import Refusal


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"must be of letters that can be printed; it is {text!r}")
    return text


Text = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_printable)]
"""A key, a name or a text of the metadata."""


class NewImage(BaseModel):
    """What is known of an image that is added.

    Attributes:
        key: What people know it by.
        labels: Its path in the tree, the names from below the root; none for an image without a label.
        metadata: What else is known of it.
    """

    model_config = ConfigDict(extra="forbid")

    key: Text
    labels: Annotated[list[Text], Field(max_length=32)] = []
    metadata: Annotated[dict[Text, Text], Field(max_length=64)] = {}


class Names(BaseModel):
    """Images that are removed, by keys or by paths as a search answers them."""

    model_config = ConfigDict(extra="forbid")

    names: Annotated[list[Annotated[str, Field(min_length=1, max_length=4096)]], Field(min_length=1, max_length=10_000)]


def read_images(text: str) -> list[NewImage]:
    """Returns the images that a JSON text tells of.

    Raises:
        Refusal: If it is another text.

    Example:
        >>> read_images('[{"key": "S7", "labels": ["animal", "cat"]}]')
        [NewImage(key='S7', labels=['animal', 'cat'], metadata={})]
        >>> read_images('[{"kee": "S7"}]')
        Traceback (most recent call last):
        hierpretrain.serve.limits.Refusal: images.0.key: Field required; images.0.kee: Extra inputs are not permitted
    """
    data = read_json(text, "images")
    try:
        return TypeAdapter(list[NewImage]).validate_python(data)
    except ValidationError as error:
        raise Refusal(422, told(error.errors(), "images")) from error


def read_json(text: str, name: str) -> Any:
    """Returns what a JSON text holds.

    Args:
        text: The text.
        name: What a message shall call it.

    Raises:
        Refusal: If it is no JSON, or an object in it has a key twice.

    Example:
        >>> read_json('{"key": "S7", "key": "S8"}', "images")
        Traceback (most recent call last):
        hierpretrain.serve.limits.Refusal: images: no JSON: the key 'key' is there twice in object 1; mend it
    """
    try:
        return parse_json(text, name, "mend it")
    except ValueError as error:
        raise Refusal(422, str(error)) from error


def told(errors: Sequence[object], *where: str) -> str:
    """Returns the errors that pydantic found, as one text."""
    texts = []
    for error in errors:
        place = ".".join(map(str, [*where, *error["loc"]]))  # type: ignore[index]
        texts.append(f"{place}: {error['msg']}")  # type: ignore[index]
    return "; ".join(texts[:5])


def where_of(pairs: Sequence[str]) -> dict[str, str]:
    """Returns the texts that metadata must have, see :func:`~hierpretrain._texts.read_where`.

    Raises:
        Refusal: As that raises.
    """
    try:
        return _texts.read_where(pairs)
    except ValueError as error:
        raise Refusal(422, str(error)) from error


def read_branch(text: str | None) -> str | tuple[str, ...] | None:
    """Returns a branch, see :func:`~hierpretrain._texts.read_branch`; of an empty text there is none.

    Raises:
        Refusal: As that raises.

    Example:
        >>> read_branch("animal/cat"), read_branch('["a/b", "c"]'), read_branch("")
        ('animal/cat', ('a/b', 'c'), None)
    """
    try:
        return _texts.read_branch(text) if text else None
    except ValueError as error:
        raise Refusal(422, str(error)) from error
