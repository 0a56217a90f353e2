# A ResNet-50 from scratch, all of which is trained: paper A on ImageNet.
model = dict(
    type="HierarchicalContrastive",
    data_preprocessor=dict(type="MultiViewPreprocessor"),
    backbone=dict(type="ResNet", depth=50),
    projection=dict(type="ProjectionHead", out_channels=128),
)
