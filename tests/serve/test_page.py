"""The page in a real Chromium: strokes are drawn, answers are read."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastdigit
from fastdigit.datasets import load_mnist_test
from tests.support import need
from tests.support.serving import Server, serving
from tests.support.written import written

need("starlette", "uvicorn", "httptools", "prometheus_client", "PIL")
sync_api = need("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (Debian: apt install)"),
]

#: Width of the board in its own pixels.
BOARD = 420

#: Strokes of some digits, on a board of 280 by 280.
DIGITS: dict[int, list[list[tuple[int, int]]]] = {
    0: [
        [(140, 50), (95, 85), (85, 140), (95, 195), (140, 230)],
        [(140, 230), (185, 195), (195, 140), (185, 85), (140, 50)],
    ],
    1: [[(140, 45), (140, 235)]],
    4: [[(100, 50), (85, 145), (190, 145)], [(175, 60), (175, 235)]],
    7: [[(85, 60), (195, 60), (130, 235)]],
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running
        assert "Traceback" not in running.log


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield chromium
        chromium.close()


@pytest.fixture(params=["desktop", "phone"])
def page(request: pytest.FixtureRequest, server: Server, browser: Any) -> Iterator[Any]:
    phone = request.param == "phone"
    size = {"width": 360, "height": 740} if phone else {"width": 1000, "height": 700}
    context = browser.new_context(viewport=size, has_touch=phone, is_mobile=phone)
    page = context.new_page()
    problems: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda sent: requests.append(sent.url))
    page.goto(server.url)
    yield page
    # A browser logs each refusal, such as of a digit that is half drawn beside another.
    assert [text for text in problems if "status of 400" not in text] == []
    assert all(url.startswith((server.url, "data:", "blob:")) for url in requests)
    context.close()


def draw(page: Any, strokes: list[list[tuple[int, int]]]) -> None:
    box = page.locator("#board").bounding_box()
    scale = box["width"] / BOARD
    for stroke in strokes:
        points = [(box["x"] + scale * x, box["y"] + scale * y) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=6)
        page.mouse.up()


def small(digit: int, left: int) -> list[list[tuple[int, int]]]:
    """Strokes of a digit that is half as large."""
    return [[(left + x // 2, 60 + y // 2) for x, y in stroke] for stroke in DIGITS[digit]]


def coloured(page: Any) -> np.ndarray:
    """Where the board shows boxes and labels: (280, BOARD)."""
    pixels = page.evaluate(
        "Array.from(board.getContext('2d').getImageData(0, 0, board.width, board.height).data)"
    )
    image = np.array(pixels, np.int16).reshape(280, BOARD, 4)
    return (image[..., :3].max(-1) - image[..., :3].min(-1)) > 60


def numbers(texts: list[str]) -> list[float]:
    return [float(text.removesuffix(" %")) for text in texts]


def percentages(page: Any) -> list[float]:
    return numbers(page.locator("#bars .percent").all_text_contents())


def settled(page: Any, digit: object) -> None:
    sync_api.expect(page.locator("#answer")).to_have_text(f"It is a {digit}")
    page.wait_for_load_state("networkidle")


@pytest.mark.parametrize("digit", DIGITS)
def test_a_drawn_digit_is_read(page: Any, digit: int) -> None:
    page.locator("#clear").click()
    sync_api.expect(page.locator("#answer")).to_have_text("Nothing drawn yet")
    draw(page, DIGITS[digit])
    settled(page, digit)
    shown = percentages(page)
    assert len(shown) == 10 and int(np.argmax(shown)) == digit
    assert abs(sum(shown) - 100) < 1
    assert page.locator("#bars .best .name").all_text_contents() == [str(digit)]
    widths = page.locator("#bars .fill").evaluate_all(
        "bars => bars.map(bar => bar.getBoundingClientRect().width)"
    )
    assert int(np.argmax(widths)) == digit
    assert "ms network" in page.locator("#time").text_content()
    # The image is what the network saw: it says the same about it. Both are read at once, because
    # the answer to the last stroke may still come.
    texts, pixels = page.evaluate(
        "[Array.from(document.querySelectorAll('#bars .percent'), (text) => text.textContent),"
        "Array.from(document.getElementById('seen').getContext('2d')"
        ".getImageData(0, 0, 28, 28).data)]"
    )
    image = np.array(pixels, np.uint8).reshape(28, 28, 4)[..., 0]
    assert image.max() == 255
    again = 100 * fastdigit.predict_proba(image)[0]
    np.testing.assert_allclose(numbers(texts), again, rtol=0, atol=0.051)


def test_it_fits_the_width(page: Any) -> None:
    draw(page, DIGITS[7])
    settled(page, 7)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for selector in ("#board", "#bars", "#seen", "#clear", "#choose"):
        box = page.locator(selector).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= page.viewport_size["width"]
    heights = page.locator("#bars .percent").evaluate_all("all => all.map(one => one.offsetHeight)")
    assert len(set(heights)) == 1, "100.0 % must not wrap"
    if directory := os.environ.get("FASTDIGIT_SCREENSHOTS"):
        page.screenshot(path=f"{directory}/page-{page.viewport_size['width']}.png", full_page=True)


def test_the_keyboard_is_enough(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "board"
    page.keyboard.press("Space")
    for _ in range(18):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    settled(page, 1)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "clear"
    page.keyboard.press("Enter")
    sync_api.expect(page.locator("#answer")).to_have_text("Nothing drawn yet")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    page.keyboard.press("Escape")


def png(digit: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(255 - digit.repeat(10, 0).repeat(10, 1)).save(file, "PNG")
    return file.getvalue()


def test_a_picture_is_opened_or_dropped(page: Any) -> None:
    images, labels = load_mnist_test()
    picture = {"name": "a.png", "mimeType": "image/png", "buffer": png(images[0])}
    page.locator("#file").set_input_files(picture)
    settled(page, labels[0])
    transfer = page.evaluate_handle(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "b.png", {type: "image/png"}));
            return transfer;
        }""",
        list(png(images[1])),
    )
    page.dispatch_event("#board", "drop", {"dataTransfer": transfer})
    settled(page, labels[1])
    page.locator("#file").set_input_files(
        {"name": "c.png", "mimeType": "image/png", "buffer": b"no picture"}
    )
    sync_api.expect(page.locator("#answer")).to_contain_text("no picture")


def test_several_digits_are_drawn(page: Any) -> None:
    answer = sync_api.expect(page.locator("#answer"))
    for place, digit in enumerate((4, 0, 7)):
        draw(page, small(digit, 10 + 110 * place))
    answer.to_have_text("It says 407")
    page.wait_for_load_state("networkidle")
    assert page.locator("#fields .name").all_text_contents() == ["407"]
    (probability,) = numbers(page.locator("#fields .percent").all_text_contents())
    assert 50 < probability <= 100
    assert not page.locator("#bars").is_visible() and not page.locator("#seen").is_visible()
    assert "ms to read" in page.locator("#time").text_content()
    # A box around each, and none elsewhere.
    columns = coloured(page).any(0)
    for place in range(3):
        assert columns[10 + 110 * place + 40 : 10 + 110 * place + 100].any()
    assert not columns[345:].any()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if directory := os.environ.get("FASTDIGIT_SCREENSHOTS"):
        name = f"{directory}/page-fields-{page.viewport_size['width']}.png"
        page.screenshot(path=name, full_page=True)
    page.locator("#clear").click()
    answer.to_have_text("Nothing drawn yet")
    assert page.locator("#bars").is_visible() and not page.locator("#fields").is_visible()
    assert not coloured(page).any()
    draw(page, DIGITS[7])
    settled(page, 7)
    assert page.locator("#bars").is_visible()


@pytest.mark.parametrize("times", [1, 4], ids=["as PNG", "as JPEG"])
def test_boxes_are_shown_over_a_photograph(page: Any, times: int) -> None:
    from PIL import Image

    text = "7210 4149\n5906 9015"
    pixels = written(text)
    file = io.BytesIO()
    Image.fromarray(pixels.repeat(times, 0).repeat(times, 1)).save(file, "PNG")
    sent: list[str] = []
    page.on("request", lambda request: sent.append((request.post_data_buffer or b"")[:4]))
    picture = {"name": "a.png", "mimeType": "image/png", "buffer": file.getvalue()}
    page.locator("#file").set_input_files(picture)
    sync_api.expect(page.locator("#answer")).to_have_text(f"It says {text}")
    assert sent == [b"\x89PNG" if times == 1 else b"\xff\xd8\xff\xe0"], "one request, to /read"
    assert page.locator("#fields .name").all_text_contents() == text.split()
    # The boxes are where the ink is.
    height, width = pixels.shape
    scale = min(BOARD / width, 280 / height)
    left, top = (BOARD - width * scale) / 2, (280 - height * scale) / 2
    shown = coloured(page)
    rows, columns = (np.flatnonzero(shown.any(axis)) for axis in (1, 0))
    ink_rows, ink_columns = (np.flatnonzero((pixels < 128).any(axis)) for axis in (1, 0))
    assert abs(columns[0] - (left + scale * ink_columns[0])) < 12
    assert abs(columns[-1] - (left + scale * ink_columns[-1])) < 12
    assert abs(rows[-1] - (top + scale * ink_rows[-1])) < 12
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_photograph_is_pasted(page: Any) -> None:
    file = io.BytesIO()
    need("PIL.Image").fromarray(written("117 2024")).save(file, "PNG")
    page.evaluate(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "b.png", {type: "image/png"}));
            document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: transfer}));
        }""",
        list(file.getvalue()),
    )
    sync_api.expect(page.locator("#answer")).to_have_text("It says 117 2024")


def test_a_finger_draws(server: Server, browser: Any) -> None:
    context = browser.new_context(
        viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto(server.url)
    box = page.locator("#board").bounding_box()
    scale = box["width"] / BOARD
    protocol = context.new_cdp_session(page)
    points = [(140, y) for y in range(50, 235, 8)]
    for i, (x, y) in enumerate(points):
        touch = {"x": box["x"] + scale * x, "y": box["y"] + scale * y}
        kind = "touchMove" if i else "touchStart"
        protocol.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [touch]})
    protocol.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    settled(page, 1)
    assert page.evaluate("scrollY") == 0, "the page must not scroll under the finger"
    context.close()


def test_a_token_is_asked_for(browser: Any) -> None:
    with serving(FASTDIGIT_TOKEN="sesame") as server:
        page = browser.new_page()
        page.goto(server.url)
        draw(page, DIGITS[7])
        page.locator("#token").fill("sesame")
        page.get_by_text("Use it").click()
        settled(page, 7)
        page.close()
