import glob
import os

import pytest

from hierpretrain.apis.images import gather_images
from hierpretrain.apis.patterns import find_files
from tests.datasets.trees import write_image


@pytest.fixture
def root(tmp_path):
    for name in ("a.png", "cat/b.png", "cat/tabby/c.png", "cat/tabby/d.jpg", "dog/e.png", "dog/f.txt"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_bytes(b"x")
    return tmp_path / "root"


PATTERNS = [
    "*",
    "*.png",
    "**",
    "**/*.png",
    "**/**/*.png",
    "*/*.png",
    "cat/**",
    "**/tabby/*",
    "**/tabby/**/*.jpg",
    "c*/?.png",
]
PATTERNS += ["[ac]*", "**/[b-d].*", "**.png", "no/*.png", "*/no.png", "*/e.png", "**/e.png", "./*.png", "cat//*.png"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_without_links_it_finds_what_glob_finds(pattern, root, monkeypatch):
    found = glob.glob(f"{root}/{pattern}", recursive=True)
    expected = sorted({os.path.normpath(path) for path in found if os.path.isfile(path)})
    assert find_files(f"{root}/{pattern}") == expected
    monkeypatch.chdir(root)
    assert find_files(pattern) == [os.path.relpath(path, root) for path in expected]


def test_hidden_files_must_be_named(root):
    for name in (".hidden.png", ".folder/x.png", "@eaDir/y.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    assert find_files(f"{root}/**/*.png") == [
        f"{root}/{name}" for name in ("a.png", "cat/b.png", "cat/tabby/c.png", "dog/e.png")
    ]
    assert find_files(f"{root}/.*.png") == [f"{root}/.hidden.png"]
    assert find_files(f"{root}/.folder/*.png") == [f"{root}/.folder/x.png"]
    assert find_files(f"{root}/*/.hidden.png") == []


@pytest.mark.parametrize("number", [1, 2, 3])
def test_links_upwards_are_passed_over(number, root):
    before = find_files(f"{root}/**/*.png")
    for i in range(number):
        (root / f"cat/up{i}").symlink_to("..")
    assert find_files(f"{root}/**/*.png") == before
    assert find_files(f"{root}/*/*/*.png") == [f"{root}/cat/tabby/c.png"]
    assert find_files(f"{root}/**") == [
        f"{root}/{name}"
        for name in ("a.png", "cat/b.png", "cat/tabby/c.png", "cat/tabby/d.jpg", "dog/e.png", "dog/f.txt")
    ]


@pytest.mark.parametrize("pattern", ["**/*.png", "**", "*/*.png", "link*", "*/x.png"])
@pytest.mark.parametrize("is_folder", [True, False])
def test_a_link_out_of_the_root_is_an_error(pattern, is_folder, root):
    (root.parent / "outside").mkdir()
    (root.parent / "outside/x.png").touch()
    (root / "link.png").symlink_to(root.parent / ("outside" if is_folder else "outside/x.png"))
    with pytest.raises(ValueError, match=r"link\.png is a link that leads out of the image folder"):
        find_files(f"{root}/{pattern}")


def test_the_root_may_be_a_link_and_links_to_files_inside_are_files(root):
    (root.parent / "linked").symlink_to(root)
    (root / "dog/again.png").symlink_to("e.png")
    (root / "dog/broken.png").symlink_to("nothing.png")
    linked = root.parent / "linked"
    assert find_files(f"{linked}/dog/*.png") == [f"{linked}/dog/again.png", f"{linked}/dog/e.png"]


def test_a_pattern_does_not_leave_its_root(root):
    for pattern in ("*/../../*", "**/..", "*/.."):
        with pytest.raises(ValueError, match=r"behind its first '\*', a pattern must not hold '\.\.'"):
            find_files(f"{root}/cat/{pattern}")
    assert find_files(f"{root}/cat/../*.png") == [f"{root}/cat/../a.png"]  # the root itself is the user's own word


def test_patterns_and_folders_find_the_same_images(root):
    for i, path in enumerate(sorted(root.rglob("*.png"))):
        write_image(path, (50 * i, 0, 0))
    (root / "cat/up").symlink_to("..")
    assert gather_images(f"{root}/**/*.png").paths == sorted(
        path for path in gather_images(str(root)).paths if path.endswith(".png")
    )
