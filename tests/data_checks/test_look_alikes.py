"""Near hashes against all pairs; look-alikes of real pictures, which survive another compression."""

import io

import numpy as np
import pytest
from PIL import Image

from hierpretrain.data_checks.look_alikes import THUMBNAIL, look_alikes, look_hashes, near_hashes, thumbnail
from tests.data_checks.plant import noise


@pytest.mark.parametrize("distance", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_near_hashes_against_all_pairs(seed, distance):
    generator = np.random.default_rng(seed)
    first = generator.integers(0, 1 << 63, 60, dtype=np.uint64)
    flipped = first.copy()  # each with 0 to 5 bits flipped
    for i in range(60):
        for bit in generator.choice(64, i % 6, replace=False):
            flipped[i] ^= np.uint64(1 << int(bit))
    hashes = generator.permutation(np.concatenate([first, flipped]))
    expected = [
        [a, b] for a in range(120) for b in range(a + 1, 120) if int(hashes[a] ^ hashes[b]).bit_count() <= distance
    ]
    assert near_hashes(hashes, distance).tolist() == expected
    assert len(expected) >= 10 * (distance + 1)


def test_no_hash_and_one_hash_have_no_pair():
    assert near_hashes(np.empty(0, np.uint64)).shape == (0, 2)
    assert near_hashes(np.ones(1, np.uint64)).shape == (0, 2)
    assert look_alikes(np.empty((0, *THUMBNAIL), np.uint8)).shape == (0, 2)


def test_very_many_of_one_hash_take_no_pair_each():
    pairs = near_hashes(np.zeros(5_000, np.uint64))
    assert len(pairs) <= 5_000 * 64
    assert len({*pairs.flatten().tolist()}) == 5_000  # and none is alone


def as_array(image):
    return np.frombuffer(thumbnail(image.convert("RGB")), np.uint8).reshape(THUMBNAIL)


def compressed(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def test_a_bit_is_a_rise_in_brightness():
    step = np.zeros((1, *THUMBNAIL), np.uint8)
    step[0, 3, 5:] = 3
    assert int(look_hashes(step)[0]) == 1 << (63 - (3 * 8 + 4))
    step[0, 3, 5:] = 2  # noise
    assert int(look_hashes(step)[0]) == 0


def test_look_alikes_are_the_same_picture_in_another_size_or_compression_alone():
    pictures = [noise(seed, (90, 80)) for seed in range(12)]
    changed = [
        compressed(pictures[0], 60),
        pictures[1].resize((45, 40), Image.Resampling.LANCZOS),
        pictures[2].point(lambda value: max(value - 3, 0)),
        pictures[3].transpose(Image.Transpose.FLIP_LEFT_RIGHT),  # another picture
        Image.merge("RGB", pictures[4].split()[::-1]),  # of other colours
    ]
    found = look_alikes(np.stack([as_array(image) for image in pictures + changed]))
    assert found.tolist() == [[0, 12], [1, 13], [2, 14]]


def test_pale_pictures_are_not_all_alike():
    pale = [noise(seed, (90, 80)).point(lambda value: 230 + value // 12) for seed in range(6)]
    alike = pale[0].resize((60, 54), Image.Resampling.LANCZOS)
    found = look_alikes(np.stack([as_array(image) for image in [*pale, alike]]))
    assert found.tolist() == [[0, 6]]
