"""HiMulCon in place of HiMulConE; all else, and the command, as in himulcone_emoji.py."""

_base_ = "himulcone_emoji.py"
model = dict(loss=dict(_delete_=True, type="HiMulConLoss"))
