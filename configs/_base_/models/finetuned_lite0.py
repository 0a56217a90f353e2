# The recommended model: the last two stages of EfficientNet-Lite0, fine-tuned with the joint loss, margins over the
# tree and classification at each of its levels; embeddings are square roots. docs/finetuning.md says why.
_base_ = "efficientnet_lite0.py"
model = dict(
    backbone=dict(frozen_stages=5),
    projection=None,
    loss=dict(type="HierarchicalJointLoss", contrastive=dict(type="CSLLoss", level=None)),
    power=0.5,
)
