# A ResNet-50 with ImageNet weights that stay; a head on top of it is trained and embeds. For the encoder alone, without
# any training: projection=None, embedding="backbone".
model = dict(
    type="HierarchicalContrastive",
    data_preprocessor=dict(type="MultiViewPreprocessor"),
    backbone=dict(
        type="ResNet",
        depth=50,
        frozen_stages=4,
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    ),
    projection=dict(type="ProjectionHead", out_channels=128),
    embedding="projection",
)
