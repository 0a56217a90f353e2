# A ResNet-18 with a stem for images of 32 px.
model = dict(
    type="HierarchicalContrastive",
    data_preprocessor=dict(type="MultiViewPreprocessor"),
    backbone=dict(type="ResNet_CIFAR", depth=18),
    projection=dict(type="ProjectionHead", out_channels=128),
)
