"""The viewer in headless Chromium: it opens, a slider moves the picture, windows do not disturb each other.

Needs viser, playwright, and a Chromium: of playwright's own, or one that this machine has.
"""

import os
import shutil
import time

import numpy as np
import pytest

pytest.importorskip("viser", reason="needs viser (extra view)")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")

import cv2  # noqa: E402

from mofa_nvdr.apply.view_files import FaceLibrary  # noqa: E402
from mofa_nvdr.apply.view_server import FaceServer  # noqa: E402
from tests.helpers.viewed_faces import SIZE, viewed_folder  # noqa: E402

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_WAIT = 300.0  # s, on busy machines that draw WebGL in software
_FLAGS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = FaceServer(FaceLibrary(viewed_folder(tmp_path_factory.mktemp("view")), size=SIZE))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def browser():
    path = os.environ.get("MOFA_NVDR_CHROMIUM") or next(
        filter(None, map(shutil.which, _NAMES)), None
    )
    with playwright.sync_playwright() as play:
        try:
            browser = play.chromium.launch(executable_path=path, args=_FLAGS)
        except playwright.Error as error:
            pytest.skip(f"no Chromium here: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def page(server, browser):
    """Opens windows that show their pictures."""
    opened = []

    def call():
        context = browser.new_context(
            viewport={"width": 1000, "height": 320}, accept_downloads=True
        )
        page = context.new_page()
        page.set_default_timeout(1000 * _WAIT)
        page.goto(server.url)
        opened.append(context)
        _shown(page)
        return page

    yield call
    for context in opened:
        context.close()


def _until(true):
    end = time.monotonic() + _WAIT
    while not true():
        assert time.monotonic() < end, "the page did not follow"
        time.sleep(0.2)


_PICTURE = """async () => {
    const own = (i) => /^(blob:|data:image.jpeg)/.test(i.src) && i.naturalHeight > 50;
    const picture = [...document.querySelectorAll("img")].find(own);
    if (!picture) return null;
    try {
        return Array.from(new Uint8Array(await (await fetch(picture.src)).arrayBuffer()));
    } catch {  // a newer picture has taken its place
        return null;
    }
}"""


def _picture(page):
    """The picture in the page, [H, W, 3]; None: there is none yet."""
    data = page.evaluate(_PICTURE)
    if not data:
        return None
    return cv2.imdecode(np.array(data, np.uint8), cv2.IMREAD_COLOR).astype(int)


def _shown(page):
    """The picture in the page, as soon as there is one of the server's."""
    found = []
    _until(
        lambda: (p := _picture(page)) is not None and (found.append(p) or p.shape[1] == 3 * SIZE)
    )
    return found[-1]


def _slider(page, label):
    """The field of numbers next to a slider."""
    row = page.get_by_text(label, exact=True).first.locator(
        "xpath=ancestor::*[.//input[@inputmode='decimal' or @type='text']][1]"
    )
    return row.locator("input[inputmode='decimal'], input[type='text']").first


def _type(page, label, value):
    field = _slider(page, label)
    field.fill(str(value))
    field.press("Enter")


@pytest.mark.slow
class TestBrowser:
    def test_opens(self, page, server):
        window = page()
        assert window.get_by_text("Sun", exact=True).first.is_visible()
        assert window.locator("canvas").count() >= 1
        height = _shown(window).shape[0] // 2
        assert _shown(window)[:SIZE].std() > 20 and height > SIZE

    def test_a_slider_moves_the_shown(self, page, server):
        window = page()
        before = _shown(window)
        _type(window, "yaw, °", 35)
        _until(lambda: server.windows[-1].view.controls.values["yaw"] == 35)
        _until(lambda: np.abs(_shown(window) - before).mean() > 2)

    def test_two_windows_do_not_disturb_each_other(self, page, server):
        one, other = page(), page()
        before = _shown(one)
        _type(other, "yaw, °", 35)
        _until(lambda: np.abs(_shown(other) - before).mean() > 2)
        assert np.array_equal(_shown(one), before)
        assert float(_slider(one, "yaw, °").input_value()) == 0

    def test_saves(self, page):
        window = page()
        with window.expect_download() as found:
            window.get_by_text("picture", exact=True).first.click()
        assert found.value.suggested_filename == "a_view.png"

    def test_asks_nobody_else(self, page, server):
        """No request leaves this machine."""
        asked = []
        window = page()
        window.on("request", lambda request: asked.append(request.url))
        window.reload()
        _shown(window)
        others = [u for u in asked if not u.startswith((server.url, "blob:", "data:"))]
        assert asked and not others
