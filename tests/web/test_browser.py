"""The web demo as visitors use it: the tool in its own process, and its page in a browser."""

import contextlib
import http.client
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from mmsagan.apis import init_model, interpolate, sample
from mmsagan.apis.sampling import sample_inputs
from mmsagan.visualization import image_grid
from mmsagan.web.handlers import attention_panels, sample_grid

TOOL = Path(__file__).parent.parent.parent / 'tools' / 'web_demo.py'
# Python runs this first; it logs the names and addresses that the server's process asks for.
AUDIT = """
import os, sys
def note(event, arguments):
    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname'):
        with open(os.environ['AUDIT_LOG'], 'a') as file:
            print(event, arguments[1] if event == 'socket.connect' else arguments[0], file=file)
sys.addaudithook(note)
"""


# Contrasts of texts with the background, by the definition of WCAG 2.1, that are below 4.5:1.
LOW_CONTRASTS = """() => {
  const parse = color => color.match(/[0-9.]+/g).map(Number);
  const linear = value => value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const background = element => {
    for (; element; element = element.parentElement) {
      const color = parse(getComputedStyle(element).backgroundColor);
      if (color.length < 4 || color[3] > 0.5) return color;
    }
    return [255, 255, 255];
  };
  const found = {};
  for (const element of document.querySelectorAll('body *')) {
    const text = [...element.childNodes].filter(node => node.nodeType === 3).map(node => node.textContent.trim()).join('');
    if (!text || !element.checkVisibility() || ['SCRIPT', 'STYLE'].includes(element.tagName)) continue;
    const pair = [parse(getComputedStyle(element).color), background(element)].map(luminance).sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) found[text] = ratio;
  }
  return found;
}"""


@contextlib.contextmanager
def serve(folder: Path, experiment, *options: str):
    """The running tool: its url, and the log of the addresses that it has asked for."""
    (folder / 'sitecustomize.py').write_text(AUDIT)
    (folder / 'temporary').mkdir()
    path = os.pathsep.join([str(folder), str(TOOL.parent.parent), *filter(None, [os.environ.get('PYTHONPATH')])])
    env = dict(os.environ, PYTHONPATH=path, AUDIT_LOG=str(folder / 'audit'), TMPDIR=str(folder / 'temporary'))
    env.update(OMP_NUM_THREADS='1', http_proxy='http://127.0.0.1:9', HTTP_PROXY='http://127.0.0.1:9')
    arguments = [experiment.config, str(experiment.folder), '--device', 'cpu', '--max-images', '50', '--port', '0', *options]
    log = folder / 'log'
    with open(log, 'w') as file:
        process = subprocess.Popen([sys.executable, str(TOOL), *arguments], stdout=file, stderr=subprocess.STDOUT, env=env)
    try:
        end = time.monotonic() + 120
        while not (found := re.search(r'http://\S+', log.read_text())):
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield SimpleNamespace(url=found[0], log=log, audit=folder / 'audit')
        assert process.poll() is None and 'Traceback' not in log.read_text(), log.read_text()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0 and log.read_text().endswith('stopped\n'), log.read_text()
        assert list((folder / 'temporary').iterdir()) == [], 'temporary files are removed'
    finally:
        process.kill()


@pytest.fixture(scope='module')
def demo(tmp_path_factory, experiment):
    with serve(tmp_path_factory.mktemp('demo'), experiment) as served:
        yield served


@pytest.fixture(scope='module')
def new_page(demo):
    """Opens a page for a new visitor: new_page() -> the page with its first samples, and the URLs that it requests."""
    browser_path = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if browser_path is None:
        pytest.skip('needs Chromium')
    playwright = pytest.importorskip('playwright.sync_api')
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=['--no-sandbox'])

        def open_page(url=demo.url, **options):
            context = browser.new_context(**{'viewport': dict(width=1280, height=1000), **options})
            page, requested = context.new_page(), []
            context.on('request', lambda request: requested.append(request.url))
            page.goto(url)
            page.locator('#attention-feat16 img').wait_for()
            return page, requested

        yield open_page
        browser.close()


@pytest.fixture(scope='module')
def visit(new_page):
    return new_page()


@pytest.fixture(scope='module')
def model(experiment):
    return init_model(experiment.config, experiment.checkpoint)


def eventually(page, check: Callable, *arguments) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            return check(*arguments)
        except AssertionError:
            if time.monotonic() > end:
                raise
            page.wait_for_timeout(50)


def open_tab(page, name: str):
    page.get_by_role('tab', name=name).click()
    return page.locator('[role=tabpanel]:visible')


def picture(page, name: str) -> np.ndarray:
    image = page.locator(f'#{name} img')
    data = page.request.get(image.evaluate('image => image.src')).body()
    return np.array(Image.open(io.BytesIO(data))).astype(int)


def assert_same(images: np.ndarray, expected) -> None:
    """Equal except for the rounding of floats that differ in the last bits."""
    expected = expected.permute(0, 2, 3, 1).numpy().astype(int)
    assert images.shape == expected.shape and np.abs(images - expected).max() <= 1


def name_height(scale: int) -> int:
    return min(40, 34 * scale // 5)


def shows(page, name: str, expected, columns: int) -> None:
    """Images of 32x32 pixels, each enlarged by the same factor; below those of a grid there is its class."""
    shown = picture(page, name)
    scale = shown.shape[1] // (columns * 34 + 2)
    pitch = 34 * scale + (0 if name == 'strip' else name_height(scale))
    corners = [(2 * scale + index // columns * pitch, (2 + index % columns * 34) * scale) for index in range(len(expected))]
    large = np.stack([shown[top : top + 32 * scale, left : left + 32 * scale] for top, left in corners])
    small = large[:, scale // 2 :: scale, scale // 2 :: scale]
    np.testing.assert_array_equal(small.repeat(scale, 1).repeat(scale, 2), large)
    assert_same(small, expected)
    for top, left in corners if name != 'strip' else []:
        below = shown[top + 32 * scale : top + 32 * scale + name_height(scale), left : left + 32 * scale]
        assert below.min() < 100, 'a name'


def shows_attention(page, panels: list) -> None:
    for name, (expected, _) in zip(('image', 'feat8', 'feat16'), panels, strict=True):
        assert np.abs(picture(page, f'attention-{name}') - expected).max() <= 1


def shows_text(locator, *parts: str) -> None:
    text = ' '.join(locator.all_inner_texts())
    assert all(part in text for part in parts), text


def pick(panel, label: str, *names: str) -> None:
    panel.get_by_label(label).first.click()
    for name in names:
        panel.page.keyboard.type(name)
        panel.page.keyboard.press('Enter')
    panel.page.keyboard.press('Escape')


def enter(panel, label: str, value: object, leave: str = 'Enter') -> None:
    field = panel.get_by_label(label, exact=True).locator('visible=true').first
    field.fill(str(value))
    panel.page.locator('#header').click() if leave == 'click' else field.press(leave)


def set_slider(panel, label: str, value: object):
    field = panel.locator(f'input[type=number][aria-label*="{label}"]')
    field.fill(str(value))
    field.press('Tab')
    return field


def click_pixel(page, index: int, x: float, y: float, columns: int, rows: int) -> None:
    """Clicks the middle of a pixel of an image of the grid."""
    box, (height, width, _) = page.locator('#samples img').bounding_box(), picture(page, 'samples').shape
    scale = width // (columns * 34 + 2)
    across, down = (
        (2 + index % columns * 34 + x + 0.5) * scale,
        index // columns * (34 * scale + name_height(scale)) + (2 + y + 0.5) * scale,
    )
    page.mouse.click(box['x'] + across / width * box['width'], box['y'] + down / height * box['height'])


def test_sampling_and_attention(visit, model, tmp_path):
    page, _ = visit
    eventually(page, shows, page, 'samples', sample(model, 16, seed=0), 4)
    panel = open_tab(page, 'Sample')
    number, truncation = set_slider(panel, 'Images', 10_000), set_slider(panel, 'Truncation', 0)
    eventually(page, shows, page, 'samples', sample(model, 50, seed=0, truncation=0.1), 8)
    assert (number.input_value(), truncation.input_value()) == ('50', '0.1'), 'the nearest values'
    set_slider(panel, 'Truncation', 3)

    pick(panel, 'Classes', 'shi', 'cat')
    set_slider(panel, 'Images', 3)
    enter(panel, 'Seed', 11)
    panel.get_by_text('raw weights').click()
    labels = [8, 8, 8, 3, 3, 3]
    expected = sample(model, labels=labels, seed=11, sample_model='orig')
    eventually(page, shows, page, 'samples', expected, 3)
    with page.expect_download() as download:
        panel.get_by_role('button', name='Download PNG').click()
    assert download.value.suggested_filename == 'iter_20_seed11.png'
    download.value.save_as(tmp_path / 'grid.png')
    with Image.open(tmp_path / 'grid.png') as image:
        assert image.format == 'PNG'
        np.testing.assert_array_equal(np.array(image), image_grid(expected, 3))

    caption, (_, grid) = page.locator('#attention-caption'), sample_grid(model, [8, 3], 3, 11, sample_model='orig')
    for index, x, y in [(4, 25, 3), (0, 0, 31)]:
        click_pixel(page, index, x, y, columns=3, rows=2)
        eventually(page, shows_attention, page, attention_panels(model, grid, index, x, y))
        shows_text(caption, f'({x}, {y})', f'image {index + 1}', 'cat' if index == 4 else 'ship')
    click_pixel(page, 0, 32.5, 10, columns=3, rows=2)  # between the images
    shows_text(caption, '(0, 31)')
    click_pixel(page, 1, 4, 4, columns=3, rows=2)
    eventually(page, shows_text, caption, '(4, 4)', 'image 2')
    box = page.locator('#attention-feat8 img').bounding_box()
    page.mouse.click(box['x'] + 20.5 / 32 * box['width'], box['y'] + 7.5 / 32 * box['height'])  # on the map of this image
    eventually(page, shows_text, caption, '(20, 7)', 'image 2')
    eventually(page, shows_attention, page, attention_panels(model, grid, 1, 20, 7))
    button, seed = (
        panel.get_by_role('button', name='Sample', exact=True),
        panel.get_by_label('Seed', exact=True).locator('visible=true').first,
    )
    button.click()
    eventually(page, lambda: shows_text(panel, f'Seed {seed.input_value()}.'))
    drawn = seed.input_value()
    assert drawn != '11'
    panel.get_by_label('Randomize seed').uncheck()
    button.click()
    page.wait_for_timeout(300)
    assert seed.input_value() == drawn, 'the seed is kept'

    enter(panel, 'Seed', -3, 'Tab')
    eventually(page, shows_text, page.locator('.toast-body'), 'seed', '-3')
    page.wait_for_timeout(500)
    assert page.locator('.toast-body').count() == 1, 'said once'
    assert 'Traceback' not in page.content() and page.locator('#samples img').is_visible(), 'the samples stay'


def test_interpolation(visit, model):
    page, requested = visit
    panel = open_tab(page, 'Interpolate')
    page.locator('#strip img').wait_for()

    def calls() -> int:
        return sum('/queue/join' in url for url in requested)

    def noise(*seeds: int) -> np.ndarray:
        return np.concatenate([sample_inputs(model, seed).noise(0, 1) for seed in seeds])

    before = calls()
    for seed, leave in ((4, 'Tab'), (5, 'Enter'), (6, 'click')):
        enter(panel, 'To seed', seed, leave)
        frames = interpolate(model, 16, noise=noise(0, seed), labels=[0, 1])
        eventually(page, shows, page, 'strip', frames, 8)
    panel.get_by_label('To seed', exact=True).click()
    page.keyboard.press('Tab')  # which changes nothing
    page.wait_for_timeout(300)
    assert calls() == before + 3, 'a seed counts once, however it is entered'

    before = len(requested)
    page.locator('#step input[type=range]').fill('7')

    def is_shown():
        shot = Image.open(io.BytesIO(page.locator('.frame').screenshot())).convert('RGB')
        middles = [int((pixel + 0.5) * shot.width / 32) for pixel in range(32)]
        assert_same(np.array(shot).astype(int)[np.ix_(middles, middles)][None], frames[7:8])

    eventually(page, is_shown)
    assert len(requested) == before, 'the slider asks the server for nothing'
    enter(panel, 'To seed', 0)
    eventually(page, shows, page, 'strip', interpolate(model, 16, noise=noise(0), labels=[0, 1]), 8)
    pick(panel, 'To class', 'airplane')
    eventually(page, shows_text, page.locator('.toast-body'), 'both ends')


def test_comparing_checkpoints(visit, model, experiment):
    page, _ = visit
    panel = open_tab(page, 'Compare')
    other = init_model(experiment.config, experiment.folder / 'iter_10.pth')
    set_slider(panel, 'Images', 5)
    enter(panel, 'Seed', 9)
    label = sample_inputs(model, 9).labels(0, 5)
    eventually(page, shows, page, 'compared-left', sample(model, labels=label, seed=9), 3)
    eventually(page, shows, page, 'compared-right', sample(other, labels=label, seed=9), 3)
    pick(panel, 'Left', 'iter_10')
    panel.get_by_text('raw weights').last.click()
    eventually(page, shows, page, 'compared-left', sample(other, labels=label, seed=9), 3)
    eventually(page, shows, page, 'compared-right', sample(other, labels=label, seed=9, sample_model='orig'), 3)


@pytest.mark.parametrize('color_scheme', ['light', 'dark'])
def test_on_a_phone(color_scheme, new_page, model):
    """Samples come first, the map is on the same screen after a tap, and texts have enough contrast."""
    page, _ = new_page(viewport=dict(width=390, height=844), has_touch=True, color_scheme=color_scheme)
    eventually(page, shows, page, 'samples', sample(model, 16, seed=0), 4)
    click_pixel(page, 5, 9, 9, columns=4, rows=4)
    eventually(page, shows_text, page.locator('#attention-caption'), '(9, 9)', 'image 6')
    boxes = [page.locator(f'#{name} img').bounding_box() for name in ('samples', 'attention-feat8')]
    assert all(box['y'] >= 0 and box['y'] + box['height'] <= 844 for box in boxes)
    assert page.evaluate('document.documentElement.scrollWidth') == 390, 'nothing is cut off'
    assert page.evaluate(LOW_CONTRASTS) == {}


def test_visitors_get_their_own_results(visit, new_page, model):
    pages = [visit[0], new_page(color_scheme='dark')[0]]
    pages[0].reload()
    for seed, page in enumerate(pages, 20):
        set_slider(open_tab(page, 'Sample'), 'Images', 8)
        enter(open_tab(page, 'Sample'), 'Seed', seed)
    for seed, page in enumerate(pages, 20):
        eventually(page, shows, page, 'samples', sample(model, 8, seed=seed), 3)
    for index, page in enumerate(pages, 3):
        click_pixel(page, index, 9, 9, columns=3, rows=3)
    for index, page in enumerate(pages, 3):
        _, grid = sample_grid(model, [], 8, 17 + index)
        eventually(page, shows_attention, page, attention_panels(model, grid, index, 9, 9))


class Proxy(BaseHTTPRequestHandler):
    """A reverse proxy that offers the page below /demo/, and nothing else; the path is removed from the requests."""

    target: str

    def do_GET(self):
        if not self.path.startswith('/demo/'):
            return self.send_error(404)
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        connection = http.client.HTTPConnection(self.target)
        connection.request(self.command, self.path.removeprefix('/demo'), body, dict(self.headers))
        response = connection.getresponse()
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ('transfer-encoding', 'connection'):
                self.send_header(name, value)
        self.end_headers()
        while part := response.read1():  # also events, as they come
            self.wfile.write(part)
            self.wfile.flush()

    do_POST = do_GET

    def log_message(self, *_):
        pass


def test_behind_a_proxy_in_a_browser(new_page, tmp_path, experiment, model):
    (tmp_path / 'demo').mkdir()
    with serve(tmp_path / 'demo', experiment, '--root-path', '/demo') as served:
        proxy = ThreadingHTTPServer(('127.0.0.1', 0), type('Handler', (Proxy,), dict(target=urlsplit(served.url).netloc)))
        proxy.daemon_threads = True
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        root = f'http://127.0.0.1:{proxy.server_port}/demo/'
        page, requested = new_page(root)
        eventually(page, shows, page, 'samples', sample(model, 16, seed=0), 4)
        set_slider(open_tab(page, 'Sample'), 'Images', 9)
        eventually(page, shows, page, 'samples', sample(model, 9, seed=0), 3)
        click_pixel(page, 4, 5, 6, columns=3, rows=3)
        eventually(page, shows_text, page.locator('#attention-caption'), '(5, 6)', 'image 5')
        assert all(url.startswith((root, 'data:', 'blob:')) for url in requested)
        page.context.close()
        proxy.shutdown()


def test_nothing_outside_is_requested(visit, demo):
    page, requested = visit
    outside = [url for url in requested if not url.startswith((demo.url, 'data:', 'blob:'))]
    assert len(requested) > 50 and outside == []
    assert page.locator('a[href^="http"]').count() == 0, 'no links that lead out'
    for path in ('/etc/hostname', demo.log):
        assert page.request.get(f'{demo.url}gradio_api/file={path}').status in (403, 404)
    # The one address is its own.
    assert set(demo.audit.read_text().splitlines()) == {'socket.getaddrinfo 127.0.0.1'}
