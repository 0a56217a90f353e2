"""What the tables of tools/benchmarks/table.py consist of: groups of rows, columns, published numbers."""

import csv
from pathlib import Path

GROUPS = {  # group -> {row: (method, what it overrides)}; the config is <method>_<data set>
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
}


def _seen_and_unseen(category: str, product: str) -> dict[str, dict[str, str]]:
    parts = ("seen", "unseen")
    return {
        f"Classification of the {category} by a linear layer (tables 1 and 2)": {
            f"top-{k} {part}": f"{part}/{category}/linear_top{k}" for part in ("all", *parts) for k in (1, 5)
        },
        f"Classification of the {product} by a linear layer, of the {category} by 20 neighbours": {
            **{f"{product} top-1 {part}": f"{part}/{product}/linear_top1" for part in ("all", *parts)},
            **{f"kNN {category} {part}": f"{part}/{category}/knn_top1" for part in ("all", *parts)},
        },
        f"Retrieval of the {product} (table 3)": {
            f"{name} {part}": f"{part}/{product}/{key}"
            for part in parts
            for name, key in (("MAP@R", "map@r"), ("R@1", "recall@1"), ("R@10", "recall@10"))
        },
        "Clustering (table 4)": {
            **{f"NMI {category} {part}": f"{part}/{category}/nmi" for part in parts},
            **{f"NMI {product} in {category} {part}": f"{part}/{product}/nmi_in_{category}" for part in parts},
        },
        "Hierarchy": {
            f"{name} {part}": f"{part}/{key}"
            for name, key in (
                ("H-AP", "h_ap"),
                ("NDCG", "ndcg"),
                ("violations", "violations"),
                ("mistake severity", f"{product}/linear_mistake_severity"),
            )
            for part in parts
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
