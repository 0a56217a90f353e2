import itertools

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation, Text
from PIL import Image, ImageColor

from hierpretrain.taxonomy import PAD
from hierpretrain.visualization.retrieval_sheet import (
    RIGHT,
    WRONG,
    SheetRow,
    _sheet_figure,
    choose_rows,
    plot_retrieval_sheet,
)


def names(prefix, number):
    return {
        f"{prefix}_paths": [f"{prefix}{i}.png" for i in range(number)],
        f"{prefix}_captions": [f"{prefix} caption {i}" for i in range(number)],
    }


def problem(num_queries=37, num_gallery=53, seed=0):
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(num_queries, 7, generator=generator)
    gallery = torch.randn(num_gallery, 7, generator=generator)
    query_labels = torch.randint(-1, 9, (num_queries,), generator=generator)
    gallery_labels = torch.randint(-1, 6, (num_gallery,), generator=generator)
    return query, query_labels, gallery, gallery_labels


# ---------------------------------------------------------------- choosing
@pytest.mark.parametrize("same_set", [False, True])
def test_rows_against_brute_force(same_set):
    query, query_labels, gallery, gallery_labels = problem()
    if same_set:
        gallery, gallery_labels = query, query_labels
    expected = []
    for i in range(len(query)):
        others = [j for j in range(len(gallery)) if not (same_set and i == j)]
        right = [query_labels[i] == gallery_labels[j] and query_labels[i] != PAD for j in others]
        if not any(right):
            continue
        cosine = [float(torch.cosine_similarity(query[i], gallery[j], dim=0)) for j in others]
        best = sorted(range(len(others)), key=lambda n: -cosine[n])[:5]
        neighbours = [(f"gallery{others[n]}.png", f"gallery caption {others[n]}", bool(right[n])) for n in best]
        expected.append(SheetRow(f"query{i}.png", f"query caption {i}", neighbours))
    assert 3 < len(expected) < len(query)  # some queries have nothing relevant
    options = {
        "num_neighbours": 5,
        "same_set": same_set,
        **names("query", len(query)),
        **names("gallery", len(gallery)),
    }
    assert choose_rows(query, query_labels, gallery, gallery_labels, num_queries=999, **options) == expected
    some = choose_rows(query, query_labels.numpy(), gallery, gallery_labels.numpy(), num_queries=3, **options)
    assert len(some) == 3
    assert [row for row in expected if row in some] == some


def test_sample_is_uniform_and_fixed_by_the_seed_alone():
    query, query_labels, gallery, gallery_labels = problem()
    options = {"num_queries": 4, "num_neighbours": 1, **names("query", 37), **names("gallery", 53)}

    def chosen(seed, embeddings=query):
        rows = choose_rows(embeddings, query_labels, gallery, gallery_labels, seed=seed, **options)
        return [int(row.query[5:-4]) for row in rows]

    assert chosen(5) == chosen(5) == chosen(5, query.flip(0))
    able = [i for i in range(37) if query_labels[i] != PAD and query_labels[i] in gallery_labels]
    counts = np.bincount([i for seed in range(300) for i in chosen(seed)], minlength=37)
    assert sorted(np.flatnonzero(counts)) == able
    mean = 1200 / len(able)
    assert abs(counts[able] - mean).max() < 4.5 * mean**0.5


def test_more_queries_than_a_block():
    labels = torch.full((300,), PAD)
    labels[[7, 290]] = 3
    points = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    all_names = {**names("query", 300), **names("gallery", 300)}
    rows = choose_rows(points, labels, points, labels, num_neighbours=299, same_set=True, **all_names)
    assert [row.query for row in rows] == ["query7.png", "query290.png"]
    for row, self_path, other in zip(
        rows, ("gallery7.png", "gallery290.png"), ("gallery290.png", "gallery7.png"), strict=True
    ):
        assert len(row.neighbours) == 299
        assert self_path not in [path for path, _, _ in row.neighbours]
        assert [path for path, _, is_right in row.neighbours if is_right] == [other]


@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_self_is_excluded_by_index_among_duplicates(k):
    points = torch.ones(6, 3)  # all equal: which neighbours come first is open, but never oneself
    points[5] = -1
    labels = torch.tensor([0, 0, 0, 1, 1, 0])
    all_names = {**names("query", 6), **names("gallery", 6)}
    for row in choose_rows(points, labels, points, labels, num_neighbours=k, same_set=True, **all_names):
        found = [int(path[7:-4]) for path, _, _ in row.neighbours]
        i = int(row.query[5:-4])
        assert i not in found
        assert len(set(found)) == len(found) == min(k, 5)
        assert [is_right for _, _, is_right in row.neighbours] == [bool(labels[i] == labels[j]) for j in found]
        assert i == 5 or 5 not in found[:4]  # the far one comes last


def test_duplicates_of_another_set_stay():
    points = torch.eye(2)
    labels = torch.tensor([0, 1])
    all_names = {**names("query", 2), **names("gallery", 2)}
    rows = choose_rows(points, labels, points, labels, num_neighbours=1, **all_names)
    assert [row.neighbours for row in rows] == [
        [("gallery0.png", "gallery caption 0", True)],
        [("gallery1.png", "gallery caption 1", True)],
    ]


def test_choose_errors():
    query, query_labels, gallery, gallery_labels = problem(4, 5)
    all_names = {**names("query", 4), **names("gallery", 5)}
    arrays = (query, query_labels, gallery, gallery_labels)
    with pytest.raises(ValueError, match="same_set needs query and gallery to be one set; they have 4 and 5 items"):
        choose_rows(*arrays, same_set=True, **all_names)
    for name, number in itertools.product(("num_queries", "num_neighbours"), (0, -3)):
        with pytest.raises(ValueError, match=f"{name} must be at least 1; it is {number}"):
            choose_rows(*arrays, **{name: number}, **all_names)
    for name, values in all_names.items():
        with pytest.raises(ValueError, match=rf"{name} must have shape \({len(values)},\).*is \({len(values) - 1},\)"):
            choose_rows(*arrays, **{**all_names, name: values[1:]})
    with pytest.raises(ValueError, match=r"query_paths must have shape \(4,\)"):
        choose_rows(*arrays, **{**all_names, "query_paths": "four"})
    with pytest.raises(
        ValueError, match=r"query_labels must have shape \(4,\), an entry per item of query; .*\(4, 1\)"
    ):
        choose_rows(query, query_labels[:, None], gallery, gallery_labels, **all_names)
    with pytest.raises(ValueError, match=r"gallery_labels must have shape \(5,\)"):
        choose_rows(query, query_labels, gallery, gallery_labels[1:], **all_names)
    with pytest.raises(ValueError, match="none of the 4 queries has a relevant item among the 5 of the gallery"):
        choose_rows(query, torch.full((4,), 9), gallery, gallery_labels, **all_names)
    with pytest.raises(ValueError, match="none of the 4 queries"):  # PAD equals nothing
        choose_rows(query, torch.full((4,), PAD), gallery, torch.full((5,), PAD), **all_names)


def test_one_of_several_labels_makes_a_neighbour_right():
    points = torch.eye(4)[[0, 0, 0, 1]]
    labels = torch.tensor([[5, 6], [6, PAD], [7, 5], [8, PAD]])[..., None]
    options = {**names("query", 4), **names("gallery", 4), "same_set": True}
    rows = choose_rows(points, labels, points, labels, num_neighbours=3, **options)
    assert {row.query: [path for path, _, right in row.neighbours if right] for row in rows} == {
        "query0.png": ["gallery1.png", "gallery2.png"],
        "query1.png": ["gallery0.png"],
        "query2.png": ["gallery0.png"],
    }
    with pytest.raises(
        ValueError, match=r"query_labels must have shape \(4,\), an entry per item of query; .*\(4, 2, 2\)"
    ):
        choose_rows(points, labels.repeat(1, 1, 2), points, labels, **options)


# ---------------------------------------------------------------- drawing
@pytest.fixture
def solid(tmp_path):
    """Returns a function that makes an image of one colour."""

    def make(colour, size=(64, 64)):
        path = tmp_path / f"{colour}{size[0]}x{size[1]}.png"
        Image.new("RGB", size, colour).save(path)
        return str(path)

    return make


def frames(figure):
    """Returns {kind: [(left, top, size)]} of the pictures, in pixels from the left and the top."""
    FigureCanvasAgg(figure).draw()
    found = {"query": [], "right": [], "wrong": [], "unknown": []}
    for axes in figure.axes:
        if axes.get_gid():
            box = axes.get_window_extent()
            assert abs(box.width - box.height) < 1
            found[axes.get_gid()].append((round(box.x0), round(figure.bbox.height - box.y1), round(box.width)))
    return found


def draw(rows, path, **options):
    """Returns the pixels of a sheet, and its frames."""
    plot_retrieval_sheet(rows, path, **options)
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return pixels, frames(_sheet_figure(rows, **{"title": "", **options}))


def test_pixels_of_frames_and_pictures(solid, tmp_path):
    rows = [
        SheetRow(solid("blue"), "q", [(solid("yellow"), "a", True), (solid("cyan"), "b", False)]),
        SheetRow(solid("black"), "r", [(solid("magenta"), "c", False)]),
    ]
    pixels, found = draw(rows, tmp_path / "sheet.png", title="title")
    assert [len(found[kind]) for kind in ("query", "right", "wrong")] == [2, 1, 2]

    def colour(name):
        return list(ImageColor.getrgb(name))

    pictures = {"query": ["blue", "black"], "right": ["yellow"], "wrong": ["cyan", "magenta"]}
    for kind, frame_colour in (("query", "#888888"), ("right", RIGHT), ("wrong", WRONG)):
        for (x, y, size), picture in zip(found[kind], pictures[kind], strict=True):
            assert (pixels[y + 30 : y + size - 4, x + 4 : x + size - 4] == colour(picture)).all()
            lines = pixels[y + size - 3 : y + size + 3, x + 9 : x + size - 9]  # a thin one is blended
            near = np.abs(lines - colour(frame_colour)).max(2) <= (60 if kind == "query" else 0)
            assert near.all(1).sum() >= (1 if kind == "query" else 3)
            assert (pixels[y + 9 : y + size, x - 5] == 255).all()
            corner = pixels[y + 2 : y + 24, x + size - 24 : x + size - 2].reshape(-1, 3)
            strokes = (corner > 240).all(1).sum()
            disc = (corner == colour(frame_colour)).all(1).sum()
            assert (strokes > 8 and disc > 100) == (kind != "query")


def test_marks_differ_in_shape(solid, tmp_path):
    shapes = []
    for is_right, kind in ((True, "right"), (False, "wrong")):
        rows = [SheetRow(solid("blue"), "q", [(solid("black"), "a", is_right)])]
        pixels, found = draw(rows, tmp_path / f"{kind}.png")
        x, y, size = found[kind][0]
        shapes.append(pixels.min(2)[y + 3 : y + 22, x + size - 21 : x + size - 2] > 200)
    assert (shapes[0] != shapes[1]).sum() > 10


@pytest.mark.parametrize("columns", [0, 1, 2, 8, 12, 30])
@pytest.mark.parametrize("title", ["", "a very long title " * 30])
def test_nothing_overlaps_or_leaves_the_sheet(solid, tmp_path, columns, title):
    caption = "heavy-heart-exclamation-mark-ornament · twemoji and more and more and more"
    neighbours = [(solid("red"), caption, i % 2 == 0) for i in range(columns)]
    rows = [SheetRow(solid("blue"), caption, neighbours[: columns - i]) for i in range(3)]
    figure = _sheet_figure(rows, title=title)
    found = frames(figure)
    width, height = int(figure.bbox.width), int(figure.bbox.height)
    if columns in (8, 12):
        assert 1480 <= width <= 1500
    boxes = [(x, height - y - size, x + size, height - y) for x, y, size in itertools.chain(*found.values())]
    for text in figure.findobj(Text):
        if text.get_text() and not isinstance(text, Annotation):  # marks lie in the pictures
            boxes.append(text.get_window_extent().extents)
    for x0, y0, x1, y1 in boxes:
        assert x0 >= 0
        assert y0 >= 0
        assert x1 <= width
        assert y1 <= height
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text)]


def test_words(solid):
    blue = solid("blue")
    rows = [SheetRow(blue, "_q $x", [(blue, "$a_1$", True), (blue, "Größe", False)]), SheetRow(blue, "alone")]
    figure = _sheet_figure(rows, title="$t$")
    found = texts(figure)
    for word in ("query", "1", "2", "_q $x", "$a_1$", "Größe", "alone", "$t$"):
        assert word in found
    assert "3" not in found
    assert "1 of 2 neighbours shown are right (50.0%)" in found
    assert not any(text.get_parse_math() for text in figure.texts)
    assert "no neighbours shown" in texts(_sheet_figure([SheetRow(blue, "alone")], title=""))


def test_a_neighbour_of_which_it_is_not_known_has_a_thin_frame_and_no_mark(solid, tmp_path):
    blue, black = solid("blue"), solid("black")
    rows = [SheetRow(blue, "q", [(black, "a", None), (black, "b", True)]), SheetRow(blue, "r", [(black, "c", None)])]
    pixels, found = draw(rows, tmp_path / "sheet.png")
    assert [len(found[kind]) for kind in ("query", "right", "wrong", "unknown")] == [2, 1, 0, 2]
    for x, y, size in found["unknown"]:
        assert (pixels[y + 2 : y + size - 2, x + 2 : x + size - 2] == 0).all()
        assert (pixels[y - 2 : y + size, x - 3] == 255).all()
    assert "1 of 1 neighbours shown are right (100.0%); of 2 it is not known" in texts(_sheet_figure(rows, title=""))
    assert "1 neighbours shown" in texts(_sheet_figure(rows[1:], title=""))


def test_unreadable_pictures_show_as_boxes(solid, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n no more")
    cut = tmp_path / "cut.png"
    Image.effect_noise((64, 64), 50).save(cut)
    cut.write_bytes(cut.read_bytes()[:700])
    paths = [str(broken), str(cut), str(tmp_path / "missing.png"), str(tmp_path)]
    rows = [SheetRow(solid("blue"), "q", [(path, "caption", True) for path in paths])]
    assert {"broken.png", "cut.png", "missing.png"} <= set(texts(_sheet_figure(rows, title="")))
    pixels, found = draw(rows, tmp_path / "sheet.png")
    for x, y, size in found["right"]:
        assert pixels[y + size - 20, x + 20].tolist() == [0xE4] * 3


def test_the_shape_of_a_picture_is_kept_and_pixel_art_is_sharp(solid, tmp_path):
    checks = (np.indices((16, 16)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(checks).save(tmp_path / "checks.png")
    wide = solid("red", size=(64, 32))
    pixels, found = draw([SheetRow(str(tmp_path / "checks.png"), "q", [(wide, "a", None)])], tmp_path / "sheet.png")
    x, y, size = found["query"][0]
    inner = pixels[y + 3 : y + size - 3, x + 3 : x + size - 3]
    assert np.isin(inner, (0, 255)).all()
    assert 0.45 < (inner == 0).mean() < 0.55
    x, y, size = found["unknown"][0]
    column = pixels[y + 3 : y + size - 3, x + size // 2]
    assert abs((column == (255, 0, 0)).all(1).sum() - size / 2) < 3
    assert (column[[2, -3]] == 255).all()


def test_no_row_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="needs one row at least; choose_rows makes them"):
        plot_retrieval_sheet([], tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())
