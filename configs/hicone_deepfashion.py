"""HiConE in place of HiMulConE; all else, and the command, as in himulcone_deepfashion.py."""

_base_ = "himulcone_deepfashion.py"
model = dict(loss=dict(_delete_=True, type="HiConELoss"))
