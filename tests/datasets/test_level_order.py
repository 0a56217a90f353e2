"""The order of a list's columns of names, against a double loop over rows and trees whose order is known."""

import itertools

import numpy as np
import pytest

from hierpretrain.datasets.level_order import agreement, level_chains


def slow_agreement(above, below):
    """The definition, pair of rows by pair of rows."""
    rows = [(a, b) for a, b in zip(above, below, strict=True) if a and b]
    rows = [(a, b) for a, b in rows if sum(b == other for _, other in rows) > 1]
    told = []
    for i, (a, b) in enumerate(rows):
        others = [other for j, (other, same) in enumerate(rows) if j != i and same == b]
        told.append(np.mean([other == a for other in others]))
    chance = np.mean([one == other for one, other in itertools.permutations(filter(None, above), 2)])
    return (np.mean(told) - chance) / (1 - chance)


@pytest.mark.parametrize("seed", range(5))
def test_agreement_is_its_definition(seed):
    draw = np.random.default_rng(seed)
    above = [("", "x", "y", "z")[i] for i in draw.integers(0, 4, 40)]
    below = [("", "a", "b", "c", "d", "e")[i] for i in draw.integers(0, 6, 40)]
    assert agreement(above, below) == pytest.approx(slow_agreement(above, below), abs=1e-12)
    below = [a + b for a, b in zip(above, below, strict=True)]
    assert agreement(above, [b if len(b) > 1 else "" for b in below]) == 1


def test_agreement_of_nothing():
    assert agreement([], []) == agreement(["x", "y"], ["a", "b"]) == agreement(["x", "x"], ["a", "a"]) == 0


def test_chance_is_no_agreement():
    """Values of few rows are not taken for sure, and neither is a column of nearly one value."""
    draw = np.random.default_rng(0)
    colours = [str(colour) for colour in draw.integers(0, 400, 1000)]
    rare = ["yes" if value < 0.05 else "no" for value in draw.random(1000)]
    assert abs(agreement(rare, colours)) < 0.1
    assert abs(agreement(colours, rare)) < 0.1


def tree_columns(num_rows=300, seed=0):
    draw = np.random.default_rng(seed)
    kind, breed, product = draw.integers(0, 3, num_rows), draw.integers(0, 4, num_rows), draw.integers(0, 5, num_rows)
    columns = {
        "colour": [f"c{i}" for i in draw.integers(0, 30, num_rows)],
        "product": [f"{k}{b}{p}" for k, b, p in zip(kind, breed, product, strict=True)],
        "kind": [f"k{k}" for k in kind],
        "breed": [f"k{k}b{b}" for k, b in zip(kind, breed, strict=True)],
        "maker": [f"m{i}" for i in draw.integers(0, 5, num_rows)],
    }
    return columns


def test_the_longest_chain_whatever_the_order_of_the_columns():
    columns = tree_columns()
    for names in itertools.permutations(columns):
        assert level_chains({name: columns[name] for name in names}) == [("kind", "breed", "product")]


def test_a_few_wrong_cells_and_empty_ones_change_nothing():
    columns = tree_columns()
    draw = np.random.default_rng(1)
    for name, row in [(name, int(i)) for name in columns for i in draw.integers(0, 300, 10)]:
        columns[name][row] = draw.choice(["", columns[name][0]])
    assert level_chains(columns) == [("kind", "breed", "product")]


def test_fewer_values_below_than_above():
    """In a ragged tree, one category alone may have types."""
    category = ["a"] * 4 + ["b"] * 4 + ["c"] * 4 + ["d"] * 4
    kinds = ["x", "x", "y", "y"] + [""] * 12
    assert level_chains({"type": kinds, "category": category}) == [("category", "type")]


def test_names_tell_where_values_do_not():
    both = ["shoes", "shirts"] * 6  # under every department
    assert level_chains({"level2": both, "level1": ["men"] * 6 + ["women"] * 6}) == [("level1", "level2")]
    assert level_chains({"Sub-category": both, "Category": ["men"] * 6 + ["women"] * 6}) == [
        ("Category", "Sub-category")
    ]
    assert level_chains({"species": ["a", "b"], "genus": ["x", "y"], "family": ["f", "f"]}) == [
        ("family", "genus", "species")
    ]


def test_equally_long_chains_come_in_the_order_of_the_columns():
    assert level_chains({"maker": list("abab"), "colour": list("xxyy")}) == [("maker",), ("colour",)]
    assert level_chains({}) == []


def test_of_two_columns_that_say_the_same_the_first_counts():
    kinds = ["cat", "cat", "dog", "dog"] * 3
    assert level_chains({"kind": kinds, "code": [kind[0] for kind in kinds]}) == [("kind",)]
