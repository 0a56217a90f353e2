"""The mean of the cross entropies of all levels: the joint loss without its contrastive part.

All else, and the command, as in himulcone_emoji_seen.py.
"""

_base_ = "joint_emoji_seen.py"
model = dict(loss=dict(contrastive=None))
