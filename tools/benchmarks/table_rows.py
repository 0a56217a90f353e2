"""The contents of table.py and ablations.py: groups of rows, what paper B varies, columns, published numbers."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from hierpretrain.datasets.wikiscenes_files import CONCEPTS

Row = tuple[str, list[str]]  # (method, what it overrides)


def config_name(method: str, dataset: str) -> str:
    """Returns the name of a row's config, ``<method>_<data set>``; what qualifies the method comes last.

    Example:
        >>> config_name("supcon", "emoji"), config_name("linear_towers", "wikiscenes")
        ('supcon_emoji', 'linear_wikiscenes_towers')
    """
    first, *more = method.split("_")
    return "_".join([first, dataset, *more])


def _level_triplets(change: str = "", *overrides: str) -> tuple[str, Row]:
    """Returns the name and the row of paper B's method with something changed; one run has one name."""
    return "Level triplets" + (f", {change}" if change else ""), ("leveltriplet", list(overrides))


def _pretrained(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Returns rows of paper B with a frozen pretrained encoder, of which two layers on top are trained."""
    return {f"{name} (pretrained)": (f"{method}_lite0", overrides) for name, (method, overrides) in rows.items()}


def _levels(number: int) -> tuple[str, Row]:
    return _level_triplets(
        "level 1" if number == 1 else f"levels 1 to {number}", f"default_hooks.curriculum.levels={number}"
    )


def _replayed(probability: float) -> str:
    return f"train_dataloader.batch_sampler.replay={probability:g}"


def _replay(probability: float) -> tuple[str, Row]:
    return _level_triplets(f"replay {probability:g}", _replayed(probability))


# Names of rows are names of folders: a name stands for one method and overrides in all groups and ablations of a data
# set. Rows of the method `linear` are not trained, only tested.
GROUPS: dict[str, dict[str, Row]] = {  # group -> {row: (method, what it overrides)}; see config_name
    "methods": {
        "SimCLR": ("simclr", []),
        "Cross entropy": ("crossentropy", []),
        "Triplet": ("triplet", []),
        "SupCon": ("supcon", []),
        "Guided": ("guided", []),
        "HiMulCon": ("himulcon", []),
        "HiConE": ("hicone", []),
        "HiMulConE": ("himulcone", []),
    },
    "hierarchical": {
        "HXE": ("hxe", []),
        "Soft labels": ("softlabels", []),
        "HAPPIER": ("happier", []),
    },
    "contrastive": {
        "SimCLR": ("simclr", []),
        "SupCon (coarsest level)": ("supcon", ["model.loss.level=1"]),
        "SupCon": ("supcon", []),
        "HiMulCon": ("himulcon", []),
        "HiConE": ("hicone", []),
        "HiMulConE": ("himulcone", []),
    },
    "budget": {  # a few rows for longer schedules
        "SupCon": ("supcon", []),
        "HiMulConE": ("himulcone", []),
        "SupCon (subcategory)": ("supcon", ["model.loss.level=2"]),
        "Cross entropy": ("crossentropy", []),
    },
    "constraints": {
        f"HiConE, {constraint}, bound {'with gradient' if grad else 'constant'}": (
            "hicone",
            [f"model.loss.constraint={constraint}", f"model.loss.constraint_grad={grad}"],
        )
        for constraint in ("pair", "anchor", "level")
        for grad in (False, True)
    },
    "options": {
        "HiMulCon": ("himulcon", []),
        "HiMulCon, positives that diverge": ("himulcon", ["model.loss.positives=diverge"]),
        "HiMulCon, uniform weights": ("himulcon", ["model.loss.level_weights=uniform"]),
        "HiMulCon, shuffled batches": ("simclr", ["model.loss.type=HiMulConLoss"]),
        "SupCon": ("supcon", []),
        "SupCon, shuffled batches": ("simclr", ["model.loss.type=SupConLoss"]),
        "released code's loss (hmce)": ("himulcone", ["model.loss._delete_=True", "model.loss.type=ReleasedHMLCLoss"]),
    },
    "paper_b": {
        "No training": ("linear", []),
        "Leaf triplets": ("leaftriplet", []),
        **dict([_level_triplets(), _levels(1), _replay(0), _replay(1)]),
        **dict([_level_triplets("no stages", "default_hooks.curriculum.schedule=all_levels", _replayed(1))]),
        **dict([_level_triplets("branch h_max", "model.loss.max_level=branch")]),
        "HiMulConE": ("himulcone", []),
    },
    "paper_b_pretrained": {
        "No training (pretrained)": ("linear_lite0_untrained", []),
        **_pretrained({"Leaf triplets": ("leaftriplet", [])}),
        **_pretrained(dict([_level_triplets(), _levels(1), _replay(0), _replay(1)])),
        **_pretrained({"HiMulConE": ("himulcone", [])}),
    },
    "paper_b_pretrained_data": _pretrained(
        dict(
            [
                _level_triplets("small data", "train_dataloader.dataset.split=small"),
                _level_triplets("medium data", "train_dataloader.dataset.split=small,medium"),
                _level_triplets(),
            ]
        )
    ),
    "towers": {"Towers of Babel": ("linear_towers", [])},
}
ONLY_FOR = {  # group -> the data sets; else any
    "paper_b": ("openclipart", "wikiscenes"),
    "paper_b_pretrained": ("openclipart",),
    "paper_b_pretrained_data": ("openclipart",),
    "towers": ("wikiscenes",),
}
PAPER_B = ONLY_FOR["paper_b"]


def default_groups(dataset: str) -> list[str]:
    """Returns the groups of a data set's paper; `towers` takes a file of its own, and so must be asked for."""
    return ["paper_b"] if dataset in PAPER_B else ["methods"]


# ------------------------------------------------------------------ what paper B varies (its figure 5)
REPLAY = (0, 0.25, 0.5, 0.75, 1)
LEVELS = {  # numbers of levels that are trained, the coarsest first; the last is all levels, as in the config
    "openclipart": (1, 2, 3, 4),
    "wikiscenes": (1, 2, 3, 4, "all"),
}
_SIZES = ("small", "medium", "large")  # each includes the smaller ones
_TAGS = {  # the splits that a size adds
    "openclipart": ("{size}",),
    "wikiscenes": ("{size}", "{size}_concept"),
}
_STEPS = {  # what makes epochs equally long; on WikiScenes about as long as the paper's small set would
    "openclipart": (),  # they are in the config
    "wikiscenes": ("train_dataloader.batch_sampler.triplets_per_epoch=8000",),
}
ABLATIONS = {  # ablation -> what its figure calls it
    "levels": "levels trained, the coarsest first",
    "data": "training images",
    "replay": "replay probability",
}


def ablations(
    dataset: str, levels: Sequence[int] | None = None, replay: Sequence[float] | None = None
) -> dict[str, dict[str, tuple[str, Row]]]:
    """Returns what each ablation runs: ablation -> {setting: (name of the row, row)}.

    Rows that equal the config or a row of the group ``paper_b`` have its name.

    Args:
        dataset: One of ``PAPER_B``.
        levels: Numbers of levels. ``None``: the numbers of ``LEVELS``. All levels always follow.
        replay: Replay probabilities. ``None``: ``REPLAY``.
    """
    every = LEVELS[dataset][-1]
    numbers = [number for number in levels or LEVELS[dataset] if number != every]
    data = {}
    for i, size in enumerate(_SIZES, start=1):
        splits = ",".join(tag.format(size=name) for name in _SIZES[:i] for tag in _TAGS[dataset])
        data[size] = _level_triplets(f"{size} data", f"train_dataloader.dataset.split={splits}", *_STEPS[dataset])
    if dataset == "openclipart":
        data["large"] = _level_triplets()  # as in the config
    return {
        "levels": {**{str(number): _levels(number) for number in numbers}, str(every): _level_triplets()},
        "data": data,
        "replay": {f"{p:g}": _replay(p) if p != 0.5 else _level_triplets() for p in replay or REPLAY},
    }


# ------------------------------------------------------------------ columns
def _seen_and_unseen(category: str, product: str) -> dict[str, dict[str, str]]:
    splits = ("seen", "unseen")
    return {
        f"Classification of the {category} by a linear layer (tables 1 and 2)": {
            f"top-{k} {split}": f"{split}/{category}/linear_top{k}" for split in ("all", *splits) for k in (1, 5)
        },
        f"Classification of the {product} by a linear layer, of the {category} by 20 neighbours": {
            **{f"{product} top-1 {split}": f"{split}/{product}/linear_top1" for split in ("all", *splits)},
            **{f"kNN {category} {split}": f"{split}/{category}/knn_top1" for split in ("all", *splits)},
        },
        f"Retrieval of the {product} (table 3)": {
            f"{name} {split}": f"{split}/{product}/{key}"
            for split in splits
            for name, key in (("MAP@R", "map@r"), ("R@1", "recall@1"), ("R@10", "recall@10"))
        },
        "Clustering (table 4)": {
            **{f"NMI {category} {split}": f"{split}/{category}/nmi" for split in splits},
            **{f"NMI {product} in {category} {split}": f"{split}/{product}/nmi_in_{category}" for split in splits},
        },
        "Hierarchy": {
            f"{name} {split}": f"{split}/{key}"
            for name, key in (
                ("H-AP", "h_ap"),
                ("NDCG", "ndcg"),
                ("violations", "violations"),
                ("mistake severity", f"{product}/linear_mistake_severity"),
            )
            for split in splits
        },
    }


def _full(category: str, product: str, *, within: bool = True) -> dict[str, dict[str, str]]:
    inside = {f"NMI {product} in {category}": f"{product.removesuffix('_id')}/nmi_in_{category}"}
    return {
        "Classification by a linear layer (table 1)": {
            f"{level} top-{k}": f"{level}/linear_top{k}" for level in (category, product) for k in (1, 5)
        },
        f"Retrieval of the {product} (table 3)": {
            "MAP@R": f"{product}/map@r",
            **{f"R@{k}": f"{product}/recall@{k}" for k in (1, 10, 100)},
        },
        "Clustering (table 4)": {f"NMI {category}": f"{category}/nmi", **(inside if within else {})},
        "Hierarchy": {"H-AP": "h_ap", "NDCG": "ndcg"},
    }


EMOJI = {  # the columns of README and docs/losses.md
    "Unseen emoji of seen subcategories": {
        "MAP@R emoji": "emoji/map@r",
        "R@1 emoji": "emoji/recall@1",
        "R@1 category": "category/recall@1",
        "NMI category": "category/nmi",
        "NMI emoji in category": "emoji/nmi_in_category",
    }
}
COLUMNS = {  # data set -> {table: {heading: metric}}
    "emoji": EMOJI,
    "emoji_seen": _seen_and_unseen("subcategory", "emoji"),
    "deepfashion": _full("category", "product_id"),
    "deepfashion_seen": _seen_and_unseen("category", "product"),
    "modelnet40": _seen_and_unseen("category", "model"),
    "inaturalist": _full("supercategory", "species", within=False),  # k-means into 2,101 plants takes hours
    "imagenet": _full("superclass", "class"),
    "openclipart": {
        "Classification by a linear layer, of level 1 where no other is named, and by 20 neighbours": {
            "mAP": "probe/level1/map",
            "mAP*": "probe/level1/map_images",
            "precision": "probe/level1/precision",
            "top-1": "probe/level1/linear_top1",
            "mAP* level 2": "probe/level2/map_images",
            "kNN top-1": "level1/knn_top1",
        },
        "Retrieval": {
            f"{name} level {level}": f"level{level}/{key}"
            for level in (1, 2)
            for name, key in (("MAP@R", "map@r"), ("R@1", "recall@1"))
        },
        "Hierarchy, and clustering of level 1": {
            "H-AP": "h_ap",
            "NDCG": "ndcg",
            "violations": "violations",
            "NMI": "level1/nmi",
        },
    },
    "wikiscenes": {
        "Ten concepts by a linear layer": {
            f"{name}{suffix}": f"{prefix}concept/{key}"
            for suffix, prefix in (("", ""), (" easy", "easy/"))
            for name, key in (("mAP", "map"), ("mAP*", "map_images"), ("precision", "precision"))
        },
        "Average precision of each concept": {concept: f"concept/ap/{concept}" for concept in CONCEPTS},
        "Average precision of each concept, easy": {concept: f"easy/concept/ap/{concept}" for concept in CONCEPTS},
    },
}
AS_IT_IS = ("mistake severity",)  # headings that are no percentage


def published(dataset: str) -> dict[str, dict[str, tuple[float, str]]]:
    """Returns the published numbers of a data set from paper_a.csv: row -> {metric: (value, source)}."""
    rows: dict[str, dict[str, tuple[float, str]]] = {}
    with open(Path(__file__).with_name("paper_a.csv"), newline="", encoding="utf-8") as file:
        for record in csv.DictReader(file):
            if record["dataset"] == dataset:
                rows.setdefault(record["row"], {})[record["metric"]] = (float(record["value"]), record["source"])
    return rows
