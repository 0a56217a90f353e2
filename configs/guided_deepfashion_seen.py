"""Guided: prototypes of the products whose distances follow the tree (Garnot & Landrieu, 2021).

All else, and the command, as in himulcone_deepfashion_seen.py.
"""

_base_ = "himulcone_deepfashion_seen.py"
model = dict(projection=None, loss=dict(_delete_=True, type="GuidedLoss", level="product", max_classes=1000))
train_dataloader = dict(batch_sampler=None)  # shuffled batches: a classifier unlearns classes that come in groups
