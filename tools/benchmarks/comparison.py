"""What compare.py compares: the methods with the settings that are tried for each, and the protocols.

Every method gets the same number of trials, ``TRIALS``. A search goes through the method's stages in their order. A
stage is a list of alternatives, each a set of overrides of the config. The best alternative is kept, and the next stage
starts from it; doing nothing is an alternative that was tried already. Rates of learning are relative to the
protocol's. Levels have the numbers of emoji64: category, subcategory, emoji.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Overrides = Mapping[str, Any]  # dotted key of the config -> value

Form = tuple[float, float]  # the power and the pretrained share of an embedding

TRIALS = 8

HEAD = dict(type="ProjectionHead", out_channels=128)
LEVELWISE = dict(type="HierarchicalBatchSampler")
SAMPLER = "train_dataloader.batch_sampler"
RATE = "rate"  # times the protocol's learning rate


def _try(key: str, *values: Any) -> list[Overrides]:
    return [{key: value} for value in values]


# with and without a projection head, in shuffled batches and in batches of the hierarchical sampler
_HEAD_AND_SAMPLER = [
    {"model.projection": head, SAMPLER: sampler} for head in (None, HEAD) for sampler in (None, LEVELWISE)
]
_RATES = _try(RATE, 0.5, 2)
_CONTRASTIVE = [_HEAD_AND_SAMPLER, _try("model.loss.temperature", 0.05, 0.2), _RATES]


@dataclass(frozen=True)
class Method:
    """A row of the comparison.

    Args:
        config: The first part of the name of its configs, ``<config>_<data set>.py``.
        stages: The alternatives of each stage; together ``TRIALS``. None at all: nothing is searched.
        options: What the row overrides in every run.
        trained: Whether anything is trained.
    """

    config: str
    stages: Sequence[Sequence[Overrides]] = ()
    options: Overrides = None  # type: ignore[assignment]
    trained: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", dict(self.options or {}))
        if self.stages and (tried := sum(map(len, self.stages))) != TRIALS:
            raise ValueError(f"every method has {TRIALS} trials; {self.config} has {tried}")


OURS = "Joint (recommended)"
SHIPPED = "Joint, as shipped"


_PARTS = [
    {"model.loss.contrastive": dict(type="HiMulConLoss"), SAMPLER: LEVELWISE},
    {"model.loss.contrastive": dict(type="SupConLoss", level=-1), SAMPLER: LEVELWISE},
    {"model.loss.contrastive": dict(type="CSLLoss", level=None), SAMPLER: None},
]


def _joint(
    rate: float, *rates: float, parts: Sequence[Overrides] = _PARTS, head: Any = None, share: float = 0.0
) -> Method:
    """Returns the joint loss, which starts from a rate.

    Each part is tried in the batches, and with or without the head, that suited it in its own search.
    """
    return Method(
        "joint",
        [
            [{**part, RATE: rate} for part in parts],
            _try("model.loss.weight", 0.3, 3.0),
            _try("model.projection", head) if head else _try("model.loss.label_smoothing", 0.1),
            _try(RATE, *rates),
        ],
        {"model.power": 0.5, "model.loss.projection": None, **_share(share)},
    )


def _shipped(rate: float, share: float = 0.0) -> Method:
    """Returns the joint loss as configs/_base_/models/finetuned_lite0.py has it, at a rate, without a search."""
    part = dict(type="CSLLoss", level=None)
    fixed = {"model.power": 0.5, "model.loss.projection": None, "model.loss.contrastive": part, SAMPLER: None}
    return Method("joint", options={**fixed, **_share(share), RATE: rate})


def _share(share: float) -> Overrides:
    return {"model.pretrained_share": share} if share else {}


METHODS: dict[str, Method] = {
    "Nothing trained": Method("himulcone", trained=False),
    "SimCLR": Method("simclr", _CONTRASTIVE),
    "Cross entropy, one level": Method(
        "crossentropy",
        [
            _try("model.loss.level", 2, 1, 3),
            _try("model.loss.label_smoothing", 0.1),
            _try(SAMPLER, LEVELWISE),
            _try(RATE, 0.5, 2, 4),
        ],
    ),
    "Cross entropy, all levels": Method(
        "crossentropylevels",
        [
            _try("model.loss.heads", "linear", "cosine"),
            _try("model.loss.label_smoothing", 0.1),
            _try("model.loss.balance", 1.0),
            _try(SAMPLER, LEVELWISE),
            _try(RATE, 0.5, 2, 4),
        ],
    ),
    "Triplet": Method(
        "triplet",
        [
            [{SAMPLER: sampler, "model.loss.level": level} for sampler in (LEVELWISE, None) for level in (-1, 2)],
            [{"model.loss.margin": 0.2, "model.loss.distance": "squared", "model.normalize": True}],
            _try("model.projection", HEAD),
            _RATES,
        ],
    ),
    "SupCon, level 1": Method("supcon", _CONTRASTIVE, {"model.loss.level": 1}),
    "SupCon, level 2": Method("supcon", _CONTRASTIVE, {"model.loss.level": 2}),
    "SupCon, finest level": Method("supcon", _CONTRASTIVE),
    "Guided": Method(
        "guided",
        [
            _try("model.loss.level", 2, 3),
            _try("model.loss.weight", 0.1, 10.0),
            _try("model.loss.squared", True),
            _try(RATE, 0.5, 2, 4),
        ],
    ),
    "HXE": Method(
        "hxe",
        [_try("model.loss.alpha", 0.1, 0.3, 0.6), _try(SAMPLER, LEVELWISE), _try(RATE, 0.5, 2, 4, 8)],
    ),
    "Soft labels": Method(
        "softlabels",
        [_try("model.loss.beta", 10.0, 5.0, 20.0, 30.0), _try(SAMPLER, LEVELWISE), _try(RATE, 0.5, 2, 4)],
    ),
    "HAPPIER": Method(
        "happier",
        [_HEAD_AND_SAMPLER, _try("model.loss.lam", 0.5), _try("model.loss.alpha", 3.0), _RATES],
    ),
    "HiMulCon": Method("himulcon", _CONTRASTIVE),
    "HiConE": Method("hicone", _CONTRASTIVE),
    "HiMulConE, pair": Method("himulcone", _CONTRASTIVE),
    "HiMulConE, anchor": Method("himulcone", _CONTRASTIVE, {"model.loss.constraint": "anchor"}),
    "Level triplets": Method(
        "leveltriplet",
        [
            _try("train_dataloader.batch_sampler.replay", 0.5, 0.0, 1.0),
            _try("model.normalize", True),
            _try("model.loss.min_margin", 0.2),
            _try(RATE, 0.5, 2, 4),
        ],
    ),
    "Leaf triplets": Method(
        "leaftriplet",
        [
            _try("model.loss.min_margin", 1.0, 0.2, 5.0),
            _try("model.normalize", True),
            _try("model.projection", HEAD),
            _try(RATE, 0.5, 2, 4),
        ],
    ),
    "RINCE": Method(
        "rince", [_HEAD_AND_SAMPLER, _try("model.loss.variant", "in"), _try("model.loss.instance_level", True), _RATES]
    ),
    "CSL": Method(
        "csl",
        [
            _try(SAMPLER, None, LEVELWISE),
            _try("model.loss.scale", 16.0),
            [{"model.loss.margins": (0.2, 0.1)}],
            _try("model.projection", HEAD),
            _try(RATE, 0.5, 2, 4),
        ],
    ),
    "Proxies of all levels": Method(
        "levelproxy",
        [
            _try(SAMPLER, None, LEVELWISE),
            _try("model.loss.scale", 16.0, 8.0),
            _try("model.projection", HEAD),
            _try(RATE, 0.5, 2, 4),
        ],
    ),
    "HAFrame": Method(
        "haframe",
        [
            _try("model.loss.level", 2, 3),
            _try("model.loss.gamma", 2.0, 4.0),
            _try("model.loss.alpha", 0.2),
            _try(RATE, 0.5, 2, 4),
        ],
    ),
    SHIPPED: _shipped(4),
    OURS: _joint(4, 2, 8),
}
EIGHT = (  # of paper A and what is closest to ours, for the second data set; the last two are one method
    "Nothing trained",
    "SimCLR",
    "Cross entropy, one level",
    "Cross entropy, all levels",
    "SupCon, finest level",
    "HiMulCon",
    "HiMulConE, pair",
    SHIPPED,
    OURS,
)
# Of openclipart96's five levels, the upper two are those that all images have a folder of.
OPENCLIPART = {name: METHODS[name] for name in EIGHT} | {
    "Cross entropy, one level": Method(
        "crossentropy",
        [
            _try("model.loss.level", "level2", "level1"),
            _try("model.loss.label_smoothing", 0.1, 0.2),
            _try(SAMPLER, LEVELWISE),
            _try(RATE, 0.5, 2, 4),
        ],
    ),
    "SupCon, finest level": Method("supcon", _CONTRASTIVE, {"model.loss.level": "level2"}),
    SHIPPED: _shipped(1, share=0.5),
    OURS: _joint(
        1,
        0.25,
        4,
        parts=[
            {"model.loss.contrastive": dict(type="HiMulConLoss"), "model.loss.projection": HEAD, SAMPLER: LEVELWISE},
            {
                "model.loss.contrastive": dict(type="SupConLoss", level="level2"),
                "model.loss.projection": HEAD,
                SAMPLER: LEVELWISE,
            },
            _PARTS[-1],
        ],
        head=HEAD,
        share=0.5,
    ),
}


@dataclass(frozen=True)
class Protocol:
    """A data set with seen and unseen classes, and where the training starts.

    Args:
        dataset: The last part of the names of the data set's configs; ``himulcone_<data set>.py`` has the images.
        finest: The level that is searched and clustered inside its parents.
        above: The level above it.
        methods: The rows.
        methods_of: The data set whose configs say what a method is; ``None``: the same. From another one's, a method
            has its loss, projection, sampler and number of views.
        epochs: The epochs of a run; trials have half as many.
        base: The config whose encoder, pipelines and schedule the methods get; ``None``: what their own configs have.
        rate: The learning rate that rates are relative to; ``None``: the configs'.
        views: Views of each image that are kept, where stages of the base are frozen.
        paths: What happens in training to images that hang in several nodes, for all rows alike: the data set's option.
        share: The pretrained share that the recommended rows have. All rows are measured with it, too.
        trial_seeds: The seeds that draw the classes that trials do not train on. A trial is run with each draw, and
            its metrics are means.
    """

    dataset: str
    finest: str
    above: str
    methods: Mapping[str, Method] = field(default_factory=lambda: METHODS)
    methods_of: str | None = None
    epochs: int = 8
    base: str | None = None
    rate: float | None = None
    views: int = 8
    paths: str = "all"
    share: float = 0.0
    trial_seeds: Sequence[int] = (0,)

    @property
    def columns(self) -> dict[str, str]:
        """Heading -> metric of what is reported, all of unseen classes."""
        return {
            f"MAP@R {self.finest}": f"unseen/{self.finest}/map@r",
            f"R@1 {self.finest}": f"unseen/{self.finest}/recall@1",
            f"NMI {self.finest} in {self.above}": f"unseen/{self.finest}/nmi_in_{self.above}",
            f"NMI {self.above}": f"unseen/{self.above}/nmi",
            f"top-1 {self.above}": f"unseen/{self.above}/linear_top1",
            "H-AP": "unseen/h_ap",
            "violations": "unseen/violations",
        }

    @property
    def forms(self) -> list[Form]:
        """The forms of embeddings that every row is measured in, beside its own: plain ones first, ours last."""
        return list(dict.fromkeys([(1.0, 0.0), (0.5, 0.0), (0.5, self.share)]))

    @property
    def scored(self) -> dict[str, str]:
        """Heading -> metric of what trials are chosen by."""
        chosen_by = ("MAP@R", "NMI", "H-AP")
        return {heading: key for heading, key in self.columns.items() if heading.startswith(chosen_by)}

    def score(self, metrics: Mapping[str, float]) -> float:
        """Returns what trials are chosen by: the mean of four metrics."""
        return statistics.mean(metrics[key] for key in self.scored.values())


PROTOCOLS = {
    "emoji_scratch": Protocol(
        "emoji_seen",
        "emoji",
        "subcategory",
        {name: method for name, method in METHODS.items() if name != SHIPPED} | {OURS: _joint(1, 0.5, 2)},
    ),
    "emoji_pretrained": Protocol("emoji_seen", "emoji", "subcategory", base="finetune_emoji", rate=1e-3),
    # SupCon takes one path of an image, and 2 % of the training images have several. Two of the 36 seen folders have
    # 60 % of all images. The draws are the first three that hold out neither of the two, in which no folder has over
    # 30 % of the images, and four folders and more have a sibling: 175, 205 and 225 images.
    "openclipart_pretrained": Protocol(
        "openclipart_seen",
        "level2",
        "level1",
        OPENCLIPART,
        methods_of="emoji_seen",
        base="finetune_emoji",
        rate=1e-3,
        paths="first",
        share=0.5,
        trial_seeds=(0, 10, 24),
    ),
}
LESS_IS_BETTER = ("violations",)
