"""Triplets over leaf folders alone, as flat classes: the baseline of paper B without the hierarchy, on openclipart96.

Command   python tools/train.py configs/leaftriplet_openclipart.py
"""

_base_ = "leveltriplet_openclipart.py"
model = dict(loss=dict(margin="constant"))
train_dataloader = dict(
    batch_sampler=dict(_delete_=True, type="LeafTripletSampler", triplets_per_epoch=2100),
)
default_hooks = dict(curriculum=None)
