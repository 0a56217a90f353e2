"""HiMulCon in place of HiMulConE; all else, and the command, as in himulcone_modelnet40.py."""

_base_ = "himulcone_modelnet40.py"
model = dict(loss=dict(_delete_=True, type="HiMulConLoss"))
