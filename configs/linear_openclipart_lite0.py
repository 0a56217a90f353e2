"""Every downstream task of linear_openclipart.py, on the two layers that paper B trains on a frozen pretrained encoder.

Command   python tools/test.py configs/linear_openclipart_lite0.py CHECKPOINT (of any <method>_openclipart_lite0.py)
          python tools/test.py configs/linear_openclipart_lite0_untrained.py  (the encoder itself)
"""

_base_ = ["linear_openclipart.py", "_base_/pipelines/emoji96.py"]
model = dict(
    backbone=dict(_delete_=True, type="EfficientNetLite0", weights=True, frozen_stages=8),
    projection=dict(_delete_=True, type="ProjectionHead", hidden_channels=512, out_channels=256),
    embedding="projection",
)
test_dataloader = dict(num_workers=0, dataset=dict(pipeline={{_base_.test_pipeline96}}))
default_hooks = dict(
    frozen_features=dict(type="FrozenFeaturesHook", dtype="float16", evaluation=True, folder="../features"),
)
