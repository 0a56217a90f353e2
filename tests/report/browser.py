"""A headless Chromium with a report open in it."""

import shutil
import time

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


def open_browser(profile=None, *, width=1440, height=1000, webgl=True):
    """Starts a browser, with a profile folder of its own; nothing if Chromium or selenium is missing."""
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        return None
    if not (CHROMIUM and DRIVER):
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = [f"--user-data-dir={profile}"] if profile else []
    for option in [*_OPTIONS, *(_WEBGL if webgl else ["--disable-3d-apis"]), *profile]:
        options.add_argument(option)
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(service=Service(DRIVER), options=options)


class Page:
    """A report that is open and drawn."""

    def __init__(self, driver, path, wait=30):
        self.driver = driver
        driver.get(f"file://{path}")
        self.wait_for("document.body.dataset.ready && document.getElementById('map-plot').dataset.drawn", wait)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait_for(self, condition, seconds=10):
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < end, f"never came true: {condition}"
            time.sleep(0.05)

    def choose(self, select, value):
        """Does what a user does who picks an option."""
        self.run(
            "const s = document.getElementById(arguments[0]); s.value = arguments[1];"
            "s.dispatchEvent(new Event('input', {bubbles: true})); s.dispatchEvent(new Event('change'))",
            select,
            value,
        )
