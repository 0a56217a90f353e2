"""Triplets of emoji as flat classes: the baseline of paper B without the hierarchy, on the seen classes of emoji64.

Command   python tools/train.py configs/leaftriplet_emoji_seen.py
"""

_base_ = "leveltriplet_emoji_seen.py"
model = dict(loss=dict(margin="constant"))
train_dataloader = dict(
    batch_sampler=dict(_delete_=True, type="LeafTripletSampler", triplets_per_epoch=2827),
)
default_hooks = dict(curriculum=None)
