"""Guided: prototypes of the 98 subcategories whose distances follow the tree (Garnot & Landrieu, 2021).

All else, and the command, as in himulcone_emoji.py. Another level, as a step over a part of its many classes:
--cfg-options model.loss.level=emoji model.loss.max_classes=500
"""

_base_ = "himulcone_emoji.py"
model = dict(projection=None, loss=dict(_delete_=True, type="GuidedLoss", level="subcategory"))
train_dataloader = dict(batch_sampler=None)  # shuffled batches: a classifier unlearns classes that come in groups
