_base_ = "himulcone_emoji.py"
model = dict(loss=dict(_delete_=True, type="SupConLoss", level=-1))
