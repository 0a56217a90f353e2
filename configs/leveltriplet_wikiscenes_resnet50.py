"""Level-by-level triplets on WikiScenes with a frozen ResNet-50; a head of two layers is trained on top, and embeds.

The features take 8 KiB an image, a twelfth of VGG-16's. Vectors of free length, as the quadratic margin wants.

Command   python tools/train.py configs/leveltriplet_wikiscenes_resnet50.py --data-root path/to/wikiscenes
          python tools/test.py configs/linear_wikiscenes_resnet50.py CHECKPOINT --data-root path/to/wikiscenes
Vary      model.backbone: any backbone of mmpretrain, with its weights
"""

_base_ = [
    "_base_/datasets/wikiscenes.py",
    "_base_/models/resnet50_frozen.py",
    "_base_/schedules/adam_paper_b.py",
    "_base_/default_runtime.py",
]
model = dict(loss=dict(type="LevelTripletLoss", min_margin=1.0), normalize=False)
train_dataloader = dict(batch_size=16, batch_sampler=dict(type="LevelTripletSampler", replay=0.5))
default_hooks = dict(
    curriculum=dict(type="LevelCurriculumHook"),
    frozen_features=dict(type="FrozenFeaturesHook"),
    tsne=None,
    retrieval_sheet=None,
)
