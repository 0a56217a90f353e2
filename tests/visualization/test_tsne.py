import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image
from sklearn.manifold import TSNE

from hierpretrain.visualization.tsne import PALETTE, _tsne_figure, plot_tsne, tsne_map


def blobs(sizes=(40, 25), dims=64, seed=0):
    """Points around orthogonal directions, of random length."""
    rng = np.random.default_rng(seed)
    which = np.repeat(np.arange(len(sizes)), sizes)
    points = np.eye(dims)[which] + 0.02 * rng.normal(size=(len(which), dims))
    return (points * rng.uniform(0.1, 10, size=(len(which), 1))).astype(np.float32), which


# ---------------------------------------------------------------- the map
@pytest.mark.parametrize("dims", [8, 64])  # without PCA and with it
def test_far_blobs_stay_apart(dims):
    data, which = blobs(dims=dims)
    points, rows = tsne_map(data)
    assert points.shape == (65, 2)
    assert points.dtype == np.float32
    assert rows.dtype == np.int64
    assert rows.tolist() == list(range(65))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (which[distances.argmin(1)] == which).all()
    assert min(distances[a][b] for a in np.flatnonzero(which == 0) for b in np.flatnonzero(which == 1)) > 3 * np.median(
        distances.min(1)
    )


def test_what_is_laid_out_are_the_first_50_principal_components_of_the_directions(monkeypatch):
    laid_out = []

    class Recorder(TSNE):
        def fit_transform(self, data):
            laid_out.append(data)
            return super().fit_transform(data)

    monkeypatch.setattr("sklearn.manifold.TSNE", Recorder)
    data = np.random.default_rng(0).normal(size=(60, 90)) * np.linspace(3, 1, 90)
    tsne_map(data)
    directions = data / np.linalg.norm(data, axis=1, keepdims=True)
    left, spread, _ = np.linalg.svd(directions - directions.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(laid_out[0]), np.abs((left * spread)[:, :50]), atol=1e-6)
    tsne_map(data[:, :50])
    np.testing.assert_allclose(laid_out[1], data[:, :50] / np.linalg.norm(data[:, :50], axis=1, keepdims=True))


def test_a_seed_fixes_the_map_and_leaves_global_state_alone():
    data, _ = blobs()
    np.random.seed(7)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, rows = tsne_map(data, seed=3, max_points=50)
    again, same_rows = tsne_map(data, seed=3, max_points=50)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(rows, same_rows)
    assert tsne_map(data, seed=4, max_points=50)[1].tolist() != rows.tolist()


def test_a_map_that_starts_from_another_looks_like_it():
    rng = np.random.default_rng(0)
    centres, blob = np.eye(12)[:, :8] + 0.1 * rng.normal(size=(12, 8)), np.repeat(np.arange(12), 12)
    earlier = centres[blob] + 0.05 * rng.normal(size=(144, 8))
    blob[:24] = rng.permutation(blob[:24])  # the items of two blobs change sides
    later = centres[blob] + 0.05 * rng.normal(size=(144, 8))
    first, _ = tsne_map(earlier)

    def moved(points):
        """How far the centres of the other blobs are from where they were, in units of the map's size."""
        now, before = (xy[24:].reshape(10, 12, 2).mean(1) / xy.std() for xy in (points, first))
        return np.linalg.norm(now - before, axis=1).mean()

    after, _ = tsne_map(later, start=first)
    assert moved(after) < 0.5 * moved(tsne_map(later)[0])
    distances = np.linalg.norm(after[:, None] - after[None], axis=2) + 1e9 * np.eye(144)
    assert (blob[distances.argmin(1)] == blob).mean() > 0.95  # and it is a map of how they are now
    np.testing.assert_array_equal(tsne_map(earlier, start=np.ones((144, 2)))[0], first)  # all equal: as without


@pytest.mark.parametrize("start", [np.zeros((4, 2)), np.zeros((5, 3)), np.full((5, 2), np.nan)])
def test_a_start_has_a_position_for_each_point(start):
    with pytest.raises(ValueError, match=r"start must be finite and \(5, 2\), a position for each point"):
        tsne_map(np.eye(6), max_points=5, start=start)


def test_length_of_an_embedding_does_not_count():
    data, _ = blobs(dims=8)
    scale = 2.0 ** np.random.default_rng(0).integers(-60, 60, size=(len(data), 1))  # exact, and squares leave float32
    np.testing.assert_allclose(tsne_map(data * scale.astype(np.float32))[0], tsne_map(data)[0], atol=1e-3)


def test_subsample_is_the_map_of_the_rows_it_names():
    data, _ = blobs(dims=8)
    points, rows = tsne_map(data, max_points=20, seed=1)
    assert len(points) == len(rows) == 20
    assert (np.diff(rows) > 0).all()
    assert rows.min() >= 0
    assert rows.max() < len(data)
    np.testing.assert_array_equal(points, tsne_map(data[rows], seed=1)[0])
    assert tsne_map(data, max_points=65)[1].tolist() == list(range(65))


def test_the_subsample_is_uniform():
    data = np.random.default_rng(0).normal(size=(6, 2))
    counts = sum(np.bincount(tsne_map(data, max_points=3, seed=seed)[1], minlength=6) for seed in range(100))
    assert counts.sum() == 300
    assert (counts > 30).all()  # 50 each is expected; 30 is four standard deviations below
    assert (counts < 70).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_any_dtype(dtype):
    data = torch.tensor(blobs((5, 5), 4)[0], dtype=dtype).requires_grad_()
    expected = tsne_map(data.detach().float().numpy())[0]
    np.testing.assert_array_equal(tsne_map(data)[0], expected)


@pytest.mark.parametrize("shape", [(3, 1), (3, 4), (4, 200), (51, 51), (60, 1)])
def test_few_points_or_dimensions(shape):
    points, _ = tsne_map(np.random.default_rng(0).normal(size=shape))
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()


def test_a_collapsed_model_gives_one_point_and_no_warning():
    data = np.full((30, 8), 0.3, np.float32) * np.linspace(1, 2, 30, dtype=np.float32)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (tsne_map(data)[0] == 0).all()
        assert (tsne_map(np.zeros((5, 8)))[0] == 0).all()


@pytest.mark.parametrize("shape", [(2, 8), (0, 8), (5,), (5, 0), (2, 3, 4)])
def test_shape_errors(shape):
    with pytest.raises(ValueError, match=r"must be \(N, D\), of 3 at least.*shape is \(" + str(shape[0])):
        tsne_map(np.ones(shape))


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_complex_embeddings_are_refused_and_integers_taken(kind):
    with pytest.raises(ValueError, match=r"must be real numbers; they are complex: take \.abs\(\)"):
        tsne_map(kind(np.ones((5, 3), np.complex64) * 1j))
    assert tsne_map(kind(np.ones((5, 3), np.int16)))[0].tolist() == [[0, 0]] * 5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_error_names_the_row(value):
    data = np.ones((5, 3))
    data[2, 1] = value
    with pytest.raises(ValueError, match="must be finite; row 2 is not: leave it out"):
        tsne_map(data)


def test_option_errors():
    with pytest.raises(ValueError, match="max_points must be 3 or more; it is 2"):
        tsne_map(np.ones((5, 3)), max_points=2)
    with pytest.raises(ValueError, match=r"perplexity must be above 0.*it is -1"):
        tsne_map(np.ones((5, 3)), perplexity=-1)


# ---------------------------------------------------------------- the plot
def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def scatters_of(figure):
    return [(to_hex(c.get_facecolors()[0]).upper(), c.get_offsets()) for c in figure.axes[0].collections]


def test_groups_by_frequency_then_name_with_their_points():
    points = np.arange(12.0).reshape(6, 2)
    figure = _tsne_figure(points, ["b", "a", "c", "c", "c", "b"], title="", max_groups=20)
    assert legend_of(figure) == ["c (3)", "b (2)", "a (1)"]
    scatters = scatters_of(figure)
    assert [colour for colour, _ in scatters] == list(PALETTE[:3])
    for (_, offsets), rows in zip(scatters, ([2, 3, 4], [0, 5], [1]), strict=True):
        np.testing.assert_array_equal(offsets, points[rows])


def test_groups_past_the_most_are_other_and_below():
    groups = ["a"] * 4 + ["b"] * 3 + ["c"] * 2 + ["d"]
    points = np.random.default_rng(0).normal(size=(10, 2))
    figure = _tsne_figure(points, groups, title="", max_groups=2)
    assert legend_of(figure) == ["a (4)", "b (3)", "other (2 groups, 3)"]
    colour, offsets = scatters_of(figure)[-1]
    assert colour == "#BEBEBE"
    np.testing.assert_array_equal(offsets, points[7:])
    orders = [c.get_zorder() for c in figure.axes[0].collections]
    assert orders[-1] < min(orders[:-1])
    assert legend_of(_tsne_figure(points, groups, title="", max_groups=3))[-1] == "other (1 group, 1)"


def test_twenty_groups_look_different():
    figure = _tsne_figure(
        np.random.default_rng(0).normal(size=(20, 2)), [*"abcdefghijklmnopqrst"], title="", max_groups=20
    )
    handles = figure.legends[0].get_lines()
    assert len({(handle.get_color(), handle.get_marker()) for handle in handles}) == len(set(PALETTE)) == 20
    assert len({handle.get_marker() for handle in handles}) == 3


def test_names_are_drawn_as_they_are():
    names = ["_hidden", "$x", "$a_1$", "\\frac{", "Größe", "", "two\nlines", "x" * 20 + "y" * 20]
    figure = _tsne_figure(np.random.default_rng(0).normal(size=(8, 2)), names, title="a $ b $ c", max_groups=20)
    shown = ["$a_1$", "$x", "Größe", "\\frac{", "_hidden", "two lines", "(no name)", "x" * 16 + "…" + "y" * 15]
    assert sorted(legend_of(figure)) == sorted(f"{name} (1)" for name in shown)
    assert not any(text.get_parse_math() for text in figure.legends[0].get_texts())
    assert figure.get_suptitle() == "a $ b $ c"
    figure.canvas.draw_idle()


@pytest.mark.parametrize("long", [False, True])
def test_legend_and_title_are_inside_and_beside_the_map(tmp_path, long):
    names = [f"{'long name ' * 10 * long}{i}" for i in range(30)]
    figure = _tsne_figure(np.random.default_rng(0).normal(size=(30, 2)), names, title="t " * 300 * long, max_groups=20)
    figure.savefig(tmp_path / "plot.png", dpi="figure")  # lays out
    legend = figure.legends[0].get_window_extent()
    axes = figure.axes[0].get_window_extent()
    assert axes.x1 < legend.x0 < legend.x1 <= 1400
    assert 0 <= legend.y0 < legend.y1 <= 1000
    assert axes.width > 800
    if long:
        title = figure._suptitle.get_window_extent()
        assert title.x0 >= 0
        assert title.x1 <= 1400
        assert title.y0 > axes.y1


def test_picture(tmp_path):
    points, which = blobs(dims=2)
    plot_tsne(torch.tensor(points), [("a", "b")[i] for i in which], tmp_path / "map.png", title="blobs")
    picture = Image.open(tmp_path / "map.png").convert("RGB")
    assert picture.size == (1400, 1000)
    colours = {to_hex(np.array(colour) / 255).upper(): count for count, colour in picture.getcolors(1 << 24)}
    # anti-aliased and slightly transparent, so near colours are counted: blue-ish for a, vermilion-ish for b
    pixels = np.asarray(picture).astype(int)
    for name in PALETTE[:2]:
        colour = np.array([int(name[i : i + 2], 16) for i in (1, 3, 5)])
        assert (abs(pixels - colour).max(2) < 40).sum() > 500
    assert max(colours, key=colours.get) == "#FFFFFF"
    assert [file.name for file in tmp_path.iterdir()] == ["map.png"]


def test_one_point_and_equal_points(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_tsne(np.zeros((1, 2)), ["a"], tmp_path / "one.png")
        plot_tsne(np.zeros((9, 2)), [*"abcabcabc"], tmp_path / "nine.png", max_groups=1)


def test_pyplot_is_not_imported():
    code = "import sys, hierpretrain.visualization; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_plot_errors(tmp_path):
    path, points = tmp_path / "map.png", np.zeros((3, 2))
    with pytest.raises(ValueError, match=r"points must be \(M, 2\).*shape is \(3, 3\)"):
        plot_tsne(np.zeros((3, 3)), ["a"] * 3, path)
    with pytest.raises(ValueError, match=r"points must be \(M, 2\), with a row at least"):
        plot_tsne(np.zeros((0, 2)), [], path)
    with pytest.raises(ValueError, match="points must be finite; row 1 is not"):
        plot_tsne([[0, 0], [np.nan, 0]], ["a", "b"], path)
    with pytest.raises(ValueError, match="each of the 3 points; it has 2 entries"):
        plot_tsne(points, ["a", "b"], path)
    with pytest.raises(ValueError, match="groups must name the group"):
        plot_tsne(points, "abc", path)
    for number in (0, 21):
        with pytest.raises(ValueError, match=f"max_groups must be 1 to 20, .*it is {number}"):
            plot_tsne(points, ["a"] * 3, path, max_groups=number)
    assert not list(tmp_path.iterdir())
