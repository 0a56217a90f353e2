# Paper B, section 4, with what a package index has instead of VGG-16: EfficientNet-Lite0 with ImageNet weights, frozen
# whole, and two fully connected layers that are trained and embed. Vectors keep their length.
_base_ = "efficientnet_lite0.py"
model = dict(
    backbone=dict(frozen_stages=8, image_size=96),
    projection=dict(type="ProjectionHead", hidden_channels=512, out_channels=256),
    embedding="projection",
    normalize=False,
)
