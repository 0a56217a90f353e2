"""The page in a real browser: no error, no request, and what a user does has its effect."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from hierpretrain.evaluation import RetrievalMetric
from hierpretrain.report import write_report
from hierpretrain.report.nearest_images import nearest_others
from hierpretrain.visualization.grades import grade_colours
from tests.report.browser import CHROMIUM, DRIVER, Page, open_browser
from tests.report.sets import embedded

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]

NAMES = [("animal", "cat"), ("animal", "dog"), ("food", "apple"), ("food", "<img src=x onerror=alert(1)>"), ("tool",)]
COLOURS = [(200, 40, 40), (40, 160, 40), (40, 40, 200), (200, 200, 40), (40, 180, 180)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Sixty pictures of five plain colours; each fifth is of one class, and every third of another split."""
    folder = tmp_path_factory.mktemp("images")
    files = []
    for i in range(60):
        files.append(str(folder / f"<b>{i}.png"))
        Image.new("RGB", (64, 64), COLOURS[i % 5]).save(files[-1])
    rng = np.random.default_rng(0)
    features = np.eye(6)[np.arange(60) % 5] + 0.35 * rng.normal(size=(60, 6))
    splits = ["seen" if i % 3 else "unseen" for i in range(60)]
    return embedded(features, [NAMES[i % 5] for i in range(60)], levels=("kind", "class"), files=files, splits=splits)


@pytest.fixture(scope="module")
def report(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    data = folder / "20260101_000000" / "vis_data"
    data.mkdir(parents=True)
    lines = [{"loss": 3.0 / i, "level/kind": 1.0 / i, "level/class": 2.0 / i, "step": i} for i in (1, 2, 3)]
    lines.append({"class/map": 0.5, "step": 1})
    (data / "scalars.json").write_text("\n".join(map(json.dumps, lines)))
    write_report(images, folder / "report.html", title="A report", history=folder, log=str)
    return folder / "report.html"


@pytest.fixture(scope="module")
def opened(driver, report):
    return Page(driver, report)


@pytest.fixture
def page(opened):
    """The report; what the browser complains of, or asks for, fails the test."""
    yield opened
    assert [entry for entry in opened.driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    events = [json.loads(entry["message"])["message"] for entry in opened.driver.get_log("performance")]
    requests = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    asked = {request["request"]["url"] for request in requests if request["documentURL"].startswith("file:")}
    assert all(address.startswith(("file:", "data:", "blob:")) for address in asked), asked


def hover(page, image):
    """Moves the mouse over an image's point on the map."""
    from selenium.webdriver.common.action_chains import ActionChains

    page.run("document.getElementById('map').scrollIntoView({behavior: 'instant'})")
    x, y = page.run(
        "const plot = document.getElementById('map-plot'), box = plot.getBoundingClientRect(), l = plot._fullLayout;"
        "return [box.left + l.xaxis.l2p(xs[arguments[0]]) + l.xaxis._offset,"
        "        box.top + l.yaxis.l2p(ys[arguments[0]]) + l.yaxis._offset]",
        image,
    )
    actions = ActionChains(page.driver, duration=50)
    actions.w3c_actions.pointer_action.move_to_location(5, 5)
    actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    return actions


def colour_of(page, selector):
    """The colour in the middle of a canvas."""
    page.wait_for(f"document.querySelector({selector!r}) && document.querySelector({selector!r}).width > 1")
    return page.run(
        f"const c = document.querySelector({selector!r});"
        "return Array.from(c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data).slice(0, 3)"
    )


def lone_point(page):
    """The image that is farthest from all others on the map, so that a mouse cannot miss it."""
    xs, ys = page.run("return [Array.from(xs), Array.from(ys)]")
    places = np.stack([xs, ys], 1)
    distance = np.linalg.norm(places[:, None] - places, axis=2) + 1e9 * np.eye(60)
    return int(distance.min(1).argmax())


def test_hover_shows_the_image_its_label_and_its_file(page):
    image = lone_point(page)
    hover(page, image).perform()
    page.wait_for("!document.getElementById('tip').hidden")
    assert page.run("return document.querySelector('#tip .file').textContent") == f"<b>{image}.png"
    assert page.run("return document.querySelector('#tip .label').textContent") == " \u203a ".join(NAMES[image % 5])
    assert np.abs(np.subtract(colour_of(page, "#tip canvas"), COLOURS[image % 5])).max() < 24


def test_an_image_is_pinned_from_the_start(page, report):
    page.driver.get(f"file://{report}")
    page.wait_for("document.body.dataset.ready && document.getElementById('map-plot').dataset.drawn")
    assert page.run("return document.querySelector('#pin .big').dataset.image") == "0"
    assert page.run("return document.querySelectorAll('#pin .grid canvas').length") == 8


def test_percentages_are_0_and_100_only_where_none_or_all_is(page):
    shares = [0, 0.0001, 0.05, 0.5, 0.994, 0.99999, 1]
    assert page.run("return arguments[0].map(percent)", shares) == [
        "0 %",
        "0.1 %",
        "5.0 %",
        "50 %",
        "99.4 %",
        "99.9 %",
        "100 %",
    ]


def test_a_click_pins_an_image_with_its_neighbours(page, images):
    image = lone_point(page)
    hover(page, image).click().perform()
    page.wait_for("document.querySelectorAll('#pin .grid canvas').length === 8")
    shown = page.run(
        "return Array.from(document.querySelectorAll('#pin .grid canvas')).map((c) => Number(c.dataset.image))"
    )
    similarities, neighbours = nearest_others(images.features, 8)
    assert shown == neighbours[image].tolist()
    texts = page.run("return Array.from(document.querySelectorAll('#pin .grid button')).map((b) => b.textContent)")
    assert [float(text) for text in texts] == pytest.approx(similarities[image].tolist(), abs=0.0051)
    assert np.abs(np.subtract(colour_of(page, "#pin .grid canvas"), COLOURS[shown[0] % 5])).max() < 24
    page.run("document.querySelector('#pin .grid button').click()")  # a neighbour can be pinned in turn
    page.wait_for(f"document.querySelector('#pin .big').dataset.image === '{shown[0]}'")


def test_another_level_recolours_the_map(page):
    traces = "return document.getElementById('map-plot').data.map((t) => [t.name, t.customdata.length, t.marker.color])"
    page.choose("map-colour", "level:1")
    by_kind = page.run(traces)
    assert sorted((name, number) for name, number, _ in by_kind) == [
        ("animal (24)", 24),
        ("food (24)", 24),
        ("tool (12)", 12),
    ]
    page.choose("map-colour", "level:2")
    by_class = page.run(traces)
    assert {name: number for name, number, _ in by_class} == {
        "other (12)": 12,  # tools have no class
        "cat (12)": 12,
        "dog (12)": 12,
        "apple (12)": 12,
        "&lt;img src=x onerror=alert(1)&gt; (12)": 12,
    }
    assert len({colour for _, _, colour in by_class}) == 5


def test_a_split_alone_is_shown(page):
    page.choose("map-split", "0")
    shown = page.run("return document.getElementById('map-plot').data.flatMap((t) => t.customdata)")
    page.choose("map-split", "")
    assert sorted(shown) == [i for i in range(60) if i % 3 == 0]


def test_the_tree_opens_and_shows_a_node_on_the_map(page):
    rows = "return Array.from(document.querySelectorAll('#tree-table .node')).map((b) => b.textContent)"
    assert sorted(page.run(rows)) == ["animal", "food", "tool"]
    page.choose("tree-sort", "name")
    page.run("document.querySelector('#tree-table .fold').click()")
    assert page.run(rows) == ["animal", "cat", "dog", "food", "tool"]
    page.run("document.querySelectorAll('#tree-table .node')[1].click()")
    found = page.run("return document.getElementById('map-plot').data.map((t) => [t.name, t.customdata])")
    assert dict(found)["cat (12)"] == list(range(0, 60, 5))


def test_nodes_of_a_level_are_listed_and_found(page):
    rows = "return Array.from(document.querySelectorAll('#tree-table .node')).map((b) => b.textContent)"
    page.choose("tree-view", "2")
    assert sorted(page.run(rows)) == sorted(["cat", "dog", "apple", NAMES[3][1]])
    page.run("document.getElementById('tree-find').value = 'ONERROR'")
    page.choose("tree-sort", "largest")
    assert page.run(rows) == [NAMES[3][1]]
    page.run("document.getElementById('tree-find').value = ''")
    page.choose("tree-view", "tree")


def test_another_node_changes_the_heat_map(page):
    state = "const p = document.getElementById('siblings-plot'); return [p.layout.yaxis.ticktext, p.data[0].z]"
    values = page.run("return Array.from(document.getElementById('siblings-node').options).map((o) => o.value)")
    shown = {}
    for value in values:
        page.choose("siblings-node", value)
        labels, shares = page.run(state)
        shown[tuple(labels)] = shares
        assert [sum(row) for row in shares] == pytest.approx([1.0] * len(labels))
        sizes = "[p.clientWidth - p._fullLayout.width, p.clientHeight - p._fullLayout.height].every((d) => d === 0)"
        page.wait_for(f"((p) => {sizes})(document.getElementById('siblings-plot'))")
    assert ("animal", "food", "tool") in shown
    assert ("cat", "dog") in shown
    assert len(shown) == 3


def test_the_colour_of_a_neighbour_is_that_of_its_shared_depth(page):
    colours = grade_colours(2)
    for level in ("0", "1", "2"):
        page.choose("queries-level", level)
        rows = page.run(
            "return Array.from(document.querySelectorAll('.query')).map((row) =>"
            "  Array.from(row.querySelectorAll('.shot')).map((s) => [Number(s.dataset.image), s.className,"
            "    s.querySelector('.mark')?.textContent, s.querySelector('.frame').style.borderColor,"
            "    s.querySelector('.path').textContent,"
            "    Array.from(s.querySelectorAll('.common')).map((c) => c.textContent).join()]))"
        )
        assert rows
        seen = set()
        for (query, asked, *_), *neighbours in rows:
            assert asked == "shot asked"
            mine = NAMES[query % 5]
            for image, _, mark, frame, caption, common in neighbours:
                path = NAMES[image % 5]
                same = [a == b for a, b in zip(mine, path, strict=False)]
                shared = same.index(False) if False in same else len(same)
                red, green, blue = (int(colours[shared][i : i + 2], 16) for i in (1, 3, 5))
                assert frame == f"rgb({red}, {green}, {blue})"
                assert mark == ("\u2713" if shared == len(mine) else "1" if shared else "\u2717")
                assert caption == " \u203a ".join(path)
                assert common == " \u203a ".join(path[:shared])
                seen.add(shared)
        assert len(seen) > 1
    legend = page.run("return Array.from(document.querySelectorAll('#grades > span')).map((s) => s.textContent)")
    assert legend == ["class", "kind", "nothing in common"]


def test_training_is_drawn(page):
    titles = page.run(
        "return Array.from(document.querySelectorAll('#training-plots .plot')).map((p) => p.layout.title.text)"
    )
    assert titles == ["loss", "level"]
    lines = page.run("return document.querySelectorAll('#training-plots .plot')[1].data.map((t) => [t.name, t.y])")
    assert dict(lines) == {"kind": [1.0, 0.5, 1 / 3], "class": [2.0, 1.0, 2 / 3]}
    row = page.run("return Array.from(document.querySelectorAll('#training-values td')).map((c) => c.textContent)")
    assert row == ["class/map", "", "0.5", "1"]


def test_text_of_the_data_makes_no_element(page):
    assert page.run("return document.querySelectorAll('main img, main b').length") == 0


@pytest.mark.parametrize("width", [390, 1024])
def test_nothing_is_wider_than_the_screen(driver, tmp_path, width):
    long = "x" * 300
    backwards = "\u202ey"  # turns what follows it in the same line around
    names = [[(long, backwards * 150)], [(long, "a b " * 60)], [("z" * 300, long), (long, backwards * 150)]]
    images = embedded(
        np.random.default_rng(0).normal(size=(30, 4)),
        [names[i % 3] for i in range(30)],
        levels=(long, "level"),
        files=[f"{long}/{i}.png" for i in range(30)],
        splits=[f"{i % 2}{long}" for i in range(30)],
    )
    write_report(images, tmp_path / "long.html", title=long, log=str)
    size = dict(width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page = Page(driver, tmp_path / "long.html")
        page.choose("tree-view", "2")
        assert page.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        taken = page.run("return Array.from(document.querySelectorAll('td bdi')).map((e) => e.textContent)")
        assert {"a b " * 60, backwards * 150, long}.issuperset(taken)
        assert taken
        page.choose("queries-level", "1")
        assert page.run("return document.querySelectorAll('.shot .mark').length") > 0
        left_out = "An image on several nodes of a level is left out of its recall and of its average precision."
        assert left_out in page.run("return document.getElementById('queries-rows').textContent")
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_another_search_changes_all_that_is_of_a_search(driver, images, tmp_path):
    metrics = [
        RetrievalMetric(["kind"], query="unseen", gallery="seen", prefix="first"),
        RetrievalMetric(["kind"], query="seen", prefix="second"),
    ]
    write_report(images, tmp_path / "two.html", title="Two", metrics=metrics, log=str)
    page = Page(driver, tmp_path / "two.html")
    state = (
        "return [Array.from(document.querySelectorAll('.searched')).map((l) => l.textContent),"
        "  document.getElementById('recall-plot').data[0].x.length,"
        "  Array.from(document.querySelectorAll('#tree-table tbody .number')).map((cell) => Number(cell.textContent)),"
        "  Array.from(document.querySelectorAll('.shot.asked')).map((shot) => splits[shot.dataset.image])]"
    )
    titles, ks, queries, asked = page.run(state)
    assert titles == ["first: 20 queries (unseen) in a gallery of 40 images (seen)"] * 4
    assert (ks, sum(queries), set(asked)) == (40, 20, {0})  # the first image is of the unseen
    page.choose("search", "1")
    titles, ks, queries, asked = page.run(state)
    assert titles == ["second: 40 images (seen), each a query among the others"] * 4
    assert (ks, sum(queries), set(asked)) == (39, 40, {1})
    assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_without_webgl_the_map_is_drawn_as_svg(report, tmp_path):
    pytest.importorskip("selenium")
    driver = open_browser(tmp_path, webgl=False)
    try:
        page = Page(driver, report)
        assert page.run("return document.getElementById('map-plot').data.map((t) => t.type)") == ["scatter"] * 3
        assert page.run("return document.querySelectorAll('#map-plot .point').length") == 60
    finally:
        driver.quit()


def test_a_dark_screen_and_a_report_of_one_image(driver, tmp_path):
    write_report(embedded(torch.eye(1), [("a",)], levels=("kind",)), tmp_path / "one.html", title="One", log=str)
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    try:
        page = Page(driver, tmp_path / "one.html")
        assert page.run("return getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
        page.run("pin(0)")
        assert "There is no other image" in page.run("return document.getElementById('pin').textContent")
        assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
