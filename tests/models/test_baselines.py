import pytest
import torch
from torch.nn.functional import cross_entropy, normalize
from torch.nn.parallel import DistributedDataParallel

from hierpretrain.functional import happier_loss, triplet_loss
from hierpretrain.models import HAPPIERLoss, TripletLoss
from hierpretrain.registry import MODELS
from hierpretrain.taxonomy import PAD, Taxonomy
from tests import distributed
from tests.conftest import random_features, random_labels

IMAGES = torch.arange(6).repeat(2)


def batch(ragged=True):
    return random_features(0), random_labels(0, rows=6, ragged=ragged).repeat(2, 1), IMAGES


@pytest.mark.parametrize(
    "options",
    [{}, dict(margin=0.7, mining="all"), dict(margin="soft"), dict(distance="euclidean", margin=0.5)],
    ids=str,
)
def test_triplets_take_the_prefix_down_to_their_level_as_the_class(options):
    features, labels, images = batch(ragged=False)
    classes = [labels[:, 0], labels[:, 0] * 2 + labels[:, 1], labels @ torch.tensor([4, 2, 1])]
    for level in (1, 2, 3):
        expected = triplet_loss(features, classes[level - 1], **options)
        for number in (level, level - 4):
            loss = MODELS.build(dict(type="TripletLoss", level=number, **options))
            torch.testing.assert_close(loss(features, labels, images), expected)


def test_triplets_leave_out_an_item_without_a_node_at_the_level():
    features, labels, images = batch()
    expected = triplet_loss(features, torch.where(labels[:, 1] == PAD, PAD, labels[:, 0] * 2 + labels[:, 1]))
    torch.testing.assert_close(TripletLoss(level=2)(features, labels, images), expected)
    known = labels[:, 1] != PAD
    assert not known.all()
    torch.testing.assert_close(TripletLoss(level=2)(features[known], labels[known], images[known]), expected)


@pytest.mark.parametrize("level", [0, 4, -4])
def test_triplets_name_the_levels_there_are(level):
    with pytest.raises(ValueError, match=rf"TripletLoss must be 1 \(coarsest\) to 3, or -1 .* to -3; it is {level}"):
        TripletLoss(level=level)(*batch())


def test_happier_adds_cross_entropy_of_cosines_with_the_proxies_of_the_finest_classes():
    features, labels, images = batch()
    loss = HAPPIERLoss(num_classes=2, in_channels=4, lam=0.3, proxy_temperature=0.2, alpha=2.0, delta=0.3).double()
    known = labels[:, -1] != PAD
    logits = features[known] @ normalize(loss.proxies, dim=1).T / 0.2
    expected = 0.7 * happier_loss(features, labels, alpha=2.0, delta=0.3) + 0.3 * cross_entropy(
        logits, labels[known, -1]
    )
    torch.testing.assert_close(loss(features, labels, images), expected)
    torch.testing.assert_close(
        HAPPIERLoss(num_classes=2, in_channels=4, lam=0.0).double()(features, labels, images),
        happier_loss(features, labels),
    )


def test_proxies_of_happier_start_about_as_long_as_features():
    """Their length divides their gradient, since only their directions count."""
    lengths = HAPPIERLoss(num_classes=50, in_channels=256).proxies.norm(dim=1)
    assert lengths.sub(1).abs().max() < 0.3
    assert lengths.mean().item() == pytest.approx(1, abs=0.05)


def test_happier_checks_its_number_of_classes():
    tree = Taxonomy([("a", "x"), ("a", "y"), ("b", "z")], ("kind", "thing"))
    HAPPIERLoss(num_classes=3, in_channels=4).set_taxonomy(tree)
    with pytest.raises(ValueError, match=r"number of nodes of its level, 3 of 'thing'; it is 2.*num_classes=3"):
        HAPPIERLoss(num_classes=2, in_channels=4).set_taxonomy(tree)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(lam=1.5), "lam must be in 0 to 1; it is 1.5"),
        (dict(proxy_temperature=0), "proxy_temperature must be above 0; it is 0"),
    ],
)
def test_happier_refuses_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        HAPPIERLoss(num_classes=2, in_channels=4, **options)


# ------------------------------------------------------------------ several processes
ROWS = 10
LOSSES = {
    "triplet hard": lambda: TripletLoss(margin=1.0),
    "triplet soft": lambda: TripletLoss(margin="soft", distance="euclidean", level=1),
    "triplet all": lambda: TripletLoss(margin=0.5, mining="all", level=2),
    "happier": lambda: HAPPIERLoss(num_classes=2, in_channels=4, lam=0.4, temperature=0.1, delta=0.5),
}


class Net(torch.nn.Module):
    """A layer and a loss with weights, both of which DistributedDataParallel sees."""

    def __init__(self, name):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.loss = torch.nn.Linear(6, 4), LOSSES[name]()
        self.double()

    def forward(self, inputs, labels, images):
        return self.loss(normalize(self.layer(inputs), dim=1), labels, images)


def rows():
    inputs = torch.randn(ROWS, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return inputs, random_labels(3, rows=ROWS), torch.arange(ROWS)


def value_and_grads(net, *own):
    loss = net(*own)
    loss.backward()
    return loss.detach(), {name.removeprefix("module."): p.grad for name, p in net.named_parameters()}


def one_process_has_an_unknown_class(rank, world_size):
    inputs, labels, images = rows()
    labels[0] = torch.tensor([0, 0, 2 + 3 * rank])
    loss = HAPPIERLoss(num_classes=3, in_channels=6)
    with pytest.raises(ValueError, match="HAPPIERLoss has 3 classes, but the batch has node 5 of level -1"):
        loss(normalize(inputs, dim=1), labels, images)


@pytest.mark.ddp
def test_an_unknown_class_on_one_process_is_an_error_on_all_and_no_hang():
    distributed.run(one_process_has_an_unknown_class, 2)


def compare(rank, world_size, reference):
    cuts = [0, 7, ROWS]  # uneven parts
    for name, expected in reference.items():
        own = (tensor[cuts[rank] : cuts[rank + 1]] for tensor in rows())
        actual = value_and_grads(DistributedDataParallel(Net(name)), *own)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.ddp
def test_loss_and_gradient_are_those_of_one_process():
    distributed.run(compare, 2, {name: value_and_grads(Net(name), *rows()) for name in LOSSES})
