"""Python's search for garbage: off while a function runs, and as it was afterwards."""

import gc

import pytest

from hierpretrain._collection import without_collection
from hierpretrain.taxonomy import Taxonomy


@without_collection
def outer(fail=False):
    inside = gc.isenabled(), without_collection(gc.isenabled)(), gc.isenabled()
    if fail:
        raise KeyError(inside)
    return inside


@pytest.fixture(params=[True, False], ids=["enabled", "disabled"])
def enabled(request):
    before = gc.isenabled()
    gc.enable() if request.param else gc.disable()
    yield request.param
    gc.enable() if before else gc.disable()


def test_is_as_it_was_before_the_outermost_function(enabled):
    assert outer() == (False, False, False)
    assert gc.isenabled() is enabled
    with pytest.raises(KeyError):
        outer(fail=True)
    assert gc.isenabled() is enabled


def test_a_tree_is_built_without_it():
    seen = []

    def paths():
        seen.append(gc.isenabled())
        yield ("animal", "cat")

    Taxonomy(paths(), ("kind", "species"))
    assert seen == [False]
