import os

import pytest

from hierpretrain.files import check_place, write_whole


def test_a_file_is_replaced_whole(tmp_path):
    write_whole(tmp_path / "a.txt", b"old")
    write_whole(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_or_not_at_all(tmp_path, monkeypatch, call):
    write_whole(tmp_path / "a.txt", b"old")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_place_is_checked_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for place in ("new", "new/deep/er", "file"):
        check_place(tmp_path / place)
    for place in ("file/x", "file/x/y"):
        with pytest.raises(ValueError, match=f"{place} cannot be written: .*/file is a file; give another place"):
            check_place(tmp_path / place, folder=True)
    check_place(tmp_path, folder=True)
    with pytest.raises(ValueError, match="cannot be written: it is a folder; give the name of a file"):
        check_place(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match=f"cannot be written: {tmp_path} is not yours to write to"):
        check_place(tmp_path / "a/b/c")
