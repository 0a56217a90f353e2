"""The stages of an encoder, found in its tree of modules: to freeze some, and to train others more slowly.

Encoders number what they repeat: ``layer1`` to ``layer4`` of a ResNet, ``blocks.0`` to ``blocks.11`` of a transformer.
Those are the stages. What is registered before them is the stem, and what is registered after them is the head.
"""

from __future__ import annotations

import re
from collections import defaultdict

from torch import nn

from hierpretrain.checks import check_whole


def stages(encoder: nn.Module) -> list[tuple[str, nn.Module]]:
    """Returns the stages of an encoder, names and modules, in the order in which they are registered.

    From the top of the tree downwards, they are the first numbered siblings that hold most of the layers. Siblings
    are numbered if their names are equal but for a number at the end, or a number and a letter, as ``Mixed_5b``; of
    those, only modules with parameters count.

    Args:
        encoder: Any module.

    Returns:
        At least two stages; an empty list for a module without such siblings.

    Example:
        >>> from torchvision.models import resnet18
        >>> [name for name, _ in stages(resnet18())]
        ['layer1', 'layer2', 'layer3', 'layer4']
    """
    prefix, module, whole = "", encoder, _size(encoder)
    while True:
        sizes = {name: _size(child) for name, child in module.named_children()}
        families = defaultdict(list)
        for name, size in sizes.items():
            if size and (numbered := re.fullmatch(r"(.*?)\d+[a-z]?", name)):
                families[numbered[1]].append(name)
        names = max(families.values(), key=lambda names: sum(map(sizes.get, names)), default=[])
        if len(names) > 1 and 2 * sum(map(sizes.get, names)) > whole:
            return [(prefix + name, module.get_submodule(name)) for name in names]
        largest = max(sizes, key=sizes.get, default=None)
        if largest is None or 2 * sizes[largest] <= whole:
            return []
        prefix, module = f"{prefix}{largest}.", module.get_submodule(largest)


def layer_depths(encoder: nn.Module) -> dict[str, int]:
    """Returns how deep in an encoder each of its parameters is: 0 in the stem, 1 in the first stage, and so on.

    What stands between two stages belongs to the first of them, and the head counts as one more stage: so does a bare
    parameter ``proj``, which the vision transformers of open_clip have for their head. Without stages, every parameter
    has depth 0.

    Example:
        >>> from torchvision.models import resnet18
        >>> depths = layer_depths(resnet18())
        >>> depths["conv1.weight"], depths["layer4.0.conv1.weight"], depths["fc.bias"]
        (0, 4, 5)
    """
    names = [name for name, _ in stages(encoder)]
    depths, stage = {}, 0
    for parameter, _ in encoder.named_parameters():
        inside = next((i for i, name in enumerate(names, start=1) if parameter.startswith(f"{name}.")), None)
        stage = inside or (stage if stage < len(names) else len(names) + bool(names))
        bare_head = names and parameter.rpartition(".")[2] == "proj" and not inside
        depths[parameter] = len(names) + 1 if bare_head else stage
    return depths


def freeze_stages(encoder: nn.Module, number: int) -> None:
    """Takes the parameters of the stem and of the first stages out of the training.

    Args:
        encoder: Any module.
        number: How many stages; 0 freezes the stem alone, and -1 nothing. One more than there are freezes the head too.

    Raises:
        ValueError: If there are fewer stages. Without stages there is no stem either, so 0 is too many.

    Example:
        >>> from torchvision.models import resnet18
        >>> encoder = resnet18()
        >>> freeze_stages(encoder, 3)
        >>> [name for name, parameter in encoder.named_parameters() if parameter.requires_grad][:2]
        ['layer4.0.conv1.weight', 'layer4.0.bn1.weight']
    """
    check_whole(frozen_stages=number)
    depths = layer_depths(encoder)
    most = max(depths.values(), default=0)
    if most == 0 and number != -1:
        raise ValueError(
            f"frozen_stages must be -1 (nothing) for this {type(encoder).__name__}, in which no stages are found; it "
            f"is {number}. Set requires_grad=False of the parameters that shall stay, or take another encoder"
        )
    if not -1 <= number <= most:
        raise ValueError(
            f"frozen_stages must be -1 (nothing) to {most} (all) for this {type(encoder).__name__}, whose stages are "
            f"{', '.join(name for name, _ in stages(encoder))}; it is {number}"
        )
    for name, parameter in encoder.named_parameters():
        if depths[name] <= number:
            parameter.requires_grad_(False)


def keep_frozen_parts_in_evaluation(encoder: nn.Module) -> None:
    """Puts every part whose parameters are all frozen into evaluation mode, so that its statistics stay.

    Call it after ``encoder.train()``. Parts without parameters are left to the parts that hold them.
    """
    for module in encoder.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def _size(module: nn.Module) -> int:
    """Returns the number of layers with parameters; a classifier has few layers, but may have most parameters."""
    return sum(any(True for _ in part.parameters(recurse=False)) for part in module.modules())
