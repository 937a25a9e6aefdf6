"""A visit to the web demo: how long a click takes to be answered, and what the page looks like."""

import statistics
import time
from pathlib import Path

from mmsagan.models import ConditionalGAN
from mmsagan.web.handlers import attention_of, sample_grid
from mmsagan.web.requests import Look, SampleRequest

_NUM_IMAGES = 16
_SCREENS = {
    'desktop': dict(viewport=dict(width=1280, height=900)),
    'dark': dict(viewport=dict(width=1280, height=900), color_scheme='dark'),
    'phone': dict(viewport=dict(width=390, height=844), device_scale_factor=2),
}
_TABS = {'Sample': '#attention-image img', 'Interpolate': '#strip img', 'Compare': '#compared-right img'}
# When a click happens, and when the last picture that it changes has been drawn.
_WATCH = """
() => {
  document.addEventListener('click', () => { window.clicked = performance.now(); window.drawn = []; }, true);
  document.addEventListener('load', event => {
    if (event.target.closest('[id^=attention-]'))
      requestAnimationFrame(() => window.drawn.push(performance.now() - window.clicked));
  }, true);
}
"""


def handler_seconds(model: ConditionalGAN, clicks: int) -> list[float]:
    """How long it takes to compute and draw the attention of one pixel after another."""
    grid = sample_grid(model, SampleRequest((), _NUM_IMAGES, 0), Look())
    seconds = []
    for click in range(clicks + 1):
        start = time.perf_counter()
        attention_of(model, grid, click % _NUM_IMAGES, *_pixel(click, grid.layout.size))
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def click_seconds(page, size: int, clicks: int) -> list[float]:
    """How long it takes in the browser from the click of a pixel to the last picture of its attention being drawn.

    Args:
        page: Playwright's, with the first samples.
        size: Of an image, in pixels.
        clicks: Number of pixels.
    """
    page.evaluate(_WATCH)
    box = page.locator('#samples img').bounding_box()
    panels = page.locator('[id^=attention-] img').count()
    seconds = []
    for click in range(clicks + 1):
        x, y = (2 + (click + axis) % 4 * (size + 2) + pixel + 0.5 for axis, pixel in enumerate(_pixel(click, size)))
        side = 4 * (size + 2) + 2
        page.mouse.click(box['x'] + x / side * box['width'], box['y'] + y / side * box['height'])
        page.wait_for_function('count => window.drawn.length >= count', arg=panels)
        seconds.append(page.evaluate('Math.max(...window.drawn)') / 1000)
    return seconds[1:]


def take_screenshots(browser, url: str, folder: Path) -> list[Path]:
    """Takes pictures of every tab, on a desktop, in the dark and on a phone.

    Args:
        browser: Playwright's.
        url: Of the page.
        folder: Where they go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for screen, options in _SCREENS.items():
        context = browser.new_context(**options)
        page = open_page(context, url)
        for tab, picture in _TABS.items():
            page.get_by_role('tab', name=tab).click()
            page.locator(picture).wait_for()
            page.wait_for_timeout(1000)  # transitions
            paths.append(folder / f'{screen}_{tab.lower()}.png')
            page.screenshot(path=paths[-1], full_page=True)
        context.close()
    return paths


def open_page(browser, url: str):
    """The page with its first samples."""
    page = browser.new_page()
    page.goto(url)
    page.locator('#attention-image img').wait_for()
    return page


def in_words(seconds: list[float]) -> str:
    """Median and maximum."""
    return f'{1000 * statistics.median(seconds):.0f} ms, at most {1000 * max(seconds):.0f} ms'


def _pixel(click: int, size: int) -> tuple[int, int]:
    return 7 * click % size, 11 * click % size
