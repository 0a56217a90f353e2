from importlib.metadata import metadata
from importlib.util import find_spec

import pytest

from hierpretrain._extras import EXTRAS, needed


@pytest.mark.parametrize("package", EXTRAS)
def test_an_extra_installs_what_is_needed(package):
    assert EXTRAS[package] in metadata("hierpretrain").get_all("Provides-Extra")
    assert find_spec(package)  # the tests' extra has the others


def test_the_message_ends_in_another_way_out():
    with pytest.raises(ImportError, match=r"^a list needs the package pyarrow \(.*\): .*\[tables\]'; or save as CSV$"):
        needed("pyarrow.no", "a list", "; or save as CSV")
