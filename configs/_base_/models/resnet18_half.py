# A ResNet-18 of half the usual width (2.8 M parameters), for small images on a CPU.
model = dict(
    type="HierarchicalContrastive",
    data_preprocessor=dict(type="MultiViewPreprocessor", channels_last=True),
    backbone=dict(type="ResNet", depth=18, base_channels=32, stem_channels=32),
    projection=dict(type="ProjectionHead", out_channels=128),
    channels_last=True,
)
