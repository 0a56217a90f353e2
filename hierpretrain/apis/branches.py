"""Finding a branch of a label tree by what people call it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

from torch import Tensor

from hierpretrain._names import LabelNames, close_names
from hierpretrain.datasets.annotations import nfc
from hierpretrain.datasets.messages import some, some_paths
from hierpretrain.taxonomy import PAD, Taxonomy


def nodes_of(taxonomy: Taxonomy, labels: Tensor) -> list[LabelNames]:
    """Returns the paths of the nodes that some images are at or below, the broadest first; a tree may have others.

    Args:
        taxonomy: The tree.
        labels: (N, L) or (N, P, L) labels of the images.

    Example:
        >>> tree = Taxonomy([("animal", "cat"), ("tool", "saw")], ("kingdom", "kind"))
        >>> nodes_of(tree, tree.encode([("tool", "saw")]))
        [('tool',), ('tool', 'saw')]
    """
    return [
        taxonomy.node_path(level, node)
        for level in range(1, taxonomy.num_levels + 1)
        for node in labels[..., level - 1].unique().tolist()
        if node != PAD
    ]


def find_branch(
    taxonomy: Taxonomy,
    branch: str | Sequence[str],
    has_images: Callable[[LabelNames], bool] = lambda path: True,
    nodes: Callable[[], Collection[LabelNames]] | None = None,
) -> Tensor:
    """Returns the labels of the node that a branch hangs from.

    Args:
        taxonomy: The tree.
        branch: The names from below the root, as a sequence or joined by ``'/'``; or the name of a node alone, if no
            other has it. A text that is both a whole path and a name means the path.
        has_images: Whether an image is at or below the node of a path; a node of no image counts as none.
        nodes: Returns all paths that have, for the message if there is no such node; by default those of the tree.

    Returns:
        (1, L) int64.

    Raises:
        ValueError: If there is no such node, with the nearest there is, or several have the name, with their paths.

    Example:
        >>> tree = Taxonomy([("animal", "cat"), ("tool", "cat"), ("tool", "saw")], ("kingdom", "kind"))
        >>> find_branch(tree, "animal/cat").tolist(), find_branch(tree, "saw").tolist()
        ([[0, 0]], [[1, 2]])
        >>> find_branch(tree, "cat")
        Traceback (most recent call last):
        ValueError: 2 nodes of the tree have the name 'cat': 'animal/cat', 'tool/cat'; give the path of one
    """
    names = [branch] if isinstance(branch, str) else branch
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"a branch must be a name, or the names from below the root; it is {branch!r}")
    branch = nfc(branch) if isinstance(branch, str) else tuple(map(nfc, branch))
    end = branch if isinstance(branch, str) else "/".join(branch)
    paths = [
        taxonomy.node_path(level, node)
        for level in range(1, taxonomy.num_levels + 1)
        for node, name in enumerate(taxonomy.names(level))
        if end.endswith(name)
    ]
    if isinstance(branch, str):
        found = [path for path in paths if "/".join(path) == branch and has_images(path)]
        found = found or [path for path in paths if path[-1] == branch and has_images(path)]
    else:
        found = [path for path in paths if path == branch and has_images(path)]
    if len(found) > 1:
        raise ValueError(
            f"{len(found)} nodes of the tree have the name {branch!r}: {some_paths(found)}; give the path of one"
        )
    if not found:
        raise ValueError(_unknown(nodes() if nodes else taxonomy.node_paths(), branch))
    return taxonomy.encode(found)


def _unknown(paths: Collection[LabelNames], branch: str | Sequence[str]) -> str:
    top = ["/".join(path) for path in paths if len(path) == 1]
    if not top:
        return f"there is no branch {branch!r}: the tree is empty, for the images have no labels"
    known = defaultdict(list)
    for path in paths:
        for name in {path[-1], "/".join(path)}:
            known[name].append(path)
    text = branch if isinstance(branch, str) else "/".join(map(str, branch))
    nearest = dict.fromkeys(path for name in close_names(text, known, 3) for path in known[name])
    shown = ["/".join(path) for path in nearest]
    guess = f"did you mean {some(shown)}?" if shown else "give the names from below the root."
    return f"the tree has no branch {branch!r}; {guess} Its {len(top)} topmost nodes are {some(top)}"


def label_paths(taxonomy: Taxonomy, labels: Tensor) -> tuple[tuple[str, ...], ...]:
    """Returns the names on the label paths of one image, from its (L,) labels, or (P, L) for several paths.

    Example:
        >>> tree = Taxonomy([("animal", "cat"), ("toy",)], ("kingdom", "kind"))
        >>> label_paths(tree, tree.encode([[("animal", "cat"), ("toy",)]])[0]), label_paths(tree, tree.encode([()])[0])
        ((('animal', 'cat'), ('toy',)), ())
    """
    rows = labels.view(-1, taxonomy.num_levels) if taxonomy.num_levels else ()
    return tuple(path for path in map(taxonomy.decode, rows) if path)
