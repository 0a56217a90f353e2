"""Guided: prototypes of the species whose distances follow the tree (Garnot & Landrieu, 2021).

All else, and the command, as in himulcone_inaturalist.py.
"""

_base_ = "himulcone_inaturalist.py"
model = dict(projection=None, loss=dict(_delete_=True, type="GuidedLoss", max_classes=1000))
train_dataloader = dict(batch_sampler=None)  # shuffled batches: a classifier unlearns classes that come in groups
