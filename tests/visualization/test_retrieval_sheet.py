import itertools

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation, Text
from PIL import Image, ImageColor

from hierpretrain.taxonomy import PAD
from hierpretrain.visualization.grades import grade_colours
from hierpretrain.visualization.retrieval_sheet import (
    SheetNeighbour,
    SheetRow,
    _sheet_figure,
    choose_rows,
    plot_retrieval_sheet,
)


def names(prefix, number):
    return {
        f"{prefix}_paths": [f"{prefix}{i}.png" for i in range(number)],
        f"{prefix}_captions": [(f"{prefix} caption {i}",) for i in range(number)],
    }


def problem(num_queries=37, num_gallery=53, seed=0):
    """Embeddings and labels of three levels, some of which end early, and some of nothing."""
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(num_queries, 7, generator=generator)
    gallery = torch.randn(num_gallery, 7, generator=generator)

    def labels(number, top):
        coarse = torch.randint(-1, top, (number,), generator=generator)
        middle = torch.where(coarse >= 0, 2 * coarse + torch.randint(0, 2, (number,), generator=generator), PAD)
        middle = torch.where(torch.rand(number, generator=generator) < 0.3, PAD, middle)
        return torch.stack([coarse, middle], 1)

    return query, labels(num_queries, 9), gallery, labels(num_gallery, 6)


# ---------------------------------------------------------------- choosing
@pytest.mark.parametrize("same_set", [False, True])
def test_rows_against_brute_force(same_set):
    query, query_labels, gallery, gallery_labels = problem()
    if same_set:
        gallery, gallery_labels = query, query_labels

    def common(a, b):
        number = 0
        while number < 2 and a[number] == b[number] != PAD:
            number += 1
        return number

    expected = []
    for i in range(len(query)):
        others = [j for j in range(len(gallery)) if not (same_set and i == j)]
        mine = query_labels[i].tolist()
        shared = {j: common(mine, gallery_labels[j].tolist()) for j in others}
        if not any(shared.values()):
            continue
        depth = sum(node != PAD for node in mine)
        cosine = {j: float(torch.cosine_similarity(query[i], gallery[j], dim=0)) for j in others}
        best = sorted(others, key=lambda j: -cosine[j])[:5]
        neighbours = [
            SheetNeighbour(f"gallery{j}.png", (f"gallery caption {j}",), shared[j], shared[j] == depth) for j in best
        ]
        expected.append(SheetRow(f"query{i}.png", (f"query caption {i}",), neighbours))
    assert 3 < len(expected) < len(query)  # some queries have nothing in common with the gallery
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


def test_the_sample_goes_round_the_branches_and_is_fixed_by_the_seed_alone():
    query, query_labels, gallery, gallery_labels = problem()
    options = {"num_neighbours": 1, **names("query", 37), **names("gallery", 53)}

    def chosen(seed, embeddings=query, number=4):
        rows = choose_rows(embeddings, query_labels, gallery, gallery_labels, seed=seed, num_queries=number, **options)
        return [int(row.query[5:-4]) for row in rows]

    assert chosen(5) == chosen(5) == chosen(5, query.flip(0))
    tops = set(gallery_labels[:, 0].tolist()) & set(query_labels[:, 0].tolist()) - {PAD}
    for seed in range(5):  # as many different branches as there can be
        assert len({int(query_labels[i, 0]) for i in chosen(seed)}) == min(4, len(tops))
    able = [i for i in range(37) if int(query_labels[i, 0]) in tops]
    assert sorted({i for seed in range(300) for i in chosen(seed)}) == able


@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_self_is_excluded_by_index_among_equal_embeddings(k):
    points = torch.ones(6, 3)  # all equal: which neighbours come first is open, but never oneself
    points[5] = -1
    labels = torch.tensor([0, 0, 0, 1, 1, 0])
    all_names = {**names("query", 6), **names("gallery", 6)}
    for row in choose_rows(points, labels, points, labels, num_neighbours=k, same_set=True, **all_names):
        found = [int(neighbour.path[7:-4]) for neighbour in row.neighbours]
        i = int(row.query[5:-4])
        assert i not in found
        assert len(set(found)) == len(found) == min(k, 5)
        assert [bool(neighbour.shared) for neighbour in row.neighbours] == [bool(labels[i] == labels[j]) for j in found]
        assert i == 5 or 5 not in found[:4]  # the far one comes last


def test_equal_embeddings_of_another_set_stay():
    points = torch.eye(2)
    labels = torch.tensor([0, 1])
    all_names = {**names("query", 2), **names("gallery", 2)}
    rows = choose_rows(points, labels, points, labels, num_neighbours=1, **all_names)
    assert [row.neighbours for row in rows] == [
        [SheetNeighbour("gallery0.png", ("gallery caption 0",), 1, True)],
        [SheetNeighbour("gallery1.png", ("gallery caption 1",), 1, True)],
    ]


def test_copies_of_a_file_are_one_query_and_one_neighbour(tmp_path):
    files = [str(tmp_path / f"{i}.png") for i in range(6)]
    for file, colour in zip(files, ("red", "blue", "blue", "blue", "green", "red"), strict=True):
        Image.new("RGB", (8, 8), colour).save(file)
    angles = torch.tensor([0.0, 5, 5, 5, 20, 0]).deg2rad()
    points = torch.stack([angles.cos(), angles.sin()], 1)
    labels = torch.tensor([[0, 0], [0, 1], [0, 1], [1, 2], [0, 0], [0, 0]])
    captions = [(str(i),) for i in range(6)]
    sides = {"query_paths": files, "gallery_paths": files, "query_captions": captions, "gallery_captions": captions}
    rows = choose_rows(points, labels, points, labels, num_neighbours=2, same_set=True, **sides)
    assert {row.query[-5] for row in rows} in ({"0", "1", "4"}, {"0", "2", "4"}, {"5", "1", "4"}, {"5", "2", "4"})
    green = next(row for row in rows if row.query == files[4])
    # the third blue file hangs elsewhere, and is no copy of the other two
    assert [(found.path[-5], found.copies, found.shared) for found in green.neighbours] == [("1", 2, 1), ("3", 1, 0)]


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
        with pytest.raises(ValueError, match=f"{name} must have {len(values)} entries.*; it has {len(values) - 1}"):
            choose_rows(*arrays, **{**all_names, name: values[1:]})
    with pytest.raises(ValueError, match="query_paths must have 4 entries"):
        choose_rows(*arrays, **{**all_names, "query_paths": "four"})
    with pytest.raises(ValueError, match=r"query_labels must be \(N,\), \(N, L\) or \(N, P, L\); .* \(4, 1, 2, 1\)"):
        choose_rows(query, query_labels[:, None, :, None], gallery, gallery_labels, **all_names)
    with pytest.raises(ValueError, match="gallery_labels must have 5 entries, one for each item of gallery; it has 4"):
        choose_rows(query, query_labels, gallery, gallery_labels[1:], **all_names)
    for labels in (torch.full((4, 2), 9), torch.full((4, 2), PAD), torch.empty(4, 0, dtype=torch.int64)):
        of_gallery = torch.full((5, labels.shape[1]), PAD)  # PAD equals nothing
        with pytest.raises(
            ValueError, match="none of the 4 queries shares a node of the first level with any of the 5"
        ):
            choose_rows(query, labels, gallery, of_gallery, **all_names)


def test_of_several_paths_the_one_that_shares_most_counts():
    points = torch.eye(4)[[0, 0, 0, 1]]
    labels = torch.tensor([[[0, 5], [1, 6]], [[1, 6], [PAD, PAD]], [[2, 7], [0, 5]], [[1, 8], [PAD, PAD]]])
    options = {**names("query", 4), **names("gallery", 4), "same_set": True}
    rows = choose_rows(points, labels, points, labels, num_neighbours=3, **options)
    assert {row.query: {found.path: (found.shared, found.whole) for found in row.neighbours} for row in rows} == {
        "query0.png": {"gallery1.png": (2, True), "gallery2.png": (2, True), "gallery3.png": (1, False)},
        "query1.png": {"gallery0.png": (2, True), "gallery2.png": (0, False), "gallery3.png": (1, False)},
        "query2.png": {"gallery0.png": (2, True), "gallery1.png": (0, False), "gallery3.png": (0, False)},
        "query3.png": {"gallery0.png": (1, False), "gallery1.png": (1, False), "gallery2.png": (0, False)},
    }


# ---------------------------------------------------------------- drawing
@pytest.fixture
def solid(tmp_path):
    """Returns a function that makes an image of one colour."""

    def make(colour, size=(64, 64)):
        path = tmp_path / f"{colour}{size[0]}x{size[1]}.png"
        Image.new("RGB", size, colour).save(path)
        return str(path)

    return make


def grade(path, shared, whole=False, caption=("a",), copies=1):
    return SheetNeighbour(path, caption, shared, whole, copies)


def frames(figure):
    """Returns {kind: [(left, top, size)]} of the pictures, in pixels from the left and the top."""
    FigureCanvasAgg(figure).draw()
    found = {}
    for axes in figure.axes:
        if axes.get_gid():
            box = axes.get_window_extent()
            assert abs(box.width - box.height) < 1
            place = (round(box.x0), round(figure.bbox.height - box.y1), round(box.width))
            found.setdefault(axes.get_gid(), []).append(place)
    return found


def draw(rows, path, **options):
    """Returns the pixels of a sheet, and its frames."""
    plot_retrieval_sheet(rows, path, **options)
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return pixels, frames(_sheet_figure(rows, **{"title": "", **options}))


def colour(name):
    return list(ImageColor.getrgb(name))


@pytest.mark.parametrize("num_levels", [1, 3, 5])
def test_the_colour_of_a_frame_is_that_of_the_shared_depth(solid, tmp_path, num_levels):
    levels = [f"level {i}" for i in range(num_levels)]
    black = solid("black")
    rows = [SheetRow(black, ("q",), [grade(black, shared) for shared in range(num_levels + 1)])]
    pixels, found = draw(rows, tmp_path / "sheet.png", title="title", levels=levels)
    colours = grade_colours(num_levels)
    assert len(set(colours)) == num_levels + 1
    for shared in range(num_levels + 1):
        ((x, y, size),) = found[f"shared {shared}"]
        lines = pixels[y + size - 3 : y + size + 3, x + 9 : x + size - 9]
        assert (lines == colour(colours[shared])).all(2).all(1).sum() >= 3
        corner = pixels[y + 2 : y + 24, x + size - 24 : x + size - 2].reshape(-1, 3)
        assert (corner == colour(colours[shared])).all(1).sum() > 100


def test_pixels_of_frames_and_pictures(solid, tmp_path):
    rows = [
        SheetRow(solid("blue"), ("q",), [grade(solid("yellow"), 1, True), grade(solid("cyan"), 0)]),
        SheetRow(solid("black"), ("r",), [grade(solid("magenta"), 0)]),
    ]
    pixels, found = draw(rows, tmp_path / "sheet.png", title="title")
    assert {kind: len(of) for kind, of in found.items()} == {"query": 2, "shared 1": 1, "shared 0": 2}

    wrong, right = grade_colours(1)
    pictures = {"query": ["blue", "black"], "shared 1": ["yellow"], "shared 0": ["cyan", "magenta"]}
    for kind, frame_colour in (("query", "#888888"), ("shared 1", right), ("shared 0", wrong)):
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
    for i, (shared, whole) in enumerate([(2, True), (2, False), (1, False), (0, False)]):
        rows = [SheetRow(solid("blue"), ("q",), [grade(solid("black"), shared, whole)])]
        pixels, found = draw(rows, tmp_path / f"{i}.png", levels=("kind", "class", "item"))
        x, y, size = found[f"shared {shared}"][0]
        shapes.append(pixels.min(2)[y + 3 : y + 22, x + size - 21 : x + size - 2] > 200)
    for one, other in itertools.combinations(shapes, 2):
        assert (one != other).sum() > 10


def test_a_photograph_that_its_camera_held_sideways_is_upright(tmp_path):
    sideways = np.zeros((60, 40, 3), np.uint8)
    sideways[:, :20] = (255, 0, 0)  # the left half, which is above when it is turned by 90 degrees
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(sideways).save(tmp_path / "photo.png", exif=exif)
    path = str(tmp_path / "photo.png")
    pixels, found = draw([SheetRow(path, ("q",), [grade(path, 1)])], tmp_path / "sheet.png")
    for kind in ("query", "shared 1"):
        ((x, y, size),) = found[kind]
        middle = pixels[y + size // 2 - 6 : y + size // 2 + 6, x + 8 : x + size - 30]
        # turned clockwise, 60 x 40: the red half is on top, with white above and below the picture
        assert (pixels[y + 5 : y + 12, x + size // 2] == 255).all()
        column = pixels[y + 4 : y + size - 4, x + size // 2]
        red, black = (column == (255, 0, 0)).all(1).nonzero()[0], (column == 0).all(1).nonzero()[0]
        assert 0.25 * size < len(red) < 0.4 * size
        assert red.max() < black.min()
        assert len(middle)


def test_copies_are_counted_in_the_corner(solid, tmp_path):
    black = solid("black")
    rows = [SheetRow(black, ("q",), [grade(black, 1, copies=3), grade(black, 1)])]
    pixels, found = draw(rows, tmp_path / "sheet.png")
    (several, one) = found["shared 1"]
    white = [(pixels[y + 4 : y + 20, x + 4 : x + 30] > 200).all(2).sum() for x, y, _ in (several, one)]
    assert white[0] > 20 > white[1]
    assert "\N{MULTIPLICATION SIGN}3" in texts(_sheet_figure(rows, title=""))


@pytest.mark.parametrize("columns", [0, 1, 2, 8, 12, 30])
@pytest.mark.parametrize("title", ["", "a very long title " * 30])
@pytest.mark.parametrize("levels", [("label",), [f"a long name of level {i} of eight" for i in range(8)]])
def test_nothing_overlaps_or_leaves_the_sheet(solid, tmp_path, columns, title, levels):
    caption = ("smileys-emotion", "heavy-heart-exclamation-mark-ornament", "twemoji and more and more and more")
    neighbours = [grade(solid("red"), i % 2, caption=caption) for i in range(columns)]
    rows = [SheetRow(solid("blue"), caption, neighbours[: columns - i]) for i in range(3)]
    figure = _sheet_figure(rows, title=title, levels=levels)
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
    neighbours = [grade(blue, 2, True, ("x", "$a_1$")), grade(blue, 0, caption=("Größe",)), grade(blue, 2)]
    rows = [SheetRow(blue, ("_q $x",), neighbours), SheetRow(blue, ("alone",))]
    figure = _sheet_figure(rows, title="$t$", levels=("kind", "class"))
    found = texts(figure)
    for word in ("query", "1", "2", "_q $x", "x / $a_1$", "Größe", "alone", "$t$"):
        assert word in found
    assert "4" not in found
    for word in ("In common with the query, of 3 neighbours:", "class 2", "kind 0", "nothing 1"):
        assert word in found
    assert not any(text.get_parse_math() for text in figure.texts)
    assert "no neighbours shown" in texts(_sheet_figure([SheetRow(blue, ("alone",))], title=""))


def test_a_neighbour_of_which_nothing_is_known_has_a_thin_frame_and_no_mark(solid, tmp_path):
    blue, black = solid("blue"), solid("black")
    rows = [
        SheetRow(blue, ("q",), [grade(black, None), grade(black, 1, True)]),
        SheetRow(blue, ("r",), [grade(black, None)]),
    ]
    pixels, found = draw(rows, tmp_path / "sheet.png")
    assert {kind: len(of) for kind, of in found.items()} == {"query": 2, "shared 1": 1, "unknown": 2}
    for x, y, size in found["unknown"]:
        assert (pixels[y + 2 : y + size - 2, x + 2 : x + size - 2] == 0).all()
        assert (pixels[y - 2 : y + size, x - 3] == 255).all()
    words = texts(_sheet_figure(rows, title=""))
    assert {"In common with the query, of 1 neighbours:", "label 1", "not known 2"} <= set(words)
    assert "1 neighbours shown" in texts(_sheet_figure(rows[1:], title=""))


def test_unreadable_pictures_show_as_boxes(solid, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n no more")
    cut = tmp_path / "cut.png"
    Image.effect_noise((64, 64), 50).save(cut)
    cut.write_bytes(cut.read_bytes()[:700])
    paths = [str(broken), str(cut), str(tmp_path / "missing.png"), str(tmp_path)]
    rows = [SheetRow(solid("blue"), ("q",), [grade(path, 1) for path in paths])]
    assert {"broken.png", "cut.png", "missing.png"} <= set(texts(_sheet_figure(rows, title="")))
    pixels, found = draw(rows, tmp_path / "sheet.png")
    for x, y, size in found["shared 1"]:
        assert pixels[y + size - 20, x + 20].tolist() == [0xE4] * 3


def test_the_shape_of_a_picture_is_kept_and_pixel_art_is_sharp(solid, tmp_path):
    checks = (np.indices((16, 16)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(checks).save(tmp_path / "checks.png")
    wide = solid("red", size=(64, 32))
    pixels, found = draw([SheetRow(str(tmp_path / "checks.png"), ("q",), [grade(wide, None)])], tmp_path / "sheet.png")
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
