"""Triplets over the leaf folders of WikiScenes alone, as flat classes: paper B's baseline without the hierarchy.

Command   python tools/train.py configs/leaftriplet_wikiscenes.py --data-root path/to/wikiscenes
"""

_base_ = "leveltriplet_wikiscenes.py"
model = dict(loss=dict(margin="constant"))
train_dataloader = dict(batch_sampler=dict(_delete_=True, type="LeafTripletSampler"))
default_hooks = dict(curriculum=None)
