"""The web demo as visitors have it: its tool in a process of its own, its page in a browser."""

import io
import json
import time
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from mmsagan.apis import attention_maps, init_model, interpolate, sample
from mmsagan.apis.sampling import sample_inputs
from mmsagan.errors import ConfigError
from mmsagan.visualization import image_grid
from mmsagan.visualization.attention import overlay
from mmsagan.web.browser import RunningDemo, find_browser, open_browser

try:
    find_browser()
except ConfigError as error:
    pytest.skip(str(error), allow_module_level=True)

# Python runs this first: whom the server's process asks for a name or a connection is noted.
AUDIT = """
import os, sys
def note(event, arguments):
    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname'):
        with open(os.environ['AUDIT_LOG'], 'a') as file:
            print(event, arguments[1] if event == 'socket.connect' else arguments[0], file=file)
sys.addaudithook(note)
"""


@pytest.fixture(scope='module')
def demo(tmp_path_factory, experiment):
    folder = tmp_path_factory.mktemp('demo')
    (folder / 'sitecustomize.py').write_text(AUDIT)
    (folder / 'temporary').mkdir()
    env = dict(PYTHONPATH=str(folder), AUDIT_LOG=str(folder / 'audit'), TMPDIR=str(folder / 'temporary'))
    env.update(OMP_NUM_THREADS='1', http_proxy='http://127.0.0.1:9', HTTP_PROXY='http://127.0.0.1:9')
    arguments = [experiment.config, experiment.folder, '--device', 'cpu', '--max-images', 50]
    with RunningDemo(arguments, folder / 'log', env) as demo:
        yield demo
        assert 'Traceback' not in demo.log.read_text(), demo.log.read_text()
        assert demo.stop() == 0 and demo.log.read_text().endswith('stopped\n')
        assert list((folder / 'temporary').iterdir()) == [], 'temporary files are removed'


@pytest.fixture(scope='module')
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture
def visit(browser, demo):
    """Opens the page as a visitor of his own: visit() -> the page, with its first samples."""
    contexts = []

    def visit(**options):
        contexts.append(browser.new_context(viewport=dict(width=1280, height=1000), **options))
        asked = []
        contexts[-1].on('request', lambda request: asked.append(request.url))
        page = contexts[-1].new_page()
        page.asked = asked
        page.goto(demo.url)
        page.locator('#attention-feat16 img').wait_for()
        return page

    yield visit
    for context in contexts:
        context.close()


@pytest.fixture(scope='module')
def model(experiment):
    return init_model(experiment.config, experiment.checkpoint)


def eventually(check: Callable[[], None], page, seconds: float = 20) -> None:
    """Has a check succeed, once the page is ready for it."""
    end = time.monotonic() + seconds
    while True:
        try:
            return check()
        except AssertionError:
            if time.monotonic() > end:
                raise
            page.wait_for_timeout(50)


def open_tab(page, name: str):
    page.get_by_role('tab', name=name).click()
    return page.locator('[role=tabpanel]:visible')


def picture(page, name: str) -> np.ndarray:
    """What the page shows as a picture."""
    image = page.locator(f'#{name} img')
    data = page.request.get(image.evaluate('image => image.src')).body()
    return np.array(Image.open(io.BytesIO(data))).astype(int)


def images_in(picture: np.ndarray, count: int, columns: int, size: int = 32, padding: int = 2) -> np.ndarray:
    """The images of a grid, enlarged or not, (N, H, W, 3)."""
    scale = picture.shape[1] // (columns * (size + padding) + padding)
    small = picture[scale // 2 :: scale, scale // 2 :: scale]
    np.testing.assert_array_equal(small.repeat(scale, 0).repeat(scale, 1), picture)
    corners = [
        (padding + index // columns * (size + padding), padding + index % columns * (size + padding)) for index in range(count)
    ]
    return np.stack([small[top : top + size, left : left + size] for top, left in corners])


def assert_same(images: np.ndarray, expected) -> None:
    """Equal but for the rounding of floats that differ in the last bits."""
    expected = expected.permute(0, 2, 3, 1).numpy().astype(int)
    assert images.shape == expected.shape and np.abs(images - expected).max() <= 1


def shows(page, name: str, expected, columns: int) -> Callable[[], None]:
    return lambda: assert_same(images_in(picture(page, name), len(expected), columns), expected)


def pick(panel, label: str, *names: str) -> None:
    """Picks choices of a list by typing a part of their names."""
    panel.get_by_label(label).first.click()
    for name in names:
        panel.page.keyboard.type(name)
        panel.page.keyboard.press('Enter')
    panel.page.keyboard.press('Escape')


def enter(panel, label: str, value: object) -> None:
    field = panel.get_by_label(label, exact=True).locator('visible=true').first
    field.fill(str(value))
    field.press('Enter')


def set_number(panel, value: int) -> None:
    field = panel.locator('input[type=number][aria-label*="Images"]')
    field.fill(str(value))
    field.press('Tab')


def click_pixel(page, index: int, x: float, y: float, columns: int, rows: int) -> None:
    """Clicks the middle of a pixel of an image of the grid."""
    box = page.locator('#samples img').bounding_box()
    across, down = 2 + index % columns * 34 + x + 0.5, 2 + index // columns * 34 + y + 0.5
    page.mouse.click(box['x'] + across / (columns * 34 + 2) * box['width'], box['y'] + down / (rows * 34 + 2) * box['height'])


def test_sampling_and_what_is_attended_to(visit, model, tmp_path):
    page = visit()
    eventually(shows(page, 'samples', sample(model, 16, seed=0), 4), page)
    panel = open_tab(page, 'Sample')
    pick(panel, 'Classes', 'shi', 'cat')
    set_number(panel, 3)
    enter(panel, 'Seed', 11)
    panel.get_by_text('raw weights').click()
    labels = [8, 8, 8, 3, 3, 3]
    expected = sample(model, labels=labels, seed=11, sample_model='orig')
    eventually(shows(page, 'samples', expected, 3), page)

    with page.expect_download() as download:
        panel.get_by_role('button', name='Download PNG').click()
    assert download.value.suggested_filename == 'iter_20_seed11.png'
    download.value.save_as(tmp_path / 'grid.png')
    with Image.open(tmp_path / 'grid.png') as image:
        assert image.format == 'PNG'
        np.testing.assert_array_equal(np.array(image), image_grid(expected, 3))

    for index, x, y in [(4, 25, 3), (0, 0, 31)]:
        click_pixel(page, index, x, y, columns=3, rows=2)
        found = attention_maps(model, [(x, y)], labels=labels, seed=11, sample_model='orig')
        image = found.images[index].permute(1, 2, 0).numpy()
        assert list(found.maps) == ['feat8', 'feat16']
        for layer, maps in found.maps.items():
            attention = maps[index, 0].numpy()
            covered = np.rint(255 * overlay(image, attention / attention.max()))

            def is_shown(layer=layer, covered=covered, x=x, y=y):
                shown = picture(page, f'attention-{layer}')
                scale = shown.shape[0] // 32
                difference = np.abs(shown[scale // 2 :: scale, scale // 2 :: scale] - covered)
                assert difference[y, x].max() <= 1
                difference[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = 0  # the ring
                assert difference.max() <= 1

            eventually(is_shown, page)
        name = 'cat' if index == 4 else 'ship'
        assert f'from pixel ({x}, {y}) of image {index + 1}, class {name}' in page.locator('#attention-caption').inner_text()

    before = page.locator('#attention-caption').inner_text()
    click_pixel(page, 0, 32.5, 10, columns=3, rows=2)  # between the images
    click_pixel(page, 1, 4, 4, columns=3, rows=2)
    eventually(lambda: _assert_in('(4, 4) of image 2', page.locator('#attention-caption').inner_text()), page)
    assert before.startswith('Attention from pixel (0, 31)') and not page.locator('.toast-body').count()

    panel.get_by_role('button', name='Random').click()
    eventually(lambda: _assert_in(f'Seed {panel.get_by_label("Seed").first.input_value()}.', panel.inner_text()), page)
    assert panel.get_by_label('Seed').first.input_value() != '11'


def _assert_in(part: str, text: str) -> None:
    assert part in text


def test_the_slider_goes_from_one_sample_to_another(visit, model):
    page = visit()
    panel = open_tab(page, 'Interpolate')
    enter(panel, 'To seed', 4)
    noise = np.concatenate([sample_inputs(model, seed).noise(0, 1) for seed in (0, 4)])
    frames = interpolate(model, 16, noise=noise, labels=[0, 1])
    eventually(shows(page, 'strip', frames, 8), page)
    asked = len(page.asked)
    slider = page.locator('#step input[type=range]')
    for step in (0, 7, 15):
        slider.fill(str(step))
        eventually(lambda step=step: assert_same(_frame(page)[None], frames[step : step + 1]), page)
    assert len(page.asked) == asked, 'sliding asks the server for nothing'
    enter(panel, 'To seed', 0)
    pick(panel, 'To class', 'airplane')
    eventually(lambda: _assert_in('both ends are the same image', toasts(page)), page)
    eventually(shows(page, 'strip', interpolate(model, 16, noise=noise[:1], labels=[0, 1]), 8), page)


def test_a_seed_counts_once_however_it_is_entered(visit, model):
    page = visit()
    panel = open_tab(page, 'Interpolate')
    field = panel.get_by_label('To seed', exact=True)
    page.locator('#strip img').wait_for()
    asked = _calls(page)
    for seed, leave in ((4, 'Tab'), (5, 'Enter'), (6, 'click')):
        field.fill(str(seed))
        page.locator('#header').click() if leave == 'click' else field.press(leave)
        noise = np.concatenate([sample_inputs(model, seed).noise(0, 1) for seed in (0, seed)])
        eventually(shows(page, 'strip', interpolate(model, 16, noise=noise, labels=[0, 1]), 8), page)
    field.click()
    field.press('Tab')  # which changes nothing
    page.wait_for_timeout(300)
    assert _calls(page) == asked + 3
    panel.get_by_role('button', name='Interpolate').click()
    eventually(lambda: _assert_equal(_calls(page), asked + 4), page)


def _calls(page) -> int:
    """How often the page has asked the server to do something."""
    return sum(url.endswith('queue/join') or '/queue/join?' in url for url in page.asked)


def _assert_equal(value: object, expected: object) -> None:
    assert value == expected


def test_numbers_out_of_range_become_the_nearest(visit, model):
    page = visit()
    panel = open_tab(page, 'Sample')
    set_number(panel, 10_000)
    eventually(lambda: _assert_in('images must be from 1 to 50, got 10000: 50 is taken', toasts(page)), page)
    eventually(shows(page, 'samples', sample(model, 50, seed=0), 10), page)
    set_number(panel, 4)
    truncation = panel.locator('input[type=number][aria-label*="Truncation"]')
    truncation.fill('0')
    truncation.press('Tab')
    eventually(lambda: _assert_in('truncation must be from 0.1 to 3, got 0: 0.1 is taken', toasts(page)), page)
    eventually(shows(page, 'samples', sample(model, 4, seed=0, truncation=0.1), 2), page)
    assert truncation.input_value() == '0.1'
    eventually(lambda: _assert_equal(toasts(page), ''), page)  # they go away


def toasts(page) -> str:
    """The messages that are shown."""
    return ' '.join(page.locator('.toast-body').all_inner_texts())


def _frame(page) -> np.ndarray:
    """The frame that is on the screen, in its own pixels."""
    shot = Image.open(io.BytesIO(page.locator('.frame').screenshot())).convert('RGB')
    scale = shot.width / 32
    middles = [int((place + 0.5) * scale) for place in range(32)]
    return np.array(shot).astype(int)[np.ix_(middles, middles)]


def test_two_checkpoints_side_by_side(visit, model, experiment):
    page = visit()
    panel = open_tab(page, 'Compare')
    other = init_model(experiment.config, experiment.folder / 'iter_10.pth')
    set_number(panel, 5)
    enter(panel, 'Seed', 9)
    label = sample_inputs(model, 9).labels(0, 5)
    eventually(shows(page, 'compared-left', sample(model, labels=label, seed=9), 5), page)
    eventually(shows(page, 'compared-right', sample(other, labels=label, seed=9), 5), page)
    pick(panel, 'Left', 'iter_10')
    panel.get_by_text('raw weights').last.click()
    eventually(shows(page, 'compared-left', sample(other, labels=label, seed=9), 5), page)
    eventually(shows(page, 'compared-right', sample(other, labels=label, seed=9, sample_model='orig'), 5), page)


def call(page, demo, name: str, data: list) -> tuple[str, str]:
    """What the server answers to a program: kind and content."""
    body = json.dumps(dict(data=data))  # which writes NaN, too
    started = page.request.post(f'{demo.url}gradio_api/call/{name}', data=body, headers={'content-type': 'application/json'})
    if not started.ok:
        return 'refused', started.text()
    answer = page.request.get(f'{demo.url}gradio_api/call/{name}/{started.json()["event_id"]}').text()
    kind, _, content = answer.strip().rpartition('event: ')[2].partition('\n')
    return kind, content


def test_mistakes_are_answered_and_do_no_harm(visit, demo, model, experiment):
    page = visit()
    panel = open_tab(page, 'Sample')
    enter(panel, 'Seed', -3)
    eventually(lambda: _assert_in('seed must be a whole number from 0', toasts(page)), page)
    assert 'Traceback' not in page.content() and page.locator('#samples img').is_visible(), 'the samples stay'

    good = [[1], 2, 3, 0.5, 'ema']
    for place, value, complaint in [
        (0, [10], 'class must be a whole number from 0 to 9, got 10'),
        (0, 'cat', 'classes must be a list'),
        (1, 10_000, 'number of images'),
        (2, -1, 'seed must be'),
        (2, float('nan'), ''),
        (3, 0, 'truncation must be a number greater than 0, got 0'),
        (4, '<b>gan</b>', '&lt;b&gt;gan'),
    ]:
        kind, content = call(page, demo, 'sample', [*good[:place], value, *good[place + 1 :]])
        assert kind in ('error', 'refused') and complaint in content and 'Traceback' not in content, (value, content)
    assert call(page, demo, 'sample', [1, 2])[0] in ('error', 'refused')
    secret = str(experiment.folder / 'iter_10.pth')
    kind, content = call(page, demo, 'compare', [[], 2, 3, 0.5, secret, 'ema', secret, 'ema'])
    assert kind == 'error' and 'there is no checkpoint' in content
    for path in (secret, '/etc/hostname', demo.log):
        assert page.request.get(f'{demo.url}gradio_api/file={path}').status in (403, 404)
    assert page.request.post(f'{demo.url}gradio_api/run/sample', data=dict(data=good)).status == 404, 'not past the queue'
    assert call(page, demo, 'sample', good)[0] == 'complete'

    enter(panel, 'Seed', 6)
    set_number(panel, 2)
    eventually(shows(page, 'samples', sample(model, 2, seed=6), 2), page)
    assert demo.process.poll() is None and 'Traceback' not in demo.log.read_text()


def test_visitors_get_what_is_theirs(visit, demo, model):
    """Two pages at once, and programs beside them."""
    pages = [visit(), visit(color_scheme='dark')]
    for seed, page in enumerate(pages):
        set_number(open_tab(page, 'Sample'), 8)
        enter(open_tab(page, 'Sample'), 'Seed', seed + 20)
    for seed, page in enumerate(pages):
        eventually(shows(page, 'samples', sample(model, 8, seed=seed + 20), 4), page)
    for index, page in enumerate(pages):
        click_pixel(page, 3 + index, 9, 9, columns=4, rows=2)
    for index, page in enumerate(pages):
        image = sample(model, 8, seed=index + 20)[3 + index : 4 + index]

        def is_shown(page=page, image=image):
            shown = picture(page, 'attention-image')
            corner = shown[7::14, 7::14][None]
            corner[:, 7:12, 7:12] = image.permute(0, 2, 3, 1)[:, 7:12, 7:12]  # the ring
            assert_same(corner, image)

        eventually(is_shown, page)


def test_nothing_outside_is_asked_for(visit, demo):
    page = visit()
    for name in ('Interpolate', 'Compare', 'Sample'):
        open_tab(page, name)
        page.wait_for_timeout(300)
    page.reload()
    page.locator('#attention-feat16 img').wait_for()
    outside = [url for url in page.asked if not url.startswith((demo.url, 'data:', 'blob:'))]
    assert len(page.asked) > 50 and outside == []
    assert page.locator('a[href^="http"]').count() == 0, 'no links that lead out'
    # The one thing noted is where it listens itself.
    assert set((demo.log.parent / 'audit').read_text().splitlines()) == {'socket.getaddrinfo 127.0.0.1'}
