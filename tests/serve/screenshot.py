"""Takes a picture of the page with what it finds for images, as docs/serve.md shows it.

Example:
    python -m tests.serve.screenshot emoji.index serve.png photo.jpg
"""

import argparse
import os

from tests.commands.test_serve import serving
from tests.report.browser import open_browser
from tests.serve.test_page import Served


def main():
    """Serves the index, drops the images on the page, and takes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index")
    parser.add_argument("out")
    parser.add_argument("images", nargs="+")
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=1000)
    args = parser.parse_args()
    driver = open_browser(width=args.width, height=args.height)
    try:
        with serving(args.index) as (_, address, _):
            page = Served(driver, address)
            driver.find_element("id", "files").send_keys("\n".join(map(os.path.abspath, args.images)))
            page.done()
            page.run("document.querySelectorAll('.found img').forEach((one) => { one.loading = 'eager'; })")
            page.wait_for("[...document.querySelectorAll('.found img')].every((one) => one.complete)")
            driver.save_screenshot(args.out)
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
