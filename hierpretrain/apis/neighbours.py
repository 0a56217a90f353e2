"""The answers of a search and of a classification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hierpretrain._names import LabelNames


@dataclass(frozen=True)
class Neighbour:
    """An image of the index that was found.

    Attributes:
        path: Its file.
        score: Its cosine similarity with the query, -1 to 1.
        labels: Its label paths, one or several; none for an image without a label.
        node: Where one neighbour a node was asked for, the node that the image stands for; otherwise empty.
        key: What people know it by, from a list's key column; empty for none.
        metadata: What else a list said of it: name of the column -> text, without empty ones.
    """

    path: str
    score: float
    labels: tuple[LabelNames, ...] = ()
    node: LabelNames = ()
    key: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class SearchResult:
    """A query and its neighbours.

    Attributes:
        query: The query's file.
        neighbours: The nearest first.
        key: What people know the query by; empty for none.
        metadata: What else a list said of the query, without empty texts.
    """

    query: str
    neighbours: tuple[Neighbour, ...]
    key: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Classification:
    """The nodes of a query in the tree, as far down as its neighbours agree.

    Attributes:
        query: The query's file.
        path: The names of the accepted nodes, the coarsest first; empty for an image of nothing known.
        confidences: How sure each of them is, 0 to 1, never rising.
        next: Name and confidence of the child that would have come next and is not sure enough. None where no neighbour
            is further down: at a leaf, or where all of them hang on the last accepted node.
    """

    query: str
    path: LabelNames
    confidences: tuple[float, ...]
    next: tuple[str, float] | None = None

    def __str__(self) -> str:
        """Returns the path in one line for people.

        Example:
            >>> print(Classification("a.jpg", ("animal", "cat"), (1.0, 0.82), ("tabby", 0.41)))
            animal (1.00) / cat (0.82), then perhaps tabby (0.41)
            >>> print(Classification("b.jpg", (), (), ("tool", 0.3)))
            unknown, perhaps tool (0.30)
        """
        sure = " / ".join(
            f"{name} ({confidence:.2f})" for name, confidence in zip(self.path, self.confidences, strict=True)
        )
        if self.next is None:
            return sure or "unknown"
        perhaps = f"perhaps {self.next[0]} ({self.next[1]:.2f})"
        return f"{sure}, then {perhaps}" if sure else f"unknown, {perhaps}"
