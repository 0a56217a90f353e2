"""SupCon over the classes of the finest level; all else, and the command, as in himulcone_deepfashion_seen.py."""

_base_ = "himulcone_deepfashion_seen.py"
model = dict(loss=dict(_delete_=True, type="SupConLoss", level=-1))
