import random

import numpy as np
import pytest
import torch

from hierpretrain.datasets.rng import seeded


def draw():
    return (
        random.random(),
        random.gauss(0, 1),
        np.random.rand(),  # noqa: NPY002
        np.random.normal(),  # noqa: NPY002
        torch.rand(()).item(),
        torch.randn(()).item(),
    )


def states():
    kind, key, *rest = np.random.get_state()  # noqa: NPY002
    return random.getstate(), (kind, key.tolist(), *rest), torch.get_rng_state().tolist()


def drawn(*key):
    with seeded(*key):
        return draw()


def test_draws_depend_on_the_key_alone():
    first = drawn(0, 1, 2)
    draw()
    assert drawn(0, 1, 2) == first
    others = [drawn(*key) for key in ((1, 1, 2), (0, 2, 2), (0, 1, 3), (2, 1, 0), (0, 1))]
    for other in others:
        assert all(a != b for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("held_back", [False, True])
def test_global_states_go_on_where_they_were(held_back):
    np.random.seed(3)  # noqa: NPY002
    if held_back:  # numpy draws Gaussians in pairs and keeps the second
        np.random.normal()  # noqa: NPY002
    before = states()
    drawn(0, 1, 2)
    assert states() == before


def test_states_come_back_after_an_error():
    before = states()
    with pytest.raises(ZeroDivisionError), seeded(1):
        random.random() / 0
    assert states() == before


def test_contexts_nest():
    with seeded(0):
        first = draw()
        with seeded(1):
            inner = draw()
        second = draw()
    with seeded(0):
        assert (draw(), draw()) == (first, second)
    assert drawn(1) == inner


@pytest.mark.parametrize("key", [(), (-1,), (0, -3)])
def test_key_is_checked(key):
    with pytest.raises(ValueError, match="one or more integers from 0"), seeded(*key):
        pass
