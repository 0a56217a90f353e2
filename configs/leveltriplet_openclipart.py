"""Level-by-level triplets (paper B) from scratch on openclipart96, the folder tree in the repository, on a CPU.

Two epochs a level, 42 triplets a step, half of the steps replayed from earlier levels; 48 px, half-width ResNet-18,
vectors of free length.

Command   python tools/train.py configs/leveltriplet_openclipart.py
          python tools/test.py configs/linear_openclipart.py work_dirs/leveltriplet_openclipart/epoch_8.pth
          python tools/benchmarks/table.py openclipart         (with the baselines, three seeds)
          python tools/benchmarks/ablations.py openclipart     (levels, amount of data, replay)
Takes     two and three quarter minutes on two cores; four as one of two runs at a time
Result    measured: the table of docs/leveltriplets.md
Vary      default_hooks.curriculum.levels, .schedule; train_dataloader.batch_sampler.replay; model.loss.margin,
          .max_level, .min_margin; train_dataloader.dataset.split=small,medium
"""

_base_ = [
    "_base_/datasets/openclipart96.py",
    "_base_/models/resnet18_half.py",
    "_base_/schedules/adamw_cpu.py",
    "_base_/default_runtime.py",
]
model = dict(projection=None, loss=dict(type="LevelTripletLoss"), normalize=False)
train_dataloader = dict(
    batch_size=42,
    batch_sampler=dict(type="LevelTripletSampler", replay=0.5, triplets_per_epoch=2100),
    dataset=dict(pipeline={{_base_.triplet_pipeline}}),
)
train_cfg = dict(max_epochs=8, val_interval=8)
default_hooks = dict(
    curriculum=dict(type="LevelCurriculumHook"),
    retrieval_sheet=dict(level=1),
)
