# Paper B, section 4: VGG-16 with ImageNet weights; its convolutions stay, its first two fully connected layers are
# trained, and the embedding is the 4096 values of the second. Vectors keep their length.
model = dict(
    type="HierarchicalContrastive",
    data_preprocessor=dict(type="MultiViewPreprocessor"),
    backbone=dict(
        type="VGG16Convolutions",
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://vgg16", prefix="features."),
    ),
    neck=dict(
        type="VGG16FullyConnected",
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://vgg16", prefix="classifier."),
    ),
    projection=None,
    normalize=False,
)
