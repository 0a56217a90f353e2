"""Guided: prototypes of the classes whose distances follow the tree (Garnot & Landrieu, 2021).

All else, and the command, as in himulcone_imagenet.py.
"""

_base_ = "himulcone_imagenet.py"
model = dict(projection=None, loss=dict(_delete_=True, type="GuidedLoss"))
train_dataloader = dict(batch_sampler=None)  # shuffled batches: a classifier unlearns classes that come in groups
