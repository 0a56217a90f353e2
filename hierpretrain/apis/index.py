"""An index of embedded images: search among them, in a branch of the tree too, and classification by them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import pad

from hierpretrain.apis.answers import Answers, right_answers
from hierpretrain.apis.branches import find_branch, in_branch, label_paths
from hierpretrain.apis.index_files import read_index, write_index
from hierpretrain.apis.neighbours import Classification, Neighbour, SearchResult
from hierpretrain.apis.thresholds import Calibration
from hierpretrain.checks import check_at_least_1
from hierpretrain.datasets.messages import some
from hierpretrain.evaluation import Embeddings
from hierpretrain.functional.approximate import (
    RECALL_QUERIES,
    TARGET,
    build_index,
    kind_of,
    search_parameters,
    set_search_parameters,
    tune,
)
from hierpretrain.functional.index_search import search_groups, search_vectors
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

_RECALL = "recall@10"
_ROUNDING = 1e-9  # of a confidence
_THRESHOLD = 0.5  # of the bare vote
VOTERS = 20
"""How many labelled images vote on a class, unless somebody says otherwise."""
CALIBRATED_VOTERS = 50
"""The same in a calibrated index, whose temperature is chosen: more tell known from unknown better."""
TEMPERATURE = 0.07
"""Of the votes of an index that was not calibrated."""


class EmbeddingIndex:
    """Embedded images that can be searched by cosine similarity, with their files, labels and tree.

    Made by :meth:`build` or :meth:`load`.

    Attributes:
        taxonomy: The tree of the labels; of no level for images without labels.
        labels: (N, L) or (N, P, L) label matrix.
        paths: The N files.
        model: The model that made the embeddings, for people.
        fingerprint: The same for :meth:`check_model`.
        kind: ``'flat'``, ``'ivf'`` or ``'hnsw'``; see :func:`~hierpretrain.functional.approximate.build_index`.
        half: Whether embeddings are stored as float16.
        recall: ``recall@10`` of an index that is not exact, as :meth:`build` measured it.
        skipped: Files that could not be read and are not in the index: path -> why.
        keys: N texts by which people know the images, or nothing at all.
        metadata: What else a list said of the images: name of the column -> N texts.
        calibration: What :meth:`calibrate` learned; ``None``: confidences are fractions of votes.

    Example:
        >>> import torch
        >>> tree = Taxonomy([("animal", "cat"), ("animal", "dog"), ("tool", "saw")], ("kingdom", "kind"))
        >>> images = Embeddings(
        ...     features=torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), labels=tree.node_labels(2),
        ...     extra_labels=torch.empty(3, 0), splits=["all"] * 3, paths=["cat.jpg", "dog.jpg", "saw.jpg"],
        ...     taxonomy=tree, extra_names=())
        >>> index = EmbeddingIndex.build(images, model="a model", fingerprint="0123", log=lambda line: None)
        >>> for found in index.search(images, k=2, within="animal")[0].neighbours:
        ...     print(found.path, round(found.score, 2), found.labels)
        cat.jpg 1.0 (('animal', 'cat'),)
        dog.jpg 0.8 (('animal', 'dog'),)
        >>> print(index.classify(images, k=2, temperature=0.5)[2])
        tool (0.69) / saw (0.69)
    """

    def __init__(
        self,
        index: Any,
        taxonomy: Taxonomy,
        labels: Tensor,
        paths: Sequence[str],
        *,
        model: str,
        fingerprint: str,
        recall: Mapping[str, float],
        skipped: Mapping[str, str],
        keys: Sequence[str] = (),
        metadata: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.kind, self.half = kind_of(index)
        labels = taxonomy.check_own(labels, several_paths=True)
        if not len(labels) == len(paths) == index.ntotal:
            raise ValueError(
                f"an index needs as many labels and paths as embeddings; there are {len(labels)}, {len(paths)} and "
                f"{index.ntotal}"
            )
        metadata = dict(metadata or {})
        for name, column in {"keys": keys or paths, **metadata}.items():
            if len(column) != len(paths):
                raise ValueError(f"an index of {len(paths)} images needs as many {name}; there are {len(column)}")
        self.keys, self.metadata = list(keys), metadata
        self._index = index
        self.taxonomy, self.labels, self.paths = taxonomy, labels, list(paths)
        self.model, self.fingerprint = model, fingerprint
        self.recall, self.skipped = dict(recall), dict(skipped)
        self.calibration: Calibration | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        storage = "float16" if self.half else "float32"
        return f"EmbeddingIndex({len(self):,} images, {self.width} x {storage}, {self.kind!r}, {self.taxonomy!r})"

    @property
    def width(self) -> int:
        """The length D of an embedding."""
        return int(self._index.d)

    @classmethod
    def build(
        cls,
        images: Embeddings,
        *,
        model: str,
        fingerprint: str,
        kind: str = "auto",
        half: bool = False,
        seed: int = 0,
        log: Callable[[str], None] = print,
    ) -> EmbeddingIndex:
        """Makes an index of embedded images; equal arguments give equal indexes.

        An index that is not exact is made to look as wide as it must to find 99 % of the ten nearest images, and how
        many it finds is logged: of up to 1,000 images of the set, each searched for among the others.

        Args:
            images: The images; their embeddings need not have length 1.
            model: The name of the model that embedded them.
            fingerprint: What tells it from all other models.
            kind: ``'flat'`` is exact; ``'hnsw'`` and ``'ivf'`` are quick for many images; ``'auto'`` chooses by their
                number: flat up to 200,000, hnsw up to a million, then ivf.
            half: Whether to store float16: half the memory, and scores that are off by up to 1e-3.
            seed: Of the clusters of ``'ivf'``, and of the images that are searched for to measure recall.
            log: What to do with lines of text about it.

        Raises:
            ValueError: If an embedding is not finite or zero, labels do not fit the tree, or there is no such kind.
        """
        index = build_index(images.features, kind, half=half, seed=seed)
        recall = {}
        if kind_of(index)[0] != "flat" and len(images.features) > 1:
            recall[_RECALL] = found = tune(index, images.features, seed=seed)
            queries = min(len(images.features), RECALL_QUERIES)
            how = "".join(f", {name} {value}" for name, value in search_parameters(index).items())
            log(f"{_RECALL} against exact search: {found:.3f} ({queries:,} queries{how})")
            if found < TARGET:
                log(f"this is below {TARGET:g}, the widest search notwithstanding; kind='flat' finds all")
        return cls(
            index,
            images.taxonomy,
            images.labels,
            images.paths,
            model=model,
            fingerprint=fingerprint,
            recall=recall,
            skipped=images.skipped,
            keys=images.keys,
            metadata=images.metadata,
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the index into a folder of its own; an index that is there is replaced whole or not at all.

        Args:
            folder: ``index.json`` says what the index is; ``index.faiss`` holds the embeddings, ``labels.npy``,
                ``taxonomy.json`` and ``files.json`` what is known of the images, ``metadata.json`` the keys and the
                metadata of a list, ``skipped.json`` which are not there. Where images have moved, change ``root`` in
                ``index.json``.

        Raises:
            ValueError: If the folder holds anything but an index.
            OSError: If it cannot be written.
        """
        about = {
            "model": self.model,
            "fingerprint": self.fingerprint,
            "kind": self.kind,
            "half": self.half,
            "recall": self.recall,
            "search": search_parameters(self._index),
        }
        write_index(
            folder,
            self._index,
            about=about,
            taxonomy=self.taxonomy,
            labels=self.labels,
            paths=self.paths,
            skipped=self.skipped,
            keys=self.keys,
            metadata=self.metadata,
            calibration=self.calibration,
        )

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> EmbeddingIndex:
        """Reads an index that :meth:`save` wrote; it answers as that one does, bit for bit.

        Raises:
            ValueError: If there is none, a file is missing or damaged, or files do not belong together.
        """
        about, found, taxonomy, labels, paths, skipped, keys, metadata = read_index(folder)
        try:
            set_search_parameters(found, about["search"])
            index = cls(
                found,
                taxonomy,
                labels,
                paths,
                model=about["model"],
                fingerprint=about["fingerprint"],
                recall=about["recall"],
                skipped=skipped,
                keys=keys,
                metadata=metadata,
            )
        except ValueError as error:
            raise ValueError(f"the index in {os.fspath(folder)} cannot be used: {error}") from error
        if (index.kind, index.half) != (about["kind"], about["half"]):
            raise ValueError(
                f"the index in {os.fspath(folder)} is {index.kind!r} with half={index.half}, but its index.json says "
                f"{about['kind']!r} with half={about['half']}; make the index anew (hierpretrain index)"
            )
        index.calibration = Calibration.beside(folder, fingerprint=index.fingerprint, level_names=taxonomy.level_names)
        return index

    def check_model(self, fingerprint: str, model: str, width: int) -> None:
        """Raises unless embeddings of a model can be compared with the index's embeddings.

        Args:
            fingerprint: The model's.
            model: Its name.
            width: The length of its embeddings.

        Raises:
            ValueError: If it is not the model that made the index.
        """
        remedy = "use the model that made it, or make the index anew (hierpretrain index)"
        if width != self.width:
            raise ValueError(
                f"the index was made by {self.model!r} with embeddings of {self.width} numbers; {model!r} gives "
                f"{width}: {remedy}"
            )
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"the index was made by {self.model!r} (fingerprint {self.fingerprint}), not by {model!r} "
                f"({fingerprint}): weights or preprocessing differ, and embeddings cannot be compared; {remedy}"
            )

    def search(
        self,
        query: Embeddings,
        k: int = 10,
        *,
        level: int | str | None = None,
        within: str | Sequence[str] | None = None,
    ) -> list[SearchResult]:
        """Finds the nearest images, the highest cosine similarity first and equal ones in the order of the index.

        A query that is itself in the index is found too. A search in a branch compares all of its images, whatever the
        kind of the index.

        Args:
            query: The queries, embedded by the index's model.
            k: How many neighbours, from 1; fewer where there are not as many.
            level: A level of the tree, by its number from 1, the coarsest, or its name: one neighbour for each of the k
                nearest nodes there, the nearest of its images, which ``Neighbour.node`` says; a product once and not
                with each of its photographs. Images that hang above the level are left out; an image of several
                label paths can stand for each of their nodes.
            within: A branch of the tree: the names from below the root, as a sequence or joined by ``'/'``, or the name
                of a node alone if no other has it. An image is in the branch if one of its label paths is.

        Returns:
            One result a query, in their order.

        Raises:
            ValueError: If k is below 1, there is no such level or branch, or embeddings are not as long as the index's.
        """
        number, branch = self.check_search(k, level=level, within=within)
        inside = None if branch is None else in_branch(self.labels, branch)  # (N, P)
        if number is None:
            within = None if inside is None else inside.any(1)
            scores, indices = search_vectors(self._index, query.features, k, within=within)
            nodes = indices
        else:
            groups = self.labels[..., number - 1].view(len(self), -1)
            groups = groups if inside is None else groups.masked_fill(~inside, PAD)
            exact = branch is not None
            scores, indices, nodes = search_groups(self._index, query.features, k, groups, exact=exact)
        names = functools.cache(lambda index: label_paths(self.taxonomy, self.labels[index]))
        node_labels = self._node_labels(number)
        node_names = functools.cache(lambda node: self.taxonomy.decode(node_labels[node]) if number else ())
        results = []
        scores = scores.clamp(-1, 1)  # rounding, of float16 above all, may lead out of it
        rows = zip(query.paths, scores.tolist(), indices.tolist(), nodes.tolist(), strict=True)
        for row, (path, *found) in enumerate(rows):
            neighbours = [
                Neighbour(self.paths[index], score, names(index), node_names(node), *_known(self, index))
                for score, index, node in zip(*found, strict=True)
            ]
            results.append(SearchResult(path, tuple(neighbours), *_known(query, row)))
        return results

    def check_search(
        self, k: int = 10, *, level: int | str | None = None, within: str | Sequence[str] | None = None
    ) -> tuple[int | None, Tensor | None]:
        """Raises unless :meth:`search` can answer; to be called before queries are embedded, not after it.

        Returns:
            The number of the level, and the (1, L) labels of the branch.

        Raises:
            ValueError: As :meth:`search`, but for the embeddings.
        """
        check_at_least_1(k=k)
        if level is not None and not self.taxonomy.num_levels:
            raise ValueError(f"there is no level {level!r}: the images of the index have no labels")
        number = None if level is None else self.taxonomy.level(level)
        return number, None if within is None else find_branch(self.taxonomy, within)

    def classify(
        self,
        query: Embeddings,
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
            query: The queries, embedded by the index's model.
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
        return self.in_words(query, self.answer(query, k=k, temperature=temperature, threshold=threshold))

    def answer(
        self,
        query: Embeddings,
        *,
        k: int | None = None,
        temperature: float | None = None,
        threshold: float | None = None,
    ) -> Answers:
        """Returns the same as :meth:`classify`, as tensors: the nodes, their confidences, and how many are named.

        Raises:
            ValueError: As :meth:`classify`.
        """
        options = dict(k=k, temperature=temperature, threshold=threshold)
        self.check_classify(**{name: options[name] for name in ("k", "threshold") if options[name] is not None})
        if self.calibration is not None and not any(value is not None for value in options.values()):
            voters = self._voters(query, self.calibration.k)
            return Answers(*answer_paths(*voters, self.labels, self.calibration.paths))
        voters = self._voters(query, VOTERS if k is None else k)
        nodes, shares = tree_knn(*voters, self.labels, temperature=TEMPERATURE if temperature is None else temperature)
        needed = (_THRESHOLD if threshold is None else threshold) - _ROUNDING
        return Answers(nodes, shares, num_named(shares, nodes, [needed] * nodes.shape[1]))

    def in_words(self, query: Embeddings, answers: Answers) -> list[Classification]:
        """Returns the answers for queries by the names of the nodes."""
        found = []
        for path, number, on_path, sure in zip(
            query.paths, answers.num_named.tolist(), answers.nodes.tolist(), answers.confidences.tolist(), strict=True
        ):
            names = [self.taxonomy.name(level, node) for level, node in enumerate(on_path, start=1) if node != PAD]
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
                some are in the index; and as :meth:`classify`.
        """
        check_goal(precision, false_alarms)
        self.check_classify(k)
        if inside := sorted(set(map(os.path.abspath, self.paths)) & _files(held_out)):
            raise ValueError(
                f"held-out images must not be in the index, where they find themselves; {some(inside)} are; leave them "
                "out, or make the index without them"
            )
        held_out = held_out.select((depth(held_out.labels) > 0).nonzero()[:, 0].tolist())
        if len(held_out.paths) < 2:
            raise ValueError(
                f"to calibrate, at least 2 held-out images need labels, and {len(held_out.paths)} has: give a folder "
                "with a sub-folder a class, or a list"
            )
        truth, depths = right_answers(held_out.taxonomy, held_out.labels, self.taxonomy, self.labels)
        voters = self._voters(held_out, k)
        paths, nodes, confidences = calibrate_paths(
            *voters, self.labels, truth, precision=precision, false_alarms=false_alarms, temperatures=temperatures
        )
        self.calibration = Calibration(
            paths=paths,
            k=k,
            goal="precision" if false_alarms is None else "false_alarms",
            rate=precision if false_alarms is None else false_alarms,
            num_images=len(nodes),
            level_names=tuple(self.taxonomy.level_names),
            fingerprint=self.fingerprint,
        )
        return answer_metrics(nodes, confidences, num_named(confidences, nodes, paths.thresholds), truth, depths)

    def _voters(self, query: Embeddings, k: int) -> tuple[Tensor, Tensor]:
        """Returns the (Q, k) cosines and indices of the nearest labelled images."""
        labelled = self.check_classify(k)
        return search_vectors(self._index, query.features, k, within=None if labelled.all() else labelled)

    def check_classify(self, k: int = VOTERS, threshold: float = _THRESHOLD) -> Tensor:
        """Raises unless :meth:`classify` can answer; to be called before queries are embedded, not after it.

        Returns:
            (N,) bool, the images that can vote.

        Raises:
            ValueError: As :meth:`classify`, but for the embeddings and the temperature.
        """
        if k < 1:
            raise ValueError(f"k, the number of images that vote, must be at least 1; it is {k}")
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be above 0 and up to 1, a fraction of the votes; it is {threshold}")
        labelled = depth(self.labels) > 0
        if not labelled.any():
            raise ValueError(
                "to classify, images of the index need labels, and none has one; make an index of labelled images: a "
                "folder with a sub-folder a class, or a list"
            )
        return labelled

    def _node_labels(self, level: int | None) -> Tensor:
        """Returns the (num_nodes, L) labels of the nodes of a level; none for no level."""
        if level is None:
            return self.labels[:0]
        return pad(self.taxonomy.node_labels(level), (0, self.taxonomy.num_levels - level), value=PAD)


def _files(images: Embeddings) -> set[str]:
    """Returns the absolute paths of images; an image that was given as an array has none."""
    return {os.path.abspath(path) for path in images.paths if not path.startswith("<image ")}


def _known(images: EmbeddingIndex | Embeddings, row: int) -> tuple[str, dict[str, str]]:
    """Returns the key and the metadata of an image."""
    metadata = {name: text for name, column in images.metadata.items() if (text := column[row])}
    return images.keys[row] if images.keys else "", metadata
