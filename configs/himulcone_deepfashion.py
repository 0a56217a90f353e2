"""HiMulConE on DeepFashion In-Shop: the recipe of paper A (Use All The Labels, CVPR 2022), section 4.

Data      In-Shop Clothes Retrieval; unpack it anywhere and name the folder with --data-root (default data/inshop)
Command   python tools/train.py configs/himulcone_deepfashion.py
          bash tools/dist_train.sh configs/himulcone_deepfashion.py 8 --cfg-options train_dataloader.batch_size=64
Needs     ImageNet weights of ResNet-50, which torch downloads on first use; GPUs with room for 512 x 2 views together
Result    not measured: the data may not be redistributed. The paper evaluates splits that were never published, so
          no number of its tables is claimed for this config
"""

_base_ = [
    "_base_/datasets/inshop.py",
    "_base_/models/resnet50_layer4.py",
    "_base_/schedules/sgd_paper_a.py",
    "_base_/default_runtime.py",
]
model = dict(loss=dict(type="HiMulConELoss"))
train_dataloader = dict(batch_sampler=dict(type="HierarchicalBatchSampler"))
