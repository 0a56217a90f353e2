"""Level-by-level triplets on WikiScenes: "Exploiting Data Hierarchy as a New Modality for Contrastive Learning" (2022).

VGG-16 with ImageNet weights, its first two fully connected layers trained at 1e-4 with 16 triplets a step, half of the
steps replayed from earlier levels, on the images of one cathedral. The convolutions run once per image (their features
take 98 KiB an image on disk).

Command   python tools/train.py configs/leveltriplet_wikiscenes.py --data-root path/to/wikiscenes
          python tools/test.py configs/linear_wikiscenes.py CHECKPOINT --data-root path/to/wikiscenes
          python tools/benchmarks/ablations.py wikiscenes --data-root path/to/wikiscenes
Not said  by the paper: the optimizer, the length of training, alpha_min, the depth that h_max counts, dropout
Vary      default_hooks.curriculum.levels=1, the paper's best; train_dataloader.batch_sampler.replay, .dataset.split
          for a large set; model.loss.max_level=branch, .margin; another encoder: leveltriplet_wikiscenes_resnet50.py
Result    not measured: it takes the images, see docs/datasets/wikiscenes.md
"""

_base_ = [
    "_base_/datasets/wikiscenes.py",
    "_base_/models/vgg16_fc.py",
    "_base_/schedules/adam_paper_b.py",
    "_base_/default_runtime.py",
]
model = dict(loss=dict(type="LevelTripletLoss", min_margin=1.0))
train_dataloader = dict(batch_size=16, batch_sampler=dict(type="LevelTripletSampler", replay=0.5))
default_hooks = dict(
    curriculum=dict(type="LevelCurriculumHook"),
    frozen_features=dict(type="FrozenFeaturesHook"),
    tsne=None,
    retrieval_sheet=None,
)
