"""HiMulConE (paper A) on WikiScenes with paper B's encoder: beyond both papers, to compare the two.

Two random views of an image, so its convolutions cannot be computed once for all.

Command   python tools/train.py configs/himulcone_wikiscenes.py --data-root path/to/wikiscenes
"""

_base_ = [
    "_base_/datasets/wikiscenes.py",
    "_base_/models/vgg16_fc.py",
    "_base_/schedules/adam_paper_b.py",
    "_base_/default_runtime.py",
]
model = dict(
    projection=dict(_delete_=True, type="ProjectionHead", out_channels=128),
    loss=dict(type="HiMulConELoss"),
    normalize=True,
)
train_dataloader = dict(
    batch_size=64,
    batch_sampler=dict(type="HierarchicalBatchSampler"),
    dataset=dict(pipeline={{_base_.train_pipeline}}),
)
default_hooks = dict(tsne=None, retrieval_sheet=None)
