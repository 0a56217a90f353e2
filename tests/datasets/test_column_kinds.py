"""What the columns of lists seem to hold: one column of each kind, and those that are nearly another."""

import datetime
from decimal import Decimal

import pytest

from hierpretrain.datasets.column_kinds import column_kinds
from hierpretrain.datasets.tables import Table

IMAGES = [f"{i}.jpg" for i in range(12)]
TEXT = "a long sentence of many words about this very thing {}"


def kind_of(column, name="column", images=IMAGES):
    """Returns what one column beside the images seems to hold."""
    return column_kinds(Table("list.csv", {"image": images, name: column}, str))[1]


@pytest.mark.parametrize(
    ("column", "name", "kind"),
    [
        (["cat", "dog", "cat"] * 4, "animal", "names"),
        (["cat", "", "dog"] * 4, "animal", "names"),
        ([f"SKU-{i}" for i in range(12)], "sku", "key"),
        ([str(400123 + 17 * i * i) for i in range(12)], "ean", "key"),
        ([str(100 + i) for i in range(12)], "id", "key"),
        ([str(100 + i) for i in range(12)], "no.", "row number"),
        ([str(i) for i in range(12)], "Unnamed: 0", "row number"),
        (["3,50", "4", "1.200,00"] * 4, "price", "numbers"),
        (["€ 3.50", "€ 4.10", "€ 4.00"] * 4, "price", "numbers"),
        (["3", "4", "9"] * 4, "stock", "numbers"),
        (["3", "4", "9"] * 4, "class", "names"),
        (["2024-05-01", "2024-05-02 10:00", "2023-01-01"] * 4, "added", "dates"),
        (["1.5.2024", "31.12.2023", "1.1.2022"] * 4, "added", "dates"),
        (["1/5/2024 9:30:00 AM", "31.12.23, 09:30", "2024-05-01T10:00:00+02:00"] * 4, "added", "dates"),
        ([f"10-20-{3000 + i}-XL" for i in range(12)], "sku", "key"),
        (["10.12.2000er Serie", "10.12.2001er Serie", "11.12.2000er Serie"] * 4, "kind", "names"),
        (["2024-05-01 B", "2024-05-02 A", "2024-05-01 C"] * 4, "charge", "names"),
        (["https://shop.com/1.jpg", "https://shop.com/2.jpg"] * 6, "link", "addresses"),
        ([TEXT.format(i) for i in range(12)], "title", "text"),
        ([TEXT.format(i // 6) for i in range(12)], "title", "text"),
        (["old cat", "new cat", "red dog"] * 4, "what", "names"),
        ([f"name number {i}" for i in range(12)], "title", "text"),
        (["yes", "no"] * 6, "sale", "flags"),
        (["0", "1"] * 6, "sale", "numbers"),
        (["0", "1"] * 6, "label", "names"),
        (["x", ""] * 6, "sale", "constant"),
        (["cat"] * 12, "animal", "constant"),
        ([""] * 12, "note", "empty"),
        ([None] * 12, "note", "empty"),
        (["train", "train", "test"] * 4, "part", "split"),
        (["train", "Val", ""] * 4, "part", "split"),
        (["a", "b", "c"] * 4, "split", "split"),
        ([f"thumbs/{i}.png" for i in range(12)], "thumbnail", "images"),
        ([["cat", "pet"], ["cat"], ["dog"]] * 4, "animal", "names"),
        ([0.5, 1.25, 3.0] * 4, "price", "numbers"),
        ([Decimal(i) / 2 for i in range(12)], "price", "numbers"),
        ([Decimal(100 + 17 * i * i) for i in range(12)], "sku", "key"),
        ([datetime.timedelta(hours=i) for i in range(12)], "length", "dates"),
        ([True, None, False] * 4, "sale", "flags"),
        ([[True], [True, False], []] * 4, "sale", "text"),
        ([{"width": 1}, {"width": 2}, None] * 4, "size", "text"),
        ([{"width": i} for i in range(12)], "size", "text"),
        ([bytes([255, i]) for i in range(12)], "digest", "text"),
        ([b"cat", b"dog", b""] * 4, "animal", "names"),
    ],
)
def test_kinds(column, name, kind):
    assert kind_of(column, name).kind == kind


def test_counts_and_an_example():
    found = kind_of(["cat", "", "dog"] * 4)
    assert (found.num_values, found.num_empty, found.example) == (2, 4, "cat")


def test_a_key_of_images_in_several_rows():
    """An image that is in two rows has its key in both."""
    images = [f"{i // 2}.jpg" for i in range(12)]
    assert kind_of([f"SKU-{i // 2}" for i in range(12)], images=images).kind == "key"
    assert kind_of([f"SKU-{i // 2}" for i in range(12)]).kind == "names"  # of products with two images


@pytest.mark.parametrize(
    ("column", "separator"),
    [
        (["food > fruit", "food > bread", "tool > saw"] * 4, ">"),
        (["food/fruit", "food/bread", "tool"] * 4, "/"),
        (["Home & Garden > Kitchen & Dining > Plates", "Home & Garden > Lamps"] * 6, ">"),
        (["Home / TV/Audio", "Home / Garden", "Toys / Cars"] * 4, " / "),
        (["food::fruit", "food::bread"] * 6, "::"),
        (["cat/dog", "bird", "fish"] * 4, ""),
        (["cat", "dog"] * 6, ""),
    ],
)
def test_whole_paths(column, separator):
    assert kind_of(column).level_separator == separator


@pytest.mark.parametrize(
    ("column", "separator", "num_values"),
    [
        (["fruit|vegetable", "fruit", "vegetable"] * 4, "|", 2),
        (["fruit; vegetable", "fruit", "vegetable", "fruit"] * 3, ";", 2),
        (["Garden / TV/Audio", "TV/Audio", "Garden", "Toys"] * 3, " / ", 3),
        (["R&B & Soul", "R&B", "Soul"] * 4, " & ", 2),
        (["shirts, blouses", "shoes", "hats"] * 4, "", 3),
        (["shirts, shoes", "shoes", "hats", "shirts"] * 3, ",", 3),
    ],
)
def test_several_names_in_a_cell(column, separator, num_values):
    found = kind_of(column)
    assert (found.path_separator, found.num_values) == (separator, num_values)


def test_the_images_are_found_or_named():
    columns = {"picture": IMAGES, "file": [f"b/{i}.webp" for i in range(12)], "kind": ["a", "b"] * 6}
    assert [found.kind for found in column_kinds(Table("list.csv", columns, str))] == ["images", "images", "names"]
    columns = {"picture": [f"{i}.raw" for i in range(12)]}
    assert [found.kind for found in column_kinds(Table("list.csv", columns, str), "picture")] == ["images"]
