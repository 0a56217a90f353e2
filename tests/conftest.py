import gc
import os
import sys
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of every process: several of them run beside each other

import numpy as np
import pytest
import torch

from hierpretrain.taxonomy import PAD, Taxonomy


def pytest_configure():
    """Spares Python the search for garbage in all that is imported and collected, which stays."""
    gc.disable()


def pytest_collection_finish():
    """Has Python search for garbage again, among what the tests make."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items):
    """Puts the files of this folder, which train and start processes, before its subfolders': short ones come last."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


@pytest.fixture(scope="session", autouse=True)
def quick_trainings():
    """Spares trainings three waits.

    MMEngine pauses for 2 s behind every pass, and searches for the finest lines of a config. A data loader that is
    found as garbage, within its runner, waits for 5 s for each of its workers, whose queue was closed before it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
        if loops := sys.modules.get("mmengine.runner.loops"):
            patch.setattr(loops, "time", SimpleNamespace(sleep=lambda seconds: None))
        if config := sys.modules.get("mmengine.config.config"):
            patch.setattr(config, "FormatCode", lambda text, **options: (text, False))
        yield


@pytest.fixture
def tree():
    """The tree that is drawn at the head of hierpretrain/taxonomy.py."""
    paths = [
        ("animal", "cat", "tabby"),
        ("animal", "cat", "siamese"),
        ("animal", "dog"),
        ("food", "fruit", "apple"),
        ("food", "fruit", "cherry"),
        ("tool",),
    ]
    return Taxonomy(paths, ("kingdom", "kind", "breed"))


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """A browser."""
    pytest.importorskip("selenium")
    from tests.report.browser import open_browser

    driver = open_browser(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


def random_labels(seed, rows=12, levels=3, branching=2, ragged=True):
    """Random label rows of a tree: ids are unique within their parent only, and paths end anywhere."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, branching, (rows, levels))
    if ragged:
        depths = rng.integers(0, levels + 1, rows)
        labels[np.arange(levels)[None] >= depths[:, None]] = PAD
    return torch.from_numpy(labels)


def random_features(seed, rows=12, dim=4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, dim, generator=generator, dtype=dtype)
    return torch.nn.functional.normalize(features, dim=1).requires_grad_()
