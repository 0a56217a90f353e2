"""Guided: prototypes of the categories whose distances follow the tree (Garnot & Landrieu, 2021).

All else, and the command, as in himulcone_modelnet40.py.
"""

_base_ = "himulcone_modelnet40.py"
model = dict(projection=None, loss=dict(_delete_=True, type="GuidedLoss", level="category"))
train_dataloader = dict(batch_sampler=None)  # shuffled batches: a classifier unlearns classes that come in groups
