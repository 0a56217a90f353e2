import os
import zipfile
from pathlib import Path

import pytest

from hierpretrain.datasets.archive import unpack_own


def write(path, names, text="x"):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, text)
    return path


def test_the_top_folder_becomes_the_root(tmp_path):
    write(tmp_path / "pets.zip", ["top/", "top/b/", "top/b/c.txt", "top/d.txt"])
    unpack_own(str(tmp_path / "pets"), "pets")
    assert (tmp_path / "pets/b/c.txt").read_text() == "x"
    assert sorted(os.listdir(tmp_path / "pets")) == ["b", "d.txt"]
    assert sorted(os.listdir(tmp_path)) == ["pets", "pets.zip"]


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "pets").mkdir()
    unpack_own(str(tmp_path / "pets"), "pets")
    assert os.listdir(tmp_path / "pets") == []


def test_the_root_is_a_file(tmp_path):
    (tmp_path / "pets").touch()
    write(tmp_path / "pets.zip", ["top/a"])
    with pytest.raises(ValueError, match=r"pets is a file, where a folder shall be written; move it away"):
        unpack_own(str(tmp_path / "pets"), "pets")


def test_nothing_is_written_outside_of_the_root(tmp_path):
    names = ["top/../../evil", "top/../../../evil", "top//evil", "top/./evil"]
    write(tmp_path / "deep.zip", names)
    with zipfile.ZipFile(tmp_path / "deep.zip", "a") as file:
        link = zipfile.ZipInfo("top/link")
        link.external_attr = 0o120777 << 16
        file.writestr(link, str(tmp_path))
        file.writestr("top/link/evil", "x")
    with pytest.raises(
        ValueError, match=r"deep\.zip cannot be unpacked: .*link|deep\.zip cannot be unpacked: Not a dir"
    ):  # a file, not a link, so that nothing can lie below it
        unpack_own(str(tmp_path / "deep"), "pets")
    assert os.listdir(tmp_path) == ["deep.zip"]
    write(tmp_path / "deep.zip", names)
    unpack_own(str(tmp_path / "deep"), "pets")
    assert sorted(os.listdir(tmp_path)) == ["deep", "deep.zip"]
    assert not Path(tmp_path.parent, "evil").exists()
    assert not Path("/evil").exists()


@pytest.mark.parametrize(
    "names",
    [
        ["list.csv", "images/a.png"],  # the list would be left out
        ["list.csv", "top/a.png"],
        ["one/a.png", "two/a.png"],  # one would take the place of the other
        ["top/a.png", "../evil"],
        ["/evil", "top/a.png"],
        ["C:/evil", "top/a.png"],
        [],
    ],
)
def test_what_does_not_lie_in_one_top_folder_is_an_error(tmp_path, names):
    write(tmp_path / "pets.zip", names)
    with pytest.raises(
        ValueError, match=r"the archive .*pets\.zip cannot be unpacked: it must hold one top folder and"
    ):
        unpack_own(str(tmp_path / "pets"), "pets")
    assert os.listdir(tmp_path) == ["pets.zip"]


def test_damaged(tmp_path):
    path = write(tmp_path / "a.zip", ["top/a", "top/b"], text="meow" * 100)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"meow", b"woof", 1))
    with pytest.raises(ValueError, match=r"the archive .*a\.zip cannot be unpacked: Bad CRC.*get it anew"):
        unpack_own(str(tmp_path / "a"), "a")
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="cannot be unpacked: File is not a zip file"):
        unpack_own(str(tmp_path / "a"), "a")
    place = data.index(b"PK\1\2") + 10  # the way of compression in the list of members: one that there is none of
    path.write_bytes(data[:place] + b"\x63" + data[place + 1 :])
    with pytest.raises(ValueError, match="cannot be unpacked: That compression method is not supported"):
        unpack_own(str(tmp_path / "a"), "a")
    write(path, ["top/é"])
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
    with pytest.raises(ValueError, match=r"the archive .*a\.zip cannot be unpacked: 'utf-8' codec can't decode"):
        unpack_own(str(tmp_path / "a"), "a")
    assert os.listdir(tmp_path) == ["a.zip"]
