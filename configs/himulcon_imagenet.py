"""HiMulCon in place of HiMulConE; all else, and the command, as in himulcone_imagenet.py."""

_base_ = "himulcone_imagenet.py"
model = dict(loss=dict(_delete_=True, type="HiMulConLoss"))
