import itertools

import pytest
import torch
from torch.nn.functional import normalize

from hierpretrain.functional import hierarchical_contrastive_loss, level_losses, supcon_loss
from hierpretrain.functional.contrastive import LEVEL_WEIGHTS
from hierpretrain.functional.pairs import rows_at_a_time
from hierpretrain.taxonomy import PAD, append_instances
from tests.conftest import random_features, random_labels
from tests.memory import LargestTensor, LiveBytes
from tests.reference import contrastive as reference
from tests.reference.paths import other_order, random_paths

OPTIONS = [
    dict(positives=positives, constraint=constraint, constraint_grad=grad)
    for positives, constraint, grad in itertools.product(
        ["share", "diverge"], [None, "pair", "anchor", "level"], [False, True]
    )
    if constraint or not grad
]


def value_and_grad(function, features, *args, **kwargs):
    loss = function(features, *args, **kwargs)
    (grad,) = torch.autograd.grad(loss, features)
    return loss.detach(), grad


def assert_same(actual, expected, tolerance=1e-8):
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=tolerance)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
@pytest.mark.parametrize("chunk_size", [None, 1, 5])
@pytest.mark.parametrize("seed", range(4))
def test_value_and_gradient_are_those_of_the_loops(options, chunk_size, seed):
    labels = random_labels(seed, ragged=seed % 2 == 1, levels=2 + seed % 3)
    features = random_features(seed)
    weights = [*LEVEL_WEIGHTS, [0.5, 2.0, 0.0, 1.0][: labels.shape[1]]][seed]
    options = dict(options, level_weights=weights, temperature=[0.1, 0.5, 1.0, 0.07][seed])
    expected = value_and_grad(reference.hierarchical_contrastive_loss, features, labels, **options)
    actual = value_and_grad(hierarchical_contrastive_loss, features, labels, chunk_size=chunk_size, **options)
    assert_same(actual, expected)


@pytest.mark.parametrize("constraint", ["pair", "anchor"])
def test_bounds_are_carried_over_a_level_without_pairs(constraint):
    # 'diverge' leaves level 2 without a pair: rows share three levels or one
    labels = torch.tensor([[0, 0, 0], [0, 0, 0], [0, 1, 1], [0, 1, 1]])
    features = random_features(1, rows=4)
    options = dict(constraint=constraint, positives="diverge", temperature=0.5)
    assert_same(
        value_and_grad(hierarchical_contrastive_loss, features, labels, **options),
        value_and_grad(reference.hierarchical_contrastive_loss, features, labels, **options),
    )


def test_float32_is_near_float64_at_a_low_temperature():
    labels, features = random_labels(0, rows=200, branching=5), random_features(0, rows=200, dim=16)
    for constraint in (None, "pair"):
        exact = hierarchical_contrastive_loss(features, labels, temperature=0.05, constraint=constraint)
        rounded = hierarchical_contrastive_loss(features.float(), labels, temperature=0.05, constraint=constraint)
        assert rounded.item() == pytest.approx(exact.item(), rel=1e-5)


def test_half_precision_is_computed_in_float32_even_under_autocast():
    labels, features = random_labels(0), random_features(0).detach()
    expected = hierarchical_contrastive_loss(features.bfloat16().float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = hierarchical_contrastive_loss(features.bfloat16(), labels)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected)


# ------------------------------------------------------------------ identities of DESIGN section 4
def test_one_level_is_supcon():
    labels, features = random_labels(3, levels=1, branching=4), random_features(3)
    expected = value_and_grad(reference.supcon_loss, features, labels[:, 0])
    assert_same(value_and_grad(supcon_loss, features, labels[:, 0]), expected)
    for constraint in (None, "pair", "anchor", "level"):
        options = dict(level_weights="uniform", constraint=constraint)
        assert_same(value_and_grad(hierarchical_contrastive_loss, features, labels, **options), expected)


def test_instance_labels_alone_are_simclr():
    features = random_features(4)
    images = torch.arange(6).repeat(2)
    expected = value_and_grad(lambda f: reference.simclr_loss(f[:6], f[6:]), features)
    assert_same(value_and_grad(supcon_loss, features, images), expected)
    no_labels = torch.empty(12, 0, dtype=torch.int64)
    only_instances = append_instances(no_labels, images)
    loss = value_and_grad(hierarchical_contrastive_loss, features, only_instances, level_weights="uniform")
    assert_same(loss, expected)


def test_uniform_weights_without_clamp_are_the_mean_of_supcon_per_level():
    labels, features = random_labels(5, ragged=False), random_features(5)
    prefixes = [(labels[:, : level + 1] @ torch.tensor([4, 2, 1])[: level + 1]) for level in range(3)]
    expected = sum(reference.supcon_loss(features, prefix) for prefix in prefixes) / 3
    torch.testing.assert_close(hierarchical_contrastive_loss(features, labels, level_weights="uniform"), expected)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_order_of_rows_and_names_of_nodes_do_not_matter(options):
    labels, features = random_labels(6), random_features(6)
    loss, grad = value_and_grad(hierarchical_contrastive_loss, features, labels, **options)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    permuted = value_and_grad(
        hierarchical_contrastive_loss, features.detach()[order].requires_grad_(), labels[order], **options
    )
    assert_same(permuted, (loss, grad[order]), 1e-10)
    renamed = torch.where(labels == PAD, PAD, (2**40 + 17) * (1 + labels))
    assert_same(value_and_grad(hierarchical_contrastive_loss, features, renamed, **options), (loss, grad), 1e-10)


def test_large_ids_do_not_collide():
    features = random_features(7, rows=3)
    apart = hierarchical_contrastive_loss(features, torch.tensor([[2**24], [2**24 + 1], [2**24 + 1]]))
    same = hierarchical_contrastive_loss(features, torch.tensor([[0], [1], [1]]))
    torch.testing.assert_close(apart, same, rtol=0, atol=0)


def test_padding_columns_change_nothing_but_the_number_of_levels():
    labels, features = random_labels(8), random_features(8)
    padded = torch.cat([labels, torch.full((12, 2), PAD)], 1)
    weights = [0.3, 1.0, 2.0]
    for options in OPTIONS:
        loss = hierarchical_contrastive_loss(features, labels, level_weights=weights, **options)
        longer = hierarchical_contrastive_loss(features, padded, level_weights=[*weights, 5.0, 5.0], **options)
        torch.testing.assert_close(longer * 5, loss * 3)


def test_pad_is_never_a_positive():
    features = random_features(9, rows=4)
    unknown = torch.tensor([[0, 1], [0, 1], [PAD, PAD], [PAD, PAD]])
    distinct = torch.tensor([[0, 1], [0, 1], [1, 2], [2, 3]])
    for options in OPTIONS:
        assert_same(
            value_and_grad(hierarchical_contrastive_loss, features, unknown, **options),
            value_and_grad(hierarchical_contrastive_loss, features, distinct, **options),
            1e-12,
        )


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([[0, 0], [1, 1], [2, 2]]),
        torch.full((3, 2), PAD),
        torch.tensor([[0, 0]]),
        torch.empty(3, 0, dtype=torch.int64),
        torch.empty(0, 2, dtype=torch.int64),
    ],
    ids=["alone", "unknown", "one row", "no level", "no row"],
)
def test_without_positives_the_loss_is_zero_with_a_zero_gradient(options, labels):
    features = random_features(10, rows=len(labels))
    loss, grad = value_and_grad(hierarchical_contrastive_loss, features, labels, **options)
    assert loss == 0
    assert (grad == 0).all()


def test_equal_rows_have_the_closed_form_value():
    features = normalize(torch.ones(8, 3, dtype=torch.float64), dim=1)  # all similarities equal: -log(1 / (M - 1))
    labels = torch.tensor([[0, 0]] * 4 + [[0, 1]] * 4)
    loss = hierarchical_contrastive_loss(features, labels, level_weights="uniform", constraint="pair")
    assert loss.item() == pytest.approx(torch.tensor(7.0).log().item())


def test_hicone_bounds_every_coarser_pair_by_the_hardest_finer_one():
    # the finer pair is the hardest pair of all, so that every pair of the coarser level is lifted to it
    features = normalize(torch.tensor([[1.0, 0.0], [-1.0, 0.1], [1.0, 0.1]], dtype=torch.float64), dim=1)
    labels = torch.tensor([[0, 0], [0, 0], [0, 1]])
    s = features @ features.T
    lse = torch.stack([torch.logsumexp(s[i][torch.arange(3) != i], 0) for i in range(3)])
    hardest = max(lse[0] - s[0, 1], lse[1] - s[1, 0])
    finest = (lse[0] - s[0, 1] + lse[1] - s[1, 0]) / 2
    loss = hierarchical_contrastive_loss(features, labels, temperature=1.0, level_weights="uniform", constraint="pair")
    torch.testing.assert_close(loss, (finest + hardest) / 2)
    unbounded = hierarchical_contrastive_loss(features, labels, temperature=1.0, level_weights="uniform")
    assert unbounded < loss


def test_a_pair_at_its_bound_keeps_its_own_gradient():
    # one pair, at both levels: at level 1 it equals its bound, so the gradient is that of two SupCon terms
    features, labels = random_features(11, rows=4), torch.tensor([[0, 0], [0, 0], [1, 1], [2, 2]])
    _, expected = value_and_grad(hierarchical_contrastive_loss, features, labels, level_weights="uniform")
    _, grad = value_and_grad(
        hierarchical_contrastive_loss, features, labels, level_weights="uniform", constraint="anchor"
    )
    torch.testing.assert_close(grad, expected)


# ------------------------------------------------------------------ items with several paths
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
@pytest.mark.parametrize("chunk_size", [None, 1, 5])
@pytest.mark.parametrize("seed", range(3))
def test_several_paths_value_and_gradient_are_those_of_the_loops(options, chunk_size, seed):
    labels = random_paths(seed, ragged=seed != 1, levels=2 + seed % 2, branching=3)
    assert (labels[:, 1] != PAD).any()
    features = random_features(seed)
    options = dict(options, level_weights=["exp", "linear", "pow2"][seed], temperature=[0.1, 0.5, 1.0][seed])
    expected = value_and_grad(reference.hierarchical_contrastive_loss, features, labels, **options)
    actual = value_and_grad(hierarchical_contrastive_loss, features, labels, chunk_size=chunk_size, **options)
    assert_same(actual, expected)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
@pytest.mark.parametrize("chunk_size", [None, 5])
def test_one_path_given_as_several_is_that_path(options, chunk_size):
    labels, features = random_labels(2), random_features(2)
    expected = value_and_grad(hierarchical_contrastive_loss, features, labels, **options)
    options = dict(options, chunk_size=chunk_size)
    assert_same(value_and_grad(hierarchical_contrastive_loss, features, labels[:, None], **options), expected, 1e-10)
    twice = labels[:, None].repeat(1, 2, 1)  # by pairs, which share all their nodes twice
    assert_same(value_and_grad(hierarchical_contrastive_loss, features, twice, **options), expected, 1e-10)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_the_order_of_paths_and_absent_ones_do_not_matter(options):
    labels, features = random_paths(3, branching=3), random_features(3)
    expected = value_and_grad(hierarchical_contrastive_loss, features, labels, **options)
    for seed in range(3):
        changed = other_order(labels, seed)
        assert_same(value_and_grad(hierarchical_contrastive_loss, features, changed, **options), expected, 1e-12)


def nlls(features, temperature=0.1):
    s = features @ features.T / temperature
    rows = len(features)
    return torch.stack([torch.logsumexp(s[i][torch.arange(rows) != i], 0) for i in range(rows)])[:, None] - s


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_an_item_with_two_paths_is_a_positive_of_both_branches(chunk_size):
    # a tomato (fruit and vegetable), an apple and a cherry (fruit), a carrot (vegetable), a saw
    labels = torch.tensor([[[0], [1]], [[0], [PAD]], [[0], [PAD]], [[1], [PAD]], [[2], [PAD]]])
    features = random_features(12, rows=5)
    nll = nlls(features)
    of_each = [
        (nll[0, 1] + nll[0, 2] + nll[0, 3]) / 3,
        (nll[1, 0] + nll[1, 2]) / 2,
        (nll[2, 0] + nll[2, 1]) / 2,
        nll[3, 0],
    ]
    loss = hierarchical_contrastive_loss(features, labels, level_weights="uniform", chunk_size=chunk_size)
    torch.testing.assert_close(loss, sum(of_each) / 4)


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_a_positive_by_two_nodes_counts_once(chunk_size):
    labels = torch.tensor([[[0], [1]], [[0], [1]], [[0], [PAD]]])  # 0 and 1 share two nodes, 0 and 2 one
    features = random_features(13, rows=3)
    nll = nlls(features)
    of_each = [(nll[0, 1] + nll[0, 2]) / 2, (nll[1, 0] + nll[1, 2]) / 2, (nll[2, 0] + nll[2, 1]) / 2]
    loss = hierarchical_contrastive_loss(features, labels, level_weights="uniform", chunk_size=chunk_size)
    torch.testing.assert_close(loss, sum(of_each) / 3)


def test_diverge_takes_the_deepest_of_what_two_items_share():
    # 0 and 1 share level 1 by one path and level 2 by the other: they are no pair of level 1
    labels = torch.tensor([[[0, 0], [1, 1]], [[0, 0], [1, 2]], [[2, 3], [PAD, PAD]]])
    features = random_features(14, rows=3)
    nll = nlls(features)
    loss = hierarchical_contrastive_loss(features, labels, level_weights=[1.0, 1.0], positives="diverge")
    torch.testing.assert_close(loss, (nll[0, 1] + nll[1, 0]) / 2 / 2)


def test_in_chunks_several_paths_take_memory_of_a_chunk():
    labels = random_paths(4, rows=64, branching=3)
    features = random_features(4, rows=64)
    with LargestTensor() as largest:
        value_and_grad(hierarchical_contrastive_loss, features, labels, chunk_size=4)
    assert largest.numel <= 4 * 64 * 3  # a chunk's similarities or masks, and the features and labels themselves


def test_the_memory_of_several_paths_is_some_matrices_of_a_chunk():
    rows, chunk = 1024, 128
    labels = random_paths(5, rows=rows, branching=3)
    features = random_features(5, rows=rows, dtype=torch.float32)
    for constraint in (None, "pair", "anchor"):
        with LiveBytes() as live:
            value_and_grad(hierarchical_contrastive_loss, features, labels, constraint=constraint, chunk_size=chunk)
        assert live.peak <= 5.5 * chunk * rows * 4, constraint


# ------------------------------------------------------------------ scale
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
@pytest.mark.parametrize("ragged", [False, True])
def test_by_default_more_rows_than_one_block_give_what_all_at_once_give(options, ragged):
    rows = 400  # several blocks of sorted rows, within nodes and across them
    labels, features = (
        random_labels(20, rows=rows, levels=4, branching=3, ragged=ragged),
        random_features(20, rows=rows),
    )
    expected = value_and_grad(hierarchical_contrastive_loss, features, labels, chunk_size=rows, **options)
    assert_same(value_and_grad(hierarchical_contrastive_loss, features, labels, **options), expected, 1e-10)
    several = torch.stack([labels, labels], 1)  # by pairs, in no order of paths
    assert_same(value_and_grad(hierarchical_contrastive_loss, features, several, **options), expected, 1e-10)


def test_more_rows_than_one_chunk_give_the_loss_of_the_formula():
    rows = 1500  # by default, more than a chunk for one thread
    features, labels = random_features(21, rows=rows), random_labels(21, rows=rows, levels=1, branching=40)
    logits = (features @ features.T / 0.1).masked_fill(torch.eye(rows, dtype=torch.bool), -torch.inf)
    positive = (labels == labels.T) & (labels != PAD) & ~torch.eye(rows, dtype=torch.bool)
    means = (-logits.log_softmax(1)).masked_fill(~positive, 0.0).sum(1) / positive.sum(1).clamp(min=1)
    expected = means.sum() / positive.any(1).sum()
    (grad,) = torch.autograd.grad(expected, features)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert rows_at_a_time(rows, rows, features.device) < rows
        assert_same(value_and_grad(supcon_loss, features, labels[:, 0]), (expected.detach(), grad), 1e-10)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("options", "paths"),
    [*((options, 1) for options in OPTIONS), (OPTIONS[0], 2), (OPTIONS[-4], 2)],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else str(value),
)
def test_memory_is_that_of_a_chunk_at_any_number_of_levels(options, paths):
    rows, chunk, levels = 48, 8, 7
    labels = random_labels(22, rows=rows, levels=levels)[:, None].repeat(1, paths, 1).squeeze(1)
    features = random_features(22, rows=rows)
    with LargestTensor() as largest:
        value_and_grad(hierarchical_contrastive_loss, features, labels, chunk_size=chunk, **options)
    # a chunk's similarities or all rows' labels; by pairs, what shared_depth compares of a chunk's paths
    assert largest.numel <= max(chunk * rows, (rows + 1) * paths * levels)


def test_by_default_no_tensor_is_as_large_as_the_similarities():
    rows = 3000
    labels, features = random_labels(23, rows=rows, levels=3, branching=4), random_features(23, rows=rows)
    for constraint in (None, "pair"):
        with LargestTensor() as largest:
            value_and_grad(hierarchical_contrastive_loss, features, labels, constraint=constraint)
        assert largest.numel <= max(2**18 * torch.get_num_threads(), 128 * rows) < rows**2


def test_without_gradient_there_is_the_same_value():
    labels, features = random_labels(24), random_features(24)
    for options in OPTIONS:
        expected = hierarchical_contrastive_loss(features, labels, **options)
        with torch.no_grad():
            actual = hierarchical_contrastive_loss(features, labels, **options)
        assert not actual.requires_grad
        torch.testing.assert_close(actual, expected.detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_under_autocast_has_the_gradient_of_float32(dtype):
    labels, features = random_labels(0), random_features(0).detach().to(dtype)
    for constraint in (None, "pair", "anchor", "level"):
        full = features.float().requires_grad_()
        expected = value_and_grad(hierarchical_contrastive_loss, full, labels, constraint=constraint)
        half = features.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value, grad = value_and_grad(hierarchical_contrastive_loss, half, labels, constraint=constraint)
        assert value.dtype == torch.float32
        assert_same((value, grad), (expected[0], expected[1].to(dtype)), 0)


def test_the_gradient_is_scaled_by_what_comes_after():
    labels, features = random_labels(25), random_features(25)
    _, grad = value_and_grad(hierarchical_contrastive_loss, features, labels)
    (scaled,) = torch.autograd.grad(3 * hierarchical_contrastive_loss(features, labels) + features.sum(), features)
    torch.testing.assert_close(scaled, 3 * grad + 1)


def test_the_gradient_of_the_gradient_is_an_error():
    labels, features = random_labels(28), random_features(28)
    loss = hierarchical_contrastive_loss(features, labels)  # its own gradient is 1, which requires none
    with pytest.raises(RuntimeError, match="it cannot be differentiated again; leave create_graph=True out"):
        torch.autograd.grad(loss, features, create_graph=True)


@pytest.mark.slow
def test_compiled_it_has_the_same_value_and_gradient_for_every_batch():
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 4).double()

    def loss(features, labels):
        return hierarchical_contrastive_loss(normalize(net(features), dim=1), labels, constraint="pair")

    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="aot_eager")
    for seed, rows in ((26, 12), (27, 17)):
        labels, features = random_labels(seed, rows=rows), random_features(seed, rows=rows)
        assert_same(value_and_grad(compiled, features, labels), value_and_grad(loss, features, labels), 1e-12)


# ------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(features=torch.zeros(3)), r"features must be \(M, D\) floating point; they are \(3,\)"),
        (dict(features=torch.zeros(3, 2, dtype=torch.int64)), "of torch.int64"),
        (dict(features=torch.tensor([[1.0], [float("nan")], [1.0]])), "features must be finite; row 1 is not"),
        (dict(features=torch.ones(6, 2)), r"one row per row of features \(6\); they have 3. With several views"),
        (dict(labels=torch.tensor([[0, 0], [PAD, 1], [0, 0]])), r"only on the right; row 1 is \[-1, 1\]"),
        (dict(labels=torch.tensor([[0, 0], [0, -7], [0, 0]])), r"with ids from 0; row 1 is \[0, -7\]"),
        (dict(labels=torch.zeros(3, 2)), "labels must be integers, .* they are torch.float32"),
        (dict(labels=torch.zeros(3, dtype=torch.int64)), r"labels must be \(N, L\), .* their shape is \(3,\)"),
        (dict(labels=torch.zeros(3, 1, 1, 2, dtype=torch.int64)), r"their shape is \(3, 1, 1, 2\)"),
        (dict(labels=torch.tensor([[[0, 0], [PAD, 1]]] * 3)), r"\(N, P, L\) with PAD .* row 1 of item 0 is \[-1, 1\]"),
        (dict(temperature=0.0), "temperature must be above 0; it is 0.0"),
        (dict(temperature=float("nan")), "temperature must be above 0; it is nan"),
        (dict(temperature=torch.tensor(0.1, requires_grad=True)), "temperature must be a number: it gets no gradient"),
        (dict(temperature=1e-39), "1 / temperature finite in torch.float32; it is 1e-39"),
        (dict(temperature=1e-38), "the norm of the longest is 1, and the temperature 1e-38"),
        (dict(features=torch.eye(3) * 1e19), r"unit rows, .* overflow torch.float32; .* longest is 1e\+19, .* 0.1"),
        (dict(positives="all"), "positives must be 'share' or 'diverge'; it is 'all'"),
        (dict(constraint="max"), "constraint must be None, 'pair', 'anchor' or 'level'; it is 'max'"),
        (dict(level_weights="cube"), "level_weights must be one of 'exp', 'pow2', 'linear', 'uniform' or a list"),
        (dict(level_weights=[1.0]), r"one number for each of the 2 levels, coarsest first; they are \[1.0\]"),
        (dict(level_weights=[-1.0, 2.0]), r"level_weights must be finite and not below 0; they are \[-1.0, 2.0\]"),
        (dict(level_weights=[1.0, float("nan")]), "level_weights must be finite"),
        (dict(chunk_size=0), "chunk_size must be a whole number from 1, or None for a number that is fast; it is 0"),
        (dict(chunk_size=2.5), "chunk_size must be a whole number from 1, .*; it is 2.5"),
        (dict(temperature="0.1"), "temperature must be a number; it is '0.1'"),
    ],
)
def test_bad_input_names_the_rule(change, message):
    arguments = dict(features=torch.eye(3), labels=torch.zeros(3, 2, dtype=torch.int64)) | change
    with pytest.raises(ValueError, match=message):
        hierarchical_contrastive_loss(arguments.pop("features"), arguments.pop("labels"), **arguments)


def test_supcon_wants_one_label_per_row():
    with pytest.raises(ValueError, match=r"labels of supcon_loss must be \(M,\)"):
        supcon_loss(torch.eye(3), torch.zeros(3, 2, dtype=torch.int64))


# ------------------------------------------------------------------ the losses of the levels
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
@pytest.mark.parametrize("seed", range(4))
def test_the_losses_of_the_levels_and_their_gradients_are_those_of_the_loops(options, seed):
    several = seed == 3
    labels = random_paths(seed, rows=12) if several else random_labels(seed, ragged=seed % 2 == 1, levels=2 + seed % 3)
    features = random_features(seed, rows=len(labels))
    options = dict(options, temperature=[0.1, 0.5, 1.0, 0.07][seed])
    expected = reference.level_losses(features, labels, **options)
    found = level_losses(features, labels, chunk_size=5, **options)
    assert_same([found], [torch.stack(expected)])
    for level in range(len(found)):
        (gradient,) = torch.autograd.grad(found[level], features, retain_graph=True)
        of_loops = torch.zeros_like(features)
        if expected[level].requires_grad:  # on a constant bound, it has none
            (of_loops,) = torch.autograd.grad(expected[level], features, retain_graph=True)
        assert_same([gradient], [of_loops])


@pytest.mark.parametrize("constraint", [None, "pair", "anchor", "level"])
def test_the_loss_of_a_level_without_positives_is_0(constraint):
    labels = torch.tensor([[0, 0, 0], [0, 0, 0], [0, 1, 1], [0, 1, 1]])
    losses = level_losses(random_features(1, rows=4), labels, positives="diverge", constraint=constraint)
    assert losses[1] == 0
    assert (losses[[0, 2]] > 0).all()
    assert level_losses(random_features(1, rows=1), labels[:1], constraint=constraint).tolist() == [0, 0, 0]


def test_the_instances_are_the_last_level():
    labels, features = random_labels(2, rows=6, ragged=False).repeat(2, 1), random_features(2)
    images = torch.arange(6).repeat(2)
    losses = level_losses(features, labels, instances=images)
    assert_same([losses[-1]], [supcon_loss(features, images)])
    assert len(losses) == labels.shape[1] + 1


# ------------------------------------------------------------------ beside other losses
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("constraint", [None, "pair", "anchor", "level"])
def test_a_loss_leaves_its_inputs_alone(several, constraint):
    labels = random_paths(1, branching=3) if several else random_labels(1)
    features = random_features(1)
    other = (features @ features.T).square().mean()
    before, known, versions = features.detach().clone(), labels.clone(), (features._version, labels._version)
    (alone,) = torch.autograd.grad(hierarchical_contrastive_loss(features, labels, constraint=constraint), features)
    loss = hierarchical_contrastive_loss(features, labels, constraint=constraint)
    (together,) = torch.autograd.grad(other + loss, features)
    (expected,) = torch.autograd.grad((features @ features.T).square().mean(), features)
    assert_same([together], [alone + expected], 1e-12)
    assert (features._version, labels._version) == versions
    assert torch.equal(features, before)
    assert torch.equal(labels, known)


def test_several_paths_may_be_many_and_differ_in_number():
    labels = random_paths(6, rows=20, branching=3)
    more = torch.cat([labels, random_paths(7, rows=20, branching=3)], 1)
    more[::3, 2:] = PAD
    more[1::3, 1:] = PAD
    features = random_features(6, rows=20)
    for options in OPTIONS:
        assert_same(
            value_and_grad(hierarchical_contrastive_loss, features, more, chunk_size=7, **options),
            value_and_grad(reference.hierarchical_contrastive_loss, features, more, **options),
        )
