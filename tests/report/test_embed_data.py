import base64
import json

import numpy as np
import pytest

from hierpretrain.report.embed_data import as_json, packed, sheet_elements, short_paths

HOSTILE = "</script><script>alert(1)</script><!-- & \u2028 \u2029 'x' \"y\" \\ é"


def test_json_has_no_character_of_markup_and_reads_as_it_was():
    text = as_json({"names": [HOSTILE]})
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == {"names": [HOSTILE]}


def test_json_has_no_number_that_a_browser_cannot_read():
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json([float("nan")])


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint16, np.uint8])
def test_packed_numbers_are_little_endian(dtype):
    numbers = np.arange(6, dtype=dtype).reshape(2, 3)
    for array in (numbers, numbers.astype(np.dtype(dtype).newbyteorder(">")), np.asfortranarray(numbers)):
        found = packed(array)
        assert found["type"] == np.dtype(dtype).name
        back = np.frombuffer(base64.b64decode(found["data"]), np.dtype(dtype).newbyteorder("<"))
        assert back.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/home/me/set/cat/1.png", "/home/me/set/dog/2.png"], ["cat/1.png", "dog/2.png"]),
        (["/home/me/1.png", "/home/me/1.png/2.png"], ["1.png", "1.png/2.png"]),
        (["data/1.png"], ["1.png"]),
        (["1.png", "2.png"], ["1.png", "2.png"]),
        (["/a/1.png", "b/2.png"], ["/a/1.png", "b/2.png"]),
        (["b.png", "sub/b.png"], ["b.png", "sub/b.png"]),
        (["b.png", "/a/b.png", "<image 0>"], ["b.png", "/a/b.png", "<image 0>"]),
        (["<image 0>"], ["<image 0>"]),
        (["<image 0>", "/a/b/1.png"], ["<image 0>", "1.png"]),
        (["/1.png", "/a/2.png"], ["1.png", "a/2.png"]),
    ],
)
def test_paths_lose_what_they_share(paths, expected):
    assert short_paths(paths) == expected


def test_sheets_are_numbered():
    assert sheet_elements("large", [b"a", b"b"]).count("<script") == 2
    assert '<script type="text/plain" id="large-1">Yg==</script>' in sheet_elements("large", [b"a", b"b"])
