"""Level-by-level triplets on openclipart96 in paper B's manner: a pretrained encoder, frozen, and two trained layers.

EfficientNet-Lite0 with ImageNet weights, 96 px, in the place of VGG-16. It runs once for eight views of each image, so
that a step is the two layers alone and a run can go on until it converges: 22 epochs are 2,024 steps, each of 16
triplets as in the paper.

Command   python tools/train.py configs/leveltriplet_openclipart_lite0.py      (after pip install -e '.[demo]')
          python tools/test.py configs/linear_openclipart_lite0.py CHECKPOINT
          python tools/benchmarks/table.py openclipart --rows paper_b_pretrained    (with the baselines, three seeds)
Result    measured: "In the paper's regime" of docs/leveltriplets.md
Vary      train_cfg.max_epochs=109 for 10,028 steps, 4 for 368; train_dataloader.dataset.split=small
"""

_base_ = [
    "_base_/datasets/openclipart96.py",
    "_base_/pipelines/emoji96.py",
    "_base_/models/lite0_fc.py",
    "_base_/schedules/finetune.py",
    "_base_/default_runtime.py",
]
model = dict(loss=dict(type="LevelTripletLoss"))
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    batch_sampler=dict(type="LevelTripletSampler", replay=0.5, triplets_per_epoch=92 * 16),
    dataset=dict(pipeline={{_base_.triplet_pipeline96}}),
)
val_dataloader = dict(num_workers=0, dataset=dict(pipeline={{_base_.test_pipeline96}}))
test_dataloader = dict(num_workers=0, dataset=dict(pipeline={{_base_.test_pipeline96}}))
optim_wrapper = dict(optimizer=dict(lr=5e-4))
train_cfg = dict(max_epochs=22, val_interval=1000)  # at the end
default_hooks = dict(
    checkpoint=dict(interval=50),
    curriculum=dict(type="LevelCurriculumHook"),
    frozen_features=dict(
        type="FrozenFeaturesHook", num_views=8, dtype="float16", evaluation=True, folder="../features"
    ),
    tsne=None,
    retrieval_sheet=None,
)
