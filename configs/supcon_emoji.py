"""SupCon over the classes of the finest level, in batches of the hierarchical sampler; see himulcone_emoji.py.

Another level: --cfg-options model.loss.level=1
"""

_base_ = "himulcone_emoji.py"
model = dict(loss=dict(_delete_=True, type="SupConLoss", level=-1))
