"""The web demo's page and its four tabs."""

import base64
import html
import threading
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import torch

from mmsagan.apis import attention_maps
from mmsagan.errors import ConfigError
from mmsagan.models.attention_maps import attention_layers
from mmsagan.utils import counted
from mmsagan.visualization import class_grid, salient_queries
from mmsagan.visualization.figures import encode_film, encode_png, enlarge, has_ffmpeg, printable
from mmsagan.web import controls
from mmsagan.web.checkpoints import Checkpoints
from mmsagan.web.controls import SECONDS_KEPT, Demo, connect, read_seed_and_truncation
from mmsagan.web.handlers import (
    NUM_STEPS,
    Grid,
    TrainingImageSearch,
    attention_panels,
    interpolation_frames,
    make_layout,
    panel_scale,
    sample_grid,
    side_by_side,
)

FILM_WIDTH = 256  # least number of pixels
MAX_SEARCHED = 10  # samples
# The page holds all frames, so that they follow the slider without asking the server.
_SHOW_STEP = "(step) => { document.documentElement.style.setProperty('--step', step); }"


def build_page(checkpoints: Checkpoints, folder: str | Path, max_images: int = 100) -> gr.Blocks:
    """Builds the page for these checkpoints, with a folder for the pictures and the maximum number of images per request."""
    model = checkpoints.model()
    sample_grid(model, (), 1, 0)  # raises if the model does not work
    has_attention = attention_layers(model.get_generator())
    layers = list(attention_maps(model, [(0, 0)], 1, seed=0).maps) if has_attention else []
    demo = Demo(checkpoints, controls.class_choices(model.cfg, model.num_classes), layers, Path(folder), max_images)
    facts = [
        Path(checkpoints.config).name.removesuffix('.py'),
        checkpoints.first,
        *([f'iteration {int(model.iteration)}'] if model.iteration else []),
        f'{model.generator.output_scale} × {model.generator.output_scale} pixels',
        f'{model.num_classes} classes' if model.num_classes else 'no classes',
        f'attention at {", ".join(layers)}' if layers else 'no attention',
        str(model.device),
    ]
    spans = ''.join(f'<span>{html.escape(printable(fact))}</span>' for fact in facts)
    with gr.Blocks(title='MMSAGAN', analytics_enabled=False, delete_cache=(SECONDS_KEPT // 6, SECONDS_KEPT)) as page:
        gr.HTML(f'<div id="header"><h1>Self-attention GAN</h1>{spans}</div>')
        with gr.Tab('Sample'):
            add_sample_tab(demo, page.load)
        with gr.Tab('Interpolate') as tab:
            add_interpolate_tab(demo, tab.select)
        with gr.Tab('Compare') as tab:
            add_compare_tab(demo, tab.select, page.load)
        with gr.Tab('Neighbours') as tab:
            add_neighbours_tab(demo, tab.select)
    return page.queue(max_size=64, api_open=False)


def add_sample_tab(demo: Demo, opened: Callable) -> None:
    """Adds a grid of samples, first shown on the event ``opened``, and the attention maps of the pixel that is clicked."""
    # Per visitor: a click refers to the grid that the visitor sees, and to the image of it that is enlarged.
    current_grid, current_index = gr.State(), gr.State(0)
    panels: list[gr.Component] = []
    with gr.Row():
        with gr.Column(scale=3, min_width=260, elem_classes='controls'):
            inputs = controls.add_samples(demo, 'Sample', with_weights=True)
            download = gr.DownloadButton('Download PNG')
        with gr.Column(scale=5, min_width=320):
            picture = controls.add_picture('samples', 'Samples')
            caption = controls.add_caption('samples-caption')
        with gr.Column(scale=3, min_width=260):
            if demo.layers:
                panels += [current_index, controls.add_caption('attention-caption')]
                with gr.Row(elem_classes='maps'):
                    for name in ('image', *demo.layers):
                        with gr.Column(min_width=240 if len(demo.layers) < 3 else 140):  # else two per row
                            panels += [controls.add_picture(f'attention-{name}', f'Attention: {name}'), controls.add_caption()]
            else:
                gr.Markdown('This generator has no attention layer.', elem_id='attention-caption')

    def show_attention(grid: Grid, index: int, x: int, y: int) -> list:
        label = '' if grid.label is None else f', class {demo.choices[grid.label[index]][0]}'
        values = [index, f'**Attention** from pixel ({x}, {y}) of image {index + 1}{label}. Click another one.']
        for panel, text in attention_panels(demo.checkpoints.model(), grid, index, x, y):
            values += [demo.save(panel), text]
        return values

    def sample(classes: list[int], number: float, seed: int, truncation: float, sample_model: str | None) -> list:
        asked = number
        classes, number, seed, limit = demo.read_samples(classes, number, seed, truncation)
        images, grid = sample_grid(demo.checkpoints.model(), classes, number, seed, limit, sample_model)
        if classes:
            most = ' (limited by --max-images)' if asked and number < asked else ''
            text = f'{number} of each class{most}, in this order: {", ".join(demo.choices[label][0] for label in classes)}'
        else:
            text = counted(number, 'sample')
        x, y = salient_queries(images[:1], 1)[0, 0].tolist()
        return [
            grid,
            demo.save(grid.layout.display(images, demo.names(grid.label))),
            f'{text}. Seed {seed}.',
            demo.save(grid.layout.draw(images), demo.checkpoints.first, f'seed{seed}'),
            *(show_attention(grid, 0, x, y) if demo.layers else []),
        ]

    def look(grid: Grid | None, event: gr.EventData) -> list | dict:
        found = grid and grid.layout.locate(*event.index)
        return show_attention(grid, *found) if found else gr.skip()

    def look_closer(grid: Grid | None, index: int, event: gr.EventData) -> list | dict:
        if grid is None:  # the server has restarted
            return gr.skip()
        return show_attention(grid, index, *(int(place) // panel_scale(grid.layout.size) for place in event.index))

    outputs = [current_grid, picture, caption, download, *panels]
    connect(demo, sample, inputs, outputs, opened, show_progress_on=[picture])
    if panels:
        # Outside the queue, which is slower and may lose the answer to one of two quick clicks.
        options = dict(queue=False, trigger_mode='multiple', show_progress='hidden', api_visibility='private')
        picture.select(controls.show_errors(look, demo.lock), current_grid, panels, **options)
        for panel in panels:
            if isinstance(panel, gr.Image):
                panel.select(controls.show_errors(look_closer, demo.lock), [current_grid, current_index], panels, **options)


def add_interpolate_tab(demo: Demo, opened: Callable) -> None:
    """Adds an interpolation between two samples, with a slider."""
    inputs = []
    with gr.Row():
        with gr.Column(scale=3, min_width=260, elem_classes='controls'):
            for name, value in (('From', 0), ('To', 1)):
                inputs.append(controls.add_choice(demo.choices, min(value, len(demo.choices) - 1), f'{name} class'))
                inputs.append(controls.add_seed(f'{name} seed', value))
            inputs += [controls.add_truncation(), controls.add_weights(demo)]
            button = gr.Button('Interpolate', variant='primary')
            films = ['.gif', *(['.mp4'] if has_ffmpeg() else [])]
            with gr.Row():
                downloads = [gr.DownloadButton(f'Download {kind[1:].upper()}') for kind in ('.png', *films)]
        with gr.Column(scale=9, min_width=320):
            frame = gr.HTML(elem_id='frame')
            step = gr.Slider(0, NUM_STEPS - 1, 0, step=1, label='Step', elem_id='step')
            step.change(None, step, None, js=_SHOW_STEP, api_visibility='private')
            strip = controls.add_picture('strip', 'All steps')
            caption = controls.add_caption('strip-caption')

    def interpolate(
        from_class: int | None, from_seed: int, to_class: int | None, to_seed: int, truncation: float, sample_model: str | None
    ) -> list:
        seeds, (limit, _) = zip(*(read_seed_and_truncation(seed, truncation) for seed in (from_seed, to_seed)))
        classes = (from_class, to_class) if demo.choices else None
        frames = interpolation_frames(demo.checkpoints.model(), seeds, classes, limit, sample_model)
        layout = make_layout(NUM_STEPS, frames.shape[2], per_class=8)
        drawn = layout.draw(frames)
        large = [*enlarge(frames, FILM_WIDTH).permute(0, 2, 3, 1).numpy()]
        words = [f'seed{seeds[0]}-{seeds[1]}', *([f'class{classes[0]}-{classes[1]}'] if classes else [])]
        strip = base64.b64encode(encode_png(frames.permute(0, 2, 3, 1).flatten(0, 1).numpy())).decode()
        return [
            f'<div class="frame" role="img" aria-label="selected step" style="--frames: {NUM_STEPS}; '
            f"background-image: url('data:image/png;base64,{strip}')\"></div>",
            demo.save(layout.display(frames)),
            f'All {NUM_STEPS} steps, row by row.',
            demo.save(drawn, demo.checkpoints.first, *words),
            *(demo.save(encode_film(large, 12, kind), demo.checkpoints.first, *words, suffix=kind) for kind in films),
        ]

    connect(demo, interpolate, inputs, [frame, strip, caption, *downloads], opened, button.click, show_progress_on=[strip])


def add_compare_tab(demo: Demo, opened: Callable, loaded: Callable) -> None:
    """Adds samples of two checkpoints side by side; the event ``loaded`` updates the list of checkpoints."""
    names = demo.checkpoints.names()
    pickers, pictures = [], []
    with gr.Row():
        with gr.Column(scale=3, min_width=260, elem_classes='controls'):
            inputs = controls.add_samples(demo, 'Compare')
            download = gr.DownloadButton('Download PNG')
        for side, name in (('Left', names[0]), ('Right', names[:2][-1])):
            with gr.Column(scale=4, min_width=300):
                pickers.append(controls.add_choice(names, name, side))
                inputs += [pickers[-1], controls.add_weights(demo, f'{side}: weights')]
                pictures.append(controls.add_picture(f'compared-{side.lower()}', f'Samples of the {side.lower()} checkpoint'))

    def compare(classes: list[int], number: float, seed: int, truncation: float, *sides: str | None) -> list:
        left, left_weights, right, right_weights = sides
        classes, number, seed, limit = demo.read_samples(classes, number, seed, truncation)
        models = [demo.checkpoints.model(name) for name in (left, right)]
        if models[0].num_classes != models[1].num_classes:
            raise ConfigError(f'cannot compare models of {models[0].num_classes} and of {models[1].num_classes} num_classes')
        drawn, values = [], []
        for model, weights in zip(models, (left_weights, right_weights)):
            # Not 'ema': a checkpoint may lack the moving average that the first one has.
            images, grid = sample_grid(model, classes, number, seed, limit, None if weights == 'ema' else weights)
            drawn.append(grid.layout.draw(images))
            values.append(demo.save(grid.layout.display(images, demo.names(grid.label))))
        return [*values, demo.save(side_by_side(*drawn), left, right, f'seed{seed}')]

    connect(demo, compare, inputs, [*pictures, download], opened, show_progress_on=pictures)
    loaded(lambda: [gr.Dropdown(choices=demo.checkpoints.names())] * 2, None, pickers, queue=False, show_progress='hidden')


def add_neighbours_tab(demo: Demo, opened: Callable) -> None:
    """Adds samples beside the training images that are nearest to them."""
    with gr.Row():
        with gr.Column(scale=3, min_width=260, elem_classes='controls'):
            inputs = controls.add_samples(demo, 'Search', with_weights=True)
        with gr.Column(scale=8, min_width=320):
            picture = controls.add_picture('neighbours', 'Samples, each with the training images nearest to it')
            caption = controls.add_caption('neighbours-caption')
    model = demo.checkpoints.model()
    search = TrainingImageSearch(model.cfg, model.device)

    def neighbours(classes: list[int], number: float, seed: int, truncation: float, sample_model: str | None) -> list:
        classes, number, seed, limit = demo.read_samples(classes, number, seed, truncation)
        with demo.lock:
            images, grid = sample_grid(model, classes, number, seed, limit, sample_model)
        images = images[:MAX_SEARCHED]
        found, distances = search(images)
        rows = torch.cat([images[:, None], found], dim=1).flatten(0, 1)
        names = demo.names(grid.label)[: len(images)] or [str(row + 1) for row in range(len(images))]
        text = (
            f'Left: {len(images)} of the samples of seed {seed}, and the distance to the nearest training image. Right: the 5 '
        )
        text += f'nearest of {len(search.dataset):,} training images. A copy would have a distance near 0.'
        return [demo.save(class_grid(rows, names, [f'{each:.2f}' for each in distances[:, 0].tolist()])), text]

    # With a lock of its own: the first search reads the training images, and may take minutes.
    connect(demo, neighbours, inputs, [picture, caption], opened, show_progress_on=[picture], lock=threading.Lock())
