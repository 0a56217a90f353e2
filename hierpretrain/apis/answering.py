"""What an index answers by the labels of an image's neighbours, wherever its images lie, and how sure of it it is."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from torch import Tensor

from hierpretrain._names import LabelNames
from hierpretrain.apis.answers import Answers, right_answers
from hierpretrain.apis.branches import label_paths
from hierpretrain.apis.images import Images
from hierpretrain.apis.living import LivingIndex
from hierpretrain.apis.neighbours import Classification
from hierpretrain.apis.thresholds import Calibration
from hierpretrain.checks import check_at_least_1
from hierpretrain.datasets.messages import some, warn
from hierpretrain.evaluation import Embeddings
from hierpretrain.functional.open_set import answer_metrics
from hierpretrain.functional.path_calibration import (
    TEMPERATURES,
    answer_paths,
    calibrate_paths,
    check_goal,
    num_named,
)
from hierpretrain.functional.tree_knn import tree_knn
from hierpretrain.taxonomy import PAD, Taxonomy, depth

_COPIES = 0.1  # of the held-out images, at most, for a calibration to be worth something
_ROUNDING = 1e-9  # of a confidence
_THRESHOLD = 0.5  # of the bare vote
VOTERS = 20
"""How many labelled images vote on a class, unless somebody says otherwise."""
CALIBRATED_VOTERS = 50
"""The same in a calibrated index, whose temperature is chosen: more tell known from unknown better."""
TEMPERATURE = 0.07
"""Of the votes of an index that was not calibrated."""
_CALIBRATION = "calibration"  # the part that holds it


class Moment(Protocol):
    """What an index holds while it answers: one tree, whatever others change, and of a folder one generation."""

    @property
    def taxonomy(self) -> Taxonomy:
        """The tree of the labels."""

    @property
    def labels(self) -> Tensor:
        """(N, L) or (N, P, L) labels of all images."""

    @property
    def paths(self) -> list[str]:
        """The N files."""

    @property
    def digests(self) -> list[str]:
        """N texts that tell whether an image is still the same; empty for not known."""

    @property
    def fingerprint(self) -> str:
        """What tells the model from all others."""


class AnsweringIndex(LivingIndex):
    """An index that says where in its tree an image belongs, how sure that is, and what it does not know.

    Attributes:
        parts: What else is kept with the index, by name, as JSON has it; its calibration is one.
    """

    parts: MutableMapping[str, Any]

    # ---------------------------------------------------------------- what an engine has to do
    @abstractmethod
    def _place(self, part: str = "") -> str:
        """Returns where the index, or a part of it, is, for messages: a space, 'in' or 'at', and the place."""

    @abstractmethod
    def _moment(self) -> Moment:
        """Returns what is in the index now."""

    @abstractmethod
    def _nodes(self, now: Any) -> Collection[LabelNames]:
        """Returns what :meth:`branches` returns, which is read once as long as nothing changes."""

    @abstractmethod
    def _has_labels(self, now: Any) -> bool:
        """Returns whether an image has a label."""

    @abstractmethod
    def _voters(self, now: Any, query: Embeddings, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the (Q, k) cosines of the nearest labelled images, and which of the (M, L) or (M, P, L) labels."""

    # ---------------------------------------------------------------- asking
    def branches(self) -> list[LabelNames]:
        """Returns the paths of the nodes that images are at or below, the broadest first.

        The tree, ``taxonomy``, has others too where their images were removed or got other labels.
        """
        return list(self._nodes(self._moment()))

    def _level_sizes(self) -> dict[str, int]:
        """Returns how many such nodes each level has, by its name."""
        numbers = Counter(map(len, self.branches()))
        return {name: numbers[level] for level, name in enumerate(self.taxonomy.level_names, start=1)}

    @property
    def calibration(self) -> Calibration | None:
        """What :meth:`calibrate` learned, which is kept with the index; ``None`` where confidences are votes.

        Raises:
            ValueError: If it is damaged, or the index has other levels since.
        """
        return self._calibration(self._moment())

    @calibration.setter
    def calibration(self, found: Calibration | None) -> None:
        if found is not None:
            self.parts[_CALIBRATION] = found.to_dict()
        else:
            with suppress(KeyError):
                del self.parts[_CALIBRATION]

    def _calibration(self, now: Moment) -> Calibration | None:
        try:
            data = self.parts[_CALIBRATION]  # in one look: another thread or process may remove it
        except KeyError:
            return None
        place = f"the calibration of the index{self._place(_CALIBRATION)}"
        return Calibration.of(data, place, fingerprint=now.fingerprint, level_names=now.taxonomy.level_names)

    def classify(
        self,
        query: Embeddings | Images,
        *,
        k: int | None = None,
        temperature: float | None = None,
        threshold: float | None = None,
    ) -> list[Classification]:
        """Goes down the tree as far as the labelled neighbours of a query agree.

        An index that was calibrated (:meth:`calibrate`) has confidences that say how often such an answer is right, and
        names what is sure enough for the precision or the rate of false alarms that was stated. Any of the options
        asks for the bare vote instead, of :func:`~hierpretrain.functional.tree_knn.tree_knn`, whose confidences are
        fractions of the votes. A query that is itself in the index votes for its own label.

        Args:
            query: The queries, embedded by the index's model, as such or as an (N, D) array; or images, which are
                embedded by it.
            k: How many labelled images vote, from 1, by default 20; all where there are fewer. Where classes have fewer
                images than that, the others that vote make the deepest names look less sure than they are.
            temperature: Above 0, by default 0.07; a small one leaves the vote to the nearest.
            threshold: The fraction of the votes, above 0 and up to 1, that a node needs to be accepted; by default 0.5.

        Returns:
            One answer a query, in their order.

        Raises:
            ValueError: If no image of the index has a label, a number is out of range, or embeddings are not as long as
                the index's.
        """
        now = self._moment()
        options = dict(k=k, temperature=temperature, threshold=threshold)
        self._check_answer(now, options)
        query = self._embedded(query)
        return self.in_words(query, self._answer(now, query, **options))

    def answer(
        self,
        query: Embeddings | Images,
        *,
        k: int | None = None,
        temperature: float | None = None,
        threshold: float | None = None,
    ) -> Answers:
        """Returns the same as :meth:`classify`, as tensors: the nodes, their confidences, and how many are named.

        Raises:
            ValueError: As :meth:`classify`.
        """
        now = self._moment()
        options = dict(k=k, temperature=temperature, threshold=threshold)
        self._check_answer(now, options)
        return self._answer(now, self._embedded(query), **options)

    def _check_answer(self, now: Moment, options: Mapping[str, Any]) -> None:
        given = {name: options[name] for name in ("k", "threshold") if options[name] is not None}
        self._check_classify(now, given.get("k", VOTERS), given.get("threshold", _THRESHOLD))

    def _answer(
        self, now: Moment, query: Embeddings, *, k: int | None, temperature: float | None, threshold: float | None
    ) -> Answers:
        calibration = self._calibration(now) if k is temperature is threshold is None else None
        if calibration is not None:
            return Answers(*answer_paths(*self._voters(now, query, calibration.k), calibration.paths), now.taxonomy)
        voters = self._voters(now, query, VOTERS if k is None else k)
        nodes, shares = tree_knn(*voters, temperature=TEMPERATURE if temperature is None else temperature)
        needed = (_THRESHOLD if threshold is None else threshold) - _ROUNDING
        return Answers(nodes, shares, num_named(shares, nodes, [needed] * nodes.shape[1]), now.taxonomy)

    def in_words(self, query: Embeddings, answers: Answers) -> list[Classification]:
        """Returns the answers for queries by the names of the nodes, in the tree that the index had then."""
        found = []
        for path, number, on_path, sure in zip(
            query.paths, answers.num_named.tolist(), answers.nodes.tolist(), answers.confidences.tolist(), strict=True
        ):
            steps = enumerate(on_path, start=1)
            names = [answers.taxonomy.name(level, node) for level, node in steps if node != PAD]
            refused = (names[number], sure[number]) if number < len(names) else None
            found.append(Classification(path, tuple(names[:number]), tuple(sure[:number]), refused))
        return found

    def calibrate(
        self,
        held_out: Embeddings,
        *,
        precision: float | None = None,
        false_alarms: float | None = None,
        k: int = CALIBRATED_VOTERS,
        temperatures: Sequence[float] = TEMPERATURES,
    ) -> list[dict[str, float]]:
        """Learns from labelled images how sure its answers are, and how sure they must be to be given.

        The index keeps what it learns as :attr:`calibration`, and :meth:`classify` goes by it from then on. The images
        must be none of the index's, and like those that will be classified: if one in ten of these will be of
        nothing known, then so should one in ten of the held-out ones, with a label that the index does not have.
        An image without a label is left out.

        Args:
            held_out: The images, embedded by the index's model, with labels in a tree of their own: nodes are the same
                if the names on their paths are.
            precision: What fraction of the names that are given shall be right, at each level.
            false_alarms: What fraction of the images that the index knows may go without a name, at each level, of
                those that are named above. One of the two.
            k: How many labelled images vote, from 1.
            temperatures: Of the votes, above 0; the one that fits the held-out images best is chosen.

        Returns:
            For each level what :func:`~hierpretrain.functional.open_set.answer_metrics` measures on the held-out
            images, each by coefficients that were fitted on the others.

        Raises:
            ValueError: If not one of ``precision`` and ``false_alarms`` is given, no held-out image has a label, or
                some are in the index, more than a tenth are copies of its images, or none is of a node of the first
                level that the index knows; and as :meth:`classify`.
        """
        check_goal(precision, false_alarms)
        self.check_classify(k)
        self._check_embedded(held_out)
        now = self._moment()
        _check_held_out(now, held_out)
        held_out = held_out.select((depth(held_out.labels) > 0).nonzero()[:, 0].tolist())
        if len(held_out.paths) < 2:
            raise ValueError(
                f"to calibrate, at least 2 held-out images need labels, and {len(held_out.paths)} has: give a folder "
                "with a sub-folder a class, or a list"
            )
        truth, depths = right_answers(held_out.taxonomy, held_out.labels, now.taxonomy, now.labels)
        if (truth[..., 0] == PAD).all():
            raise ValueError(
                f"to calibrate, some held-out images must be of what the index knows, and none of these "
                f"{len(held_out.paths)} is below one of its {now.taxonomy.level_names[0]!r}: a label of theirs is "
                f"{_first_label(held_out)!r}, and one of the index's {_first_label(now)!r}; give the folder whose "
                "sub-folders are named as that level of the index is, or a list with such labels"
            )
        voters = self._voters(now, held_out, k)
        paths, nodes, confidences = calibrate_paths(
            *voters, truth, precision=precision, false_alarms=false_alarms, temperatures=temperatures
        )
        self.calibration = Calibration(
            paths=paths,
            k=k,
            goal="precision" if false_alarms is None else "false_alarms",
            rate=precision if false_alarms is None else false_alarms,
            num_images=len(nodes),
            level_names=tuple(now.taxonomy.level_names),
            fingerprint=now.fingerprint,
        )
        return answer_metrics(nodes, confidences, num_named(confidences, nodes, paths.thresholds), truth, depths)

    def check_classify(self, k: int | None = None, threshold: float | None = None) -> None:
        """Raises unless :meth:`classify` can answer; to be called before queries are embedded, not after it.

        Raises:
            ValueError: As :meth:`classify`, but for the embeddings and the temperature; and, without ``k`` and
                ``threshold``, if the calibration is damaged or of another tree.
        """
        now = self._moment()
        self._check_answer(now, dict(k=k, threshold=threshold))
        if k is threshold is None:
            self._calibration(now)

    def _check_classify(self, now: Moment, k: int, threshold: float) -> None:
        check_at_least_1(k=k)
        if not isinstance(threshold, float | int) or not 0 < threshold <= 1:
            raise ValueError(f"threshold must be above 0 and up to 1, a fraction of the votes; it is {threshold!r}")
        if not self._has_labels(now):
            raise ValueError(
                "to classify, images of the index need labels, and none has one; make an index of labelled images: a "
                "folder with a sub-folder a class, or a list"
            )


def _check_held_out(now: Moment, images: Embeddings) -> None:
    """Raises if an index has some images, by their file, or more than a tenth of them, by their content.

    The content tells where files have moved or were copied, and where the index names them from another folder. A
    few copies are in most collections, and are only told.
    """
    files, contents = set(map(os.path.abspath, now.paths)), set(now.digests) - {""}
    places = [path if path.startswith("<image ") else os.path.abspath(path) for path in images.paths]
    inside = sorted(files.intersection(places))
    copies = [place for place, digest in zip(places, images.digests, strict=False) if digest in contents]
    if not inside and 0 < len(copies) <= _COPIES * len(places):
        warn(f"{len(copies):,} of {len(places):,} held-out images are copies of the index's: {some(copies)}; leave out")
    elif inside := sorted({*inside, *copies}):
        raise ValueError(
            "held-out images must not be in the index, by their file or their content, where they find themselves; "
            f"{some(inside)} are; leave them out, or make the index without them"
        )


def _first_label(images: Moment | Embeddings) -> str:
    """Returns the label of the first image that has one, as a path of names."""
    first = int((depth(images.labels) > 0).nonzero()[0])
    return "/".join(label_paths(images.taxonomy, images.labels[first])[0])
