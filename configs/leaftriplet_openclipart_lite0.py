"""Triplets over leaf folders alone, as flat classes, on a frozen pretrained encoder: paper B's baseline.

All else as in leveltriplet_openclipart_lite0.py.

Command   python tools/train.py configs/leaftriplet_openclipart_lite0.py
"""

_base_ = "leveltriplet_openclipart_lite0.py"
model = dict(loss=dict(margin="constant"))
train_dataloader = dict(
    batch_sampler=dict(_delete_=True, type="LeafTripletSampler", triplets_per_epoch=92 * 16),
)
default_hooks = dict(curriculum=None)
