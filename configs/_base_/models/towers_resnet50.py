# The external baseline of paper B: the encoder of Towers of Babel (Wu et al., ICCV 2021), a ResNet-50 that learned to
# segment the concepts of WikiScenes. Its last stage keeps the resolution: strides (1, 2, 2, 1), which the file does not
# say. The file is the authors' own, with the segmentation parts in it, which are passed over.
model = dict(
    type="HierarchicalContrastive",
    data_preprocessor=dict(type="MultiViewPreprocessor"),
    backbone=dict(
        type="ResNet",
        depth=50,
        strides=(1, 2, 2, 1),
        frozen_stages=4,
        init_cfg=dict(type="Pretrained", checkpoint="data/wikiscenes/model_enc_e030Xs-0.825.pth"),
    ),
    projection=None,
)
