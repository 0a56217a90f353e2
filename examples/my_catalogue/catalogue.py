"""Embeddings of a catalogue: photos/train/<category>/<product>/*.jpg, and photos/test likewise, of other products.

Command   python -m hierpretrain train catalogue.py
"""

_base_ = "hierpretrain::_base_/finetune_photos.py"
custom_imports = dict(imports=["catalogue_loss"], allow_failed_imports=False)

# two overrides: a loss of our own in place of the recipe's, and a smaller learning rate
model = dict(loss=dict(_delete_=True, type="CatalogueLoss", category_share=0.3))
optim_wrapper = dict(optimizer=dict(lr=1e-3))

# and what the recipe leaves open: where the images are, and what is measured on them
train_dataloader = dict(
    dataset=dict(type="FolderDataset", data_root="photos/train", pipeline={{_base_.train_pipeline}})
)
val_dataloader = dict(dataset=dict(type="FolderDataset", data_root="photos/test", pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="RetrievalMetric", levels=["level2", "level1"]),
    dict(type="HierarchicalRetrievalMetric"),
]
test_evaluator = val_evaluator
