from types import SimpleNamespace

import mmengine.dataset
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from hierpretrain.engine.image_numbers import ImageNumbersHook
from hierpretrain.evaluation.evaluator import collecting
from hierpretrain.models import HierarchicalContrastive
from hierpretrain.registry import DATASETS
from tests.datasets.trees import write_image

PACK = dict(type="PackInputs", algorithm_keys=("extra_labels",), meta_keys=("sample_idx", "img_path", "split"))
RETRIEVAL = dict(type="RetrievalMetric", levels=[1])
TELLS = "tells images apart by sample_idx, which a"
SMALL = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)


@pytest.fixture
def folder(tmp_path):
    init_default_scope("hierpretrain")
    for name in ("a/1.jpg", "a/2.jpg", "b/3.jpg"):
        write_image(tmp_path / name, (200, 30, 40))
    transforms = [dict(type="torchvision/RandomCrop", size=8), dict(type="torchvision/PILToTensor")]
    views = dict(type="Views", num_views=2, transforms=[*transforms, lambda item: {**item, "img": noisy(item["img"])}])
    return dict(type="FolderDataset", data_root=str(tmp_path), pipeline=[dict(type="LoadRGB"), views, PACK])


def test_loops_without_an_evaluator_and_losses_that_are_no_modules_are_left_alone():
    loader = SimpleNamespace(dataset=[])
    loss = SimpleNamespace(instance_level=False)
    run = SimpleNamespace(model=SimpleNamespace(loss_module=loss), train_dataloader=loader, val_loop=SimpleNamespace())
    ImageNumbersHook().before_train(run)


def noisy(image):
    return image.float() + torch.rand(image.shape)


def runner(data, loss=None, evaluated=None, metric=RETRIEVAL):
    model = HierarchicalContrastive(SMALL, loss=loss)
    loop = None
    if evaluated is not None:
        evaluator = collecting(Evaluator([metric]))
        loop = SimpleNamespace(evaluator=evaluator, dataloader=SimpleNamespace(dataset=evaluated))
    loader = SimpleNamespace(dataset=data)
    return SimpleNamespace(model=model, train_dataloader=loader, val_loop=loop, test_loop=loop)


@pytest.mark.parametrize(
    ("loss", "reader"),
    [
        (dict(type="NTXentLoss"), "NTXentLoss"),
        (dict(type="ReleasedHMLCLoss"), "ReleasedHMLCLoss"),
        (dict(type="HiMulConELoss", instance_level=True), "HiMulConELoss"),
        (dict(type="HierarchicalJointLoss", num_classes=[2], contrastive=dict(type="NTXentLoss")), "NTXentLoss"),
    ],
)
def test_a_loss_that_compares_images_refuses_items_that_share_numbers(folder, loss, reader):
    data = mmengine.dataset.RepeatDataset(folder, 2)
    message = f"{reader} {TELLS} RepeatDataset of MMEngine .*; write type='RepeatDataset' in a config"
    with pytest.raises(ValueError, match=message):
        ImageNumbersHook().before_train(runner(data, loss))


def test_so_does_an_evaluation_before_a_training_and_by_itself(folder):
    ours = DATASETS.build(folder)
    run = runner(ours, evaluated=torch.utils.data.ConcatDataset([ours, ours]))
    for check in (ImageNumbersHook().before_train, ImageNumbersHook().before_val, ImageNumbersHook().before_test):
        with pytest.raises(ValueError, match=f"the evaluation {TELLS} ConcatDataset"):
            check(run)


def test_what_does_not_look_at_numbers_takes_them(folder):
    data = mmengine.dataset.RepeatDataset(folder, 2)
    run = runner(data, dict(type="SupConLoss"), data, dict(type="mmpretrain.Accuracy"))
    ImageNumbersHook().before_train(run)
    ImageNumbersHook().before_test(run)
    assert run.model.repeated_images is None


@pytest.mark.parametrize(
    "wrapper", [dict(type="RepeatDataset", times=2), dict(type="ClassBalancedDataset", oversample_thr=2.0)]
)
def test_repeats_are_views_of_one_image_to_a_loss_and_differ(folder, wrapper):
    data = DATASETS.build(dict(**wrapper, dataset=folder))
    run = runner(data, dict(type="NTXentLoss"))
    ImageNumbersHook().before_train(run)
    loader = Runner.build_dataloader(
        dict(
            dataset=data,
            batch_size=len(data),
            sampler=dict(type="DefaultSampler", shuffle=False),
            collate_fn=dict(type="default_collate"),
        )
    )
    seen = []
    run.model.loss_module.forward = lambda features, labels, instances: (
        seen.append(instances.tolist()) or features.sum()
    )
    batch = run.model.data_preprocessor(next(iter(loader)), True)
    run.model(**batch, mode="loss")
    paths = [sample.img_path for sample in batch["data_samples"]] * 2
    assert len(set(paths)) == 3 < len(data)
    assert [one == other for one in seen[0] for other in seen[0]] == [one == other for one in paths for other in paths]
    assert len({image.numpy().tobytes() for image in batch["inputs"]}) == 2 * len(data)  # though they are one picture
