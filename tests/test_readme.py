"""The README's code runs; its paths, links and commands are looked at with those of the other pages, in test_docs."""

from tests.test_docs import README, blocks


def test_the_example_on_plain_tensors_runs():
    (code,) = blocks(README, "python")
    exec(code, {})
