# Paper A, section 4.2: a ResNet-50 with ImageNet weights; its fourth layer and the projection head are trained.
model = dict(
    type="HierarchicalContrastive",
    data_preprocessor=dict(type="MultiViewPreprocessor"),
    backbone=dict(
        type="ResNet",
        depth=50,
        frozen_stages=3,
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    ),
    projection=dict(type="ProjectionHead", out_channels=128),
)
