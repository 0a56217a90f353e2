"""Level-by-level triplets (paper B) on the seen classes of emoji64, with the budget of himulcone_emoji_seen.py.

Command   python tools/train.py configs/leveltriplet_emoji_seen.py
"""

_base_ = "himulcone_emoji_seen.py"
model = dict(projection=None, loss=dict(_delete_=True, type="LevelTripletLoss"), normalize=False)
train_dataloader = dict(
    batch_size=42,
    batch_sampler=dict(_delete_=True, type="LevelTripletSampler", replay=0.5, triplets_per_epoch=2827),
    dataset=dict(pipeline={{_base_.triplet_pipeline}}),
)
default_hooks = dict(curriculum=dict(type="LevelCurriculumHook"))
