import runpy
from pathlib import Path

from hierpretrain.apis import Classification

TOOL = Path(__file__).parents[2] / "tools/benchmarks/classify.py"


def test_names_are_counted_by_hand():
    found = [
        Classification("a", ("animal", "cat"), (0.9, 0.8)),
        Classification("b", ("animal", "dog"), (0.9, 0.8)),
        Classification("c", ("tool",), (0.7,)),
        Classification("d", (), ()),
        Classification("e", ("toy",), (0.6,)),
    ]
    truth = [[("animal", "cat")], [("animal", "cat", "tabby")], [("tool",)], [("tool",)], [("tool",), ("toy", "cat")]]
    count_names = runpy.run_path(str(TOOL))["count_names"]
    assert count_names(found, truth, 1) == (4, 4)
    assert count_names(found, truth, 2) == (2, 1)
    assert count_names(found, truth, 3) == (0, 0)
