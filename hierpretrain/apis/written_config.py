"""The config that ``hierpretrain init`` writes: short, with a base of ours, for a person to read and to change."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hierpretrain.apis.look_at_data import FoundData
from hierpretrain.apis.proposal import ENCODERS, Proposal, Search
from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.encodings import decode
from hierpretrain.datasets.lists import annotations_of
from hierpretrain.datasets.tables import READERS

_WIDTH = 110  # characters, after which a call is written over several lines
_PATHS = ("data_root", "ann_file", "split_file")


def config_text(found: FoundData, proposal: Proposal, folder: str, *, split_file: str = "", command: str = "") -> str:
    """Returns the text of a config.

    Args:
        found: The images.
        proposal: What is trained, and how.
        folder: The folder that the config is written to. Paths in and below it are written from there, so that both can
            be moved together; all others are absolute.
        split_file: The file of ``proposal.split``.
        command: The command line that writes it, for the head.
    """
    dataset = dict(found.dataset) | ({"split_file": split_file} if split_file else {})
    parts = [_head(found, proposal, command)]
    parts.append(_untrained(dataset, proposal, folder) if proposal.untrained else _trained(dataset, proposal, folder))
    return "\n".join(parts)


def _head(found: FoundData, proposal: Proposal, command: str) -> str:
    name, size = ENCODERS[proposal.encoder][0], f"{proposal.image_size} px"
    levels = ", ".join(f"{level.name} ({level.num_nodes:,} nodes)" for level in proposal.counts) or "none"
    about = f"{len(found.annotations.images):,} images"
    if proposal.untrained:
        first = f"Embeds the {about} with a pretrained encoder: {proposal.untrained}."
    else:
        first = f"Fine-tunes a pretrained encoder on {proposal.num_trained:,} of {about}."
    lines = [first, ""]
    rows = {"Images": _plain(found.name), "Levels": levels, "Splits": proposal.split_reason}
    rows |= {"Encoder": f"{name}, at {size}", "Written": f"by {command}" if command else ""}
    lines += [f"{title:<9} {_plain(text)}" for title, text in rows.items() if text]
    return '"""' + "\n".join(lines) + '\n"""\n'


def _plain(text: str) -> str:
    """Returns a text as it may stand in a docstring."""
    return text.encode("unicode_escape").decode("ascii") if not text.isprintable() else _escaped(text)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"""', "'''").replace("{{", "{ {")


def _trained(dataset: Mapping[str, Any], proposal: Proposal, folder: str) -> str:
    lines = ['_base_ = "hierpretrain::_base_/finetune_photos.py"', f"_images = {_call(dataset, folder)}"]
    model = [f"backbone={_call(backbone, folder)}"] if (backbone := _model(proposal)) else []
    model += [f"pretrained_share={proposal.share:g}"] if proposal.share else []
    if model:
        lines.append(f"model = dict({', '.join(model)})")
    batch = f"batch_size={proposal.batch_size}, " if proposal.batch_size < 64 else ""
    train = f"dict(**_images, split={_tags(proposal.train)}, pipeline={{{{_base_.train_pipeline}}}})"
    lines += ["", f"train_dataloader = dict({batch}dataset={train})"]
    val_splits = dict.fromkeys(tag for search in proposal.val for tag in (*search.gallery, *search.query))
    one = proposal.test == proposal.val
    splits = f"split={_tags(tuple(val_splits))}, "
    lines.append(f"val_dataloader = dict(dataset=dict(**_images, {splits}pipeline={{{{_base_.test_pipeline}}}}))")
    lines.append("test_dataloader = dict(dataset=dict(**_images, pipeline={{_base_.test_pipeline}}))  # all images")
    lines += ["", f"val_evaluator = {_metrics(proposal.val)}"]
    lines.append("test_evaluator = val_evaluator" if one else f"test_evaluator = {_metrics(proposal.test)}")
    lines.append(f"optim_wrapper = dict(optimizer=dict(lr={proposal.rate:g}))")
    lines.append(f"train_cfg = dict(max_epochs={proposal.epochs}, val_interval={proposal.epochs})")
    lines += ["default_hooks = dict(", f"    frozen_features=dict(num_views={proposal.num_views}),"]
    first = proposal.val[0]
    names = [level.name for level in proposal.counts]
    if first.levels[0] != names[0]:
        lines.append(f"    tsne=dict(level={_text(first.levels[0])}),")
    sheet = _searched(first, prefix=False)
    if first.levels[-1] != names[-1]:
        sheet = [f"level={_text(first.levels[-1])}", *sheet]
    lines.append(f"    retrieval_sheet=dict({', '.join(sheet)}),")
    return "\n".join([*lines, ")", ""])


def _untrained(dataset: Mapping[str, Any], proposal: Proposal, folder: str) -> str:
    backbone = _model(proposal)
    model = f"backbone={_call(backbone, folder)}, " if backbone else ""
    return "\n".join(
        [
            '_base_ = "hierpretrain::_base_/finetune_photos.py"',
            f"model = dict({model}loss=None)",
            "train_dataloader = train_cfg = optim_wrapper = param_scheduler = None",
            "val_dataloader = val_cfg = None",
            "test_dataloader = dict(",
            f"    dataset={_call(dataset, folder, '    ', '    pipeline={{_base_.test_pipeline}}')},",
            ")",
            "test_evaluator = []",
            "",
        ]
    )


def _model(proposal: Proposal) -> dict[str, Any]:
    options = dict(ENCODERS[proposal.encoder][1])
    if proposal.image_size != 224:
        options["img_size" if "model_name" in options else "image_size"] = proposal.image_size
    return options


def _metrics(searches: Sequence[Search]) -> str:
    lines = []
    for search in searches:
        options = ", ".join(_searched(search))
        levels = ", ".join(map(_text, search.levels))
        lines.append(f'    dict(type="RetrievalMetric", levels=[{levels}], {options}),')
        lines.append(f'    dict(type="HierarchicalRetrievalMetric", {options}),')
    return "\n".join(["[", *lines, "]"])


def _searched(search: Search, *, prefix: bool = True) -> list[str]:
    options = [f"query={_tags(search.query)}"]
    if search.gallery:
        options.append(f"gallery={_tags(search.gallery)}")
    return [*options, f"prefix={_text(search.prefix)}"] if prefix and search.prefix else options


def _tags(tags: Sequence[str]) -> str:
    return _text(tags[0]) if len(tags) == 1 else f"[{', '.join(map(_text, tags))}]"


def _call(options: Mapping[str, Any], folder: str, indent: str = "", more: str = "") -> str:
    """Returns ``dict(...)`` as text, over several lines where it is long."""
    parts = []
    for name, value in options.items():
        parts.append(f"{name}={_path(value, folder) if name in _PATHS else _value(value)}")
    text = f"dict({', '.join(parts)})"
    if not more and len(text) <= _WIDTH:
        return text
    inner = "".join(f"{indent}    {part},\n" for part in [*parts, *([more.strip()] if more else [])])
    return f"dict(\n{inner}{indent})"


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return _text(value) if isinstance(value, str) else repr(value)


def _text(text: str) -> str:
    """Returns a string as Python, in double quotes as a rule, and without what MMEngine would take for a variable."""
    quoted = repr(text)
    if '"' not in text and "\\" not in quoted and quoted[0] == "'":
        quoted = f'"{text}"'
    return quoted.replace("{{", "{\\x7b")


def _path(path: str, folder: str) -> str:
    below = os.path.relpath(path, folder)
    start = "{{fileDirname}}"
    if below == ".":
        return f'"{start}"'
    if below == ".." or below.startswith("../") or '"' in folder or "\\" in folder:
        return _text(path)
    return f'"{start}/{_text(below)[1:-1]}"' if _text(below)[0] == '"' else _text(path)


def list_text(annotations: Annotations) -> str:
    r"""Returns annotations as the text of a CSV list: image, split and a column for each level.

    Raises:
        ValueError: If a name is not UTF-8, or :class:`~hierpretrain.datasets.ListDataset` would not read the same from
            the text: it takes no number in two spellings, for instance, and no space around a name.

    Example:
        >>> print(list_text(Annotations(["train/cat/1.jpg"], [("cat",)], ["train"], ("kind",), "pets")), end="")
        image,split,kind
        train/cat/1.jpg,train,cat
    """
    for image in annotations.images:
        try:
            image.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{annotations.source} cannot be written as a list: the name of the image {image!r} is not UTF-8; "
                "rename it"
            ) from error
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "split", *annotations.level_names])
    depth = len(annotations.level_names)
    for image, split, label in zip(annotations.images, annotations.splits, annotations.labels, strict=True):
        writer.writerow([image, split, *label, *[""] * (depth - len(label))])
    _check_reads(text.getvalue(), annotations)
    return text.getvalue()


def _check_reads(text: str, annotations: Annotations) -> None:
    """Raises unless annotations are read again from the text of a list, as the config that names it will read it."""
    why, levels = f"{annotations.source} cannot be written as a list", list(annotations.level_names)
    try:
        table = READERS[".csv"]("the list", decode(text.encode(), "the list"), None, "image")
        table = replace(table, where=lambda row: repr(annotations.images[row]))  # as the list has no lines yet
        again = annotations_of(
            table, annotations.root, source="the list", levels=levels, need_labels=any(annotations.labels)
        )
    except ValueError as error:
        raise ValueError(f"{why}: {error}; rename the folder or the image") from error
    for column in ("images", "splits", "labels"):
        pairs = zip(annotations.images, getattr(annotations, column), getattr(again, column), strict=False)
        for image, written, read in pairs:
            if written != read:
                raise ValueError(
                    f"{why}: {written!r} of {image!r} would be read as {read!r}; rename the folder or the image"
                )
