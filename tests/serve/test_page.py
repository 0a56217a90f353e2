"""The page in a real browser: what a user does has its effect, nothing comes from elsewhere, and no name is markup."""

import json
import time
import urllib.request

import pytest
from PIL import Image

from hierpretrain.apis import EmbeddingInferencer
from hierpretrain.apis.index import EmbeddingIndex
from tests.commands.places import write_model, write_photos
from tests.commands.test_serve import serving
from tests.report.browser import CHROMIUM, DRIVER

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]

HOSTILE = "<img src=x onerror=document.title=1>"
PHOTOS = ["animal/cat/1.png", "animal/cat/2.png", f"animal/{HOSTILE}/3 & ?#%.png", "tool/a'\"b/4.png"]
DROP = """
const data = new DataTransfer();
for (const [name, text] of arguments[0]) {
  data.items.add(new File([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], name, {type: "image/png"}));
}
document.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    write_model(root)
    for name in PHOTOS:
        (root / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
    write_photos(root, PHOTOS, broken="broken.png")
    (root / "photos/broken.png").unlink()
    model = EmbeddingInferencer(root / "tiny.py", root / "epoch_1.pth", device="cpu", progress=False)
    index = model.build_index(root / "photos", root / "photos.index")
    vectors = index.embeddings().features[:1] + 0.1
    index.add(embeddings=vectors, keys=[HOSTILE], paths=[("tool", "axe")], metadata={"colour": [HOSTILE]})
    return root


@pytest.fixture(scope="module")
def address(root):
    with serving(root / "photos.index", "--image-root", root / "photos") as (_, address, _):
        yield address


class Served:
    """The page of a service, open."""

    def __init__(self, driver, address, page="/"):
        self.driver = driver
        driver.get(address + page)
        self.wait_for("document.body.dataset.ready")

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait_for(self, condition, seconds=20):
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, seconds).until(lambda driver: self.run(f"return Boolean({condition})"), condition)

    def texts(self, selector):
        return self.run("return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)", selector)

    def done(self):
        self.wait_for("!document.getElementById('again').disabled && document.querySelector('#results section')")


@pytest.fixture
def page(driver, address):
    """The page; what the browser complains of, or asks of others, fails the test."""
    driver.get_log("browser"), driver.get_log("performance")
    opened = Served(driver, address)
    yield opened
    assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert all(one.startswith((address, "data:", "blob:")) for one in asked), asked
    assert driver.title == "HierPretrain"  # no script of a name has run


def test_a_chosen_image_is_searched_for(page, root):
    assert page.texts("#about") == ["5 images, tiny, epoch_1.pth"]
    page.driver.find_element("id", "files").send_keys(str(root / "photos" / PHOTOS[0]))
    page.done()
    scores = [float(text) for text in page.texts(".score")]
    assert scores[0] == 1
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 5
    assert page.texts(".query h2") == ["1.png"]
    assert page.texts(".found .branch")[0] == "animal / cat"
    assert f"animal / {HOSTILE}" in page.texts(".found .branch")
    assert f"colour: {HOSTILE}" in page.texts(".found .soft")
    assert "fractions of votes, not calibrated" in page.texts(".query p")[0]
    page.run("document.querySelectorAll('.found img').forEach((one) => { one.loading = 'eager'; })")
    page.wait_for(
        "[...document.querySelectorAll('.found img')].every((one) => one.complete && one.naturalWidth === 40)"
    )
    assert len(page.texts(".found img")) == 4
    assert page.texts(".picture").count("no file") == 1
    assert "animal/cat/1.png" in page.texts(".found .soft")


def test_dropped_images_are_searched_for_in_a_branch(page, root):
    import base64

    files = [
        [name, base64.b64encode((root / "photos" / path).read_bytes()).decode()]
        for name, path in zip(("one.png", HOSTILE), PHOTOS, strict=False)
    ]
    page.run(DROP, files)
    page.done()
    assert page.texts(".query h2") == ["one.png", HOSTILE]
    page.run(
        "[...document.querySelectorAll('.branch')].find((one) => one.textContent.startsWith('animal / <')).click()"
    )
    page.wait_for("document.querySelectorAll('.score').length === 2")
    assert page.texts(".found .branch") == [f"animal / {HOSTILE}"] * 2
    page.run("document.getElementById('within').value = 'tool'; document.getElementById('again').click()")
    page.wait_for("document.querySelectorAll('.score').length === 4")
    assert {text.split(" / ")[0] for text in page.texts(".found .branch")} == {"tool"}
    page.run(
        "document.getElementById('where').value = arguments[0]; document.getElementById('k').value = 1;"
        "document.getElementById('again').click()",
        f"colour={HOSTILE}",
    )
    page.wait_for("document.querySelectorAll('.score').length === 2")
    assert set(page.texts(".found .branch")) == {"tool / axe"}


def test_errors_are_shown(page, tmp_path):
    (tmp_path / "no image.png").write_bytes(b"text")
    page.driver.find_element("id", "files").send_keys(str(tmp_path / "no image.png"))
    page.wait_for("document.querySelector('#message.wrong')")
    assert page.texts("#message")[0].startswith("cannot read the image 'no image.png': it is of no known format")
    complaints = [entry["message"] for entry in page.driver.get_log("browser")]  # the browser's own, of status 400
    assert all("400 (Bad Request)" in text for text in complaints)


@pytest.mark.parametrize("width", [1440, 500])
def test_nothing_is_wider_than_the_window(page, root, width):
    page.driver.set_window_size(width, 1000)
    page.driver.find_element("id", "files").send_keys("\n".join(str(root / "photos" / name) for name in PHOTOS[:2]))
    page.done()
    assert page.run("return document.documentElement.scrollWidth <= window.innerWidth")


def test_the_endpoints_are_listed(driver, address):
    page = Served(driver, address, "/docs")
    assert "POST /api/search" in page.texts("h2 code")
    assert "within" in page.texts("li code")
    assert sum("Needs the token" in text for text in page.texts(".endpoint")) == 2


def test_the_picture_of_a_page_elsewhere_is_not_given(driver, address, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "own.png")
    (tmp_path / "evil.html").write_text(
        f"<body><img id=a src='{address}/api/thumbnail?path=animal/cat/1.png'><img id=b src=own.png></body>"
    )
    driver.get(f"file://{tmp_path}/evil.html")
    widths = driver.execute_script("return ['a', 'b'].map((id) => document.getElementById(id).naturalWidth)")
    assert widths == [0, 4]


def test_without_a_calibration_that_fits_the_page_searches_and_tells_no_classes(driver, address, root):
    index = EmbeddingIndex.open(root / "photos.index", device="cpu")
    index.parts["calibration"] = {"of": "another tree"}
    end = time.monotonic() + 20
    while json.load(urllib.request.urlopen(f"{address}/api/info"))["calibrated"] is not None:
        assert time.monotonic() < end
        time.sleep(0.1)
    page = Served(driver, address)
    page.driver.find_element("id", "files").send_keys(str(root / "photos" / PHOTOS[0]))
    page.done()
    assert len(page.texts(".score")) == 5
    assert page.texts(".query p") == []
    index.calibration = None
