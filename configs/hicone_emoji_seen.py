"""HiConE in place of HiMulConE; all else, and the command, as in himulcone_emoji_seen.py."""

_base_ = "himulcone_emoji_seen.py"
model = dict(loss=dict(_delete_=True, type="HiConELoss"))
