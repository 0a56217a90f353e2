"""A wheel, built and installed as pip does, and what it has to offer in an empty folder."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from hierpretrain.files import SHIPPED

ROOT = Path(__file__).parent.parent
SHOW = """
from mmengine.config import Config
import hierpretrain
print(hierpretrain.__file__)
print(Config.fromfile("mine.py").model.loss.type)
from hierpretrain.apis import load_config, register_zoo
from hierpretrain.datasets import Emoji64
print(load_config("himulcone_emoji").train_cfg.max_epochs)
register_zoo()
import mmpretrain
print(mmpretrain.list_models("hicone_e*"))
print(len(Emoji64(split="query")))
"""


def test_what_comes_along_is_linked_and_never_stale():
    for name in ("configs", "tools", "model-index.yml", "data/emoji64.zip", "data/openclipart96.zip"):
        assert (SHIPPED / name).is_symlink()
        assert (SHIPPED / name).resolve() == ROOT / name


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the working tree's files, without what git ignores."""
    if find_spec("setuptools") is None:
        pytest.skip("building needs setuptools: pip install -e '.[test]'")
    folder = tmp_path_factory.mktemp("install")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("building from a clone needs git")
    source = folder / "source"
    for name in {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name, follow_symlinks=False)
    return source


def build_wheel(source, folder):
    """Builds a wheel of a source tree, and returns it."""
    build = ["-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", folder]
    subprocess.run([sys.executable, *build], cwd=source, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(source):
    return build_wheel(source, source.parent)


@pytest.mark.slow
def test_a_source_archive_has_what_the_wheel_is_built_from_and_no_more(source, wheel, tmp_path):
    code = f"from setuptools.build_meta import build_sdist; build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        assert not [member.name for member in file if member.issym() or "tests" in member.name.split("/")]
        file.extractall(tmp_path, filter="data")
    with zipfile.ZipFile(build_wheel(tmp_path / archive.name.removesuffix(".tar.gz"), tmp_path)) as file:
        built = set(file.namelist())
    with zipfile.ZipFile(wheel) as file:
        assert built == set(file.namelist())


def test_links_that_came_as_text_files_are_an_error(tmp_path):
    for name in ("setup.py", "README.md", "hierpretrain/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    links = tmp_path / "hierpretrain/.mim/configs"
    links.parent.mkdir()
    links.write_text("../../configs")  # what git writes where there are no links
    done = subprocess.run([sys.executable, "setup.py", "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("the links in hierpretrain/.mim are missing or came as text files")
    assert "git clone -c core.symlinks=true" in done.stderr


@pytest.mark.slow
def test_the_wheel_has_copies_of_all_that_comes_along(source, wheel):
    with zipfile.ZipFile(wheel) as file:
        found = {name for name in file.namelist() if ".mim/" in name}
        links = [info.filename for info in file.infolist() if (info.external_attr >> 16) & 0o170000 == 0o120000]
    assert links == []
    others = {"model-index.yml", "data/emoji64.zip", "data/openclipart96.zip"}
    configs = {str(path.relative_to(source)) for path in (source / "configs").rglob("*.*")}
    tools = {str(path.relative_to(source)) for path in (source / "tools").glob("*.*")}
    assert {"configs/himulcone_emoji.py", "configs/use_all_the_labels.yml"} <= configs
    assert {"tools/train.py", "tools/dist_train.sh"} <= tools
    assert found == {f"hierpretrain/.mim/{name}" for name in configs | tools | others}


@pytest.mark.slow
def test_a_pip_install_works_in_an_empty_folder(wheel, tmp_path):
    """Beside the packages of this environment, so that nothing has to be fetched."""
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    install = ["-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", site, wheel]
    subprocess.run([sys.executable, *install], check=True)
    (empty / "mine.py").write_text("_base_ = 'hierpretrain::hicone_emoji.py'\n")
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}

    def run(*words):
        return subprocess.run(words, cwd=empty, env=environment, capture_output=True, text=True)

    shown = run(sys.executable, "-c", SHOW)
    assert shown.stdout.splitlines() == [
        str(site / "hierpretrain/__init__.py"),
        "HiConELoss",
        "5",
        "['hicone_emoji', 'hicone_emoji_seen']",
        "586",
    ], shown.stderr
    assert (empty / "data/emoji64/meta").is_dir()
    (script,) = (site / "bin").glob("hierpretrain*")
    assert "\n  make-split  Makes a split file" in run(sys.executable, script).stdout
    counts = run(
        *(sys.executable, script, "make-split", "himulcone_emoji"),
        *("--level", "subcategory", "--unseen-share", "0.2", "--out", "split.json"),
    )
    assert "unseen_train" in counts.stdout, counts.stderr
    assert (empty / "split.json").read_bytes() == (ROOT / "configs/_base_/splits/emoji64_seen_unseen.json").read_bytes()
    missing = run(sys.executable, script, "train", "himulcone_emojy")
    assert missing.returncode == 2
    assert missing.stderr.splitlines()[-1].endswith("did you mean 'himulcone_emoji'?")
