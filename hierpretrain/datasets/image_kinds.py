"""Images by the classes that they hang in, for a batch that needs one of other classes than it holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

_TRIES = 16  # draws before all kinds are looked at


class ImageKinds:
    """Draws unused images that hang in none of some classes, where an image may hang in several.

    Images of the same classes are of one kind. Every kind that fits is equally likely. Nothing is made of the images
    before the first draw, since most plans need none.

    Args:
        images: The images, in random order; an image may be there several times.
        classes_of: Returns the classes of an image.
        used: For every image, whether it is used by now.
        random: Returns a random number from 0 to 1 at each call.

    Example:
        >>> kinds = ImageKinds([0, 1, 2], [{0}, {0, 1}, {2}].__getitem__, bytearray(3), lambda: 0.5)
        >>> kinds.draw({0})
        2
        >>> kinds.draw({0, 2}) is None
        True
    """

    def __init__(
        self,
        images: Sequence[int],
        classes_of: Callable[[int], Set[int]],
        used: Sequence[int],
        random: Callable[[], float],
    ) -> None:
        self._images, self._classes_of, self._used, self._random = images, classes_of, used, random
        self._kinds: list[tuple[frozenset[int], list[int]]] | None = None

    def draw(self, classes: Set[int]) -> int | None:
        """Returns an unused image that hangs in none of the classes, or None if there is none."""
        if self._kinds is None:
            groups: dict[frozenset[int], list[int]] = {}
            for image in self._images:
                if not self._used[image]:
                    groups.setdefault(frozenset(self._classes_of(image)), []).append(image)
            self._kinds = list(groups.items())
        while self._kinds:
            number = self._choose(classes)
            if number is None:
                return None
            images = self._kinds[number][1]
            while images:
                if not self._used[image := images[-1]]:
                    return image
                images.pop()
            self._kinds[number] = self._kinds[-1]  # used up
            self._kinds.pop()
        return None

    def _choose(self, classes: Set[int]) -> int | None:
        """Returns the number of a random kind that fits; most do, so a few draws usually find one."""
        assert self._kinds is not None
        for _ in range(_TRIES):
            number = int(self._random() * len(self._kinds))
            if classes.isdisjoint(self._kinds[number][0]):
                return number
        fitting = [number for number, (kind, _) in enumerate(self._kinds) if classes.isdisjoint(kind)]
        return fitting[int(self._random() * len(fitting))] if fitting else None
