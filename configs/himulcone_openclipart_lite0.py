"""HiMulConE (paper A) on openclipart96 with paper B's encoder: frozen, and two layers that are trained and embed.

Batches are 48 images in one view, as many as 16 triplets have, so that all rows share the features that are kept and
an epoch has as many steps. All else as in leveltriplet_openclipart_lite0.py.

Command   python tools/train.py configs/himulcone_openclipart_lite0.py
"""

_base_ = "leveltriplet_openclipart_lite0.py"
model = dict(loss=dict(_delete_=True, type="HiMulConELoss"), normalize=True)
train_dataloader = dict(batch_size=48, batch_sampler=dict(_delete_=True, type="HierarchicalBatchSampler"))
default_hooks = dict(curriculum=None)
