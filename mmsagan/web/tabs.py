"""The web demo's three tabs: each says what stands there, and answers its events."""

from collections.abc import Callable

import gradio as gr

from mmsagan.web.blocks import answering, clicked_place
from mmsagan.web.controls import Controls, Site, add_caption, add_picture
from mmsagan.web.handlers import STEPS, Grid, attention_of, compare_grids, film, frames_between, salient_pixel, sample_grid
from mmsagan.web.pictures import GridLayout, side_by_side
from mmsagan.web.requests import SampleRequest, read_class, read_look, read_samples, read_seed

# All frames are in the page already, so that they follow the slider at once, however far the server is.
_SHOW_STEP = "(step) => { document.documentElement.style.setProperty('--step', step); }"
_FRAMES_A_ROW = 8
_MOST_NAMED = 16  # images of which each one's class is told


class SampleTab:
    """A grid of samples; and of a pixel that is clicked, what every attention layer looks at from there.

    Args:
        site: What is shown.
        opened: The event upon which the first samples appear.
    """

    def __init__(self, site: Site, opened: Callable):
        self.site = site
        controls = Controls()
        grid = gr.State()  # the visitor's own: a click is meant for what he sees
        with gr.Row():
            with gr.Column(scale=3, min_width=260):
                controls.add_classes(site)
                controls.add_number(site, 16)
                controls.add_seed('Seed', 0)
                controls.add_truncation()
                controls.add_weights(site)
                button = gr.Button('Sample', variant='primary')
                download = gr.DownloadButton('Download PNG')
            with gr.Column(scale=5, min_width=320):
                picture = add_picture('samples', 'Samples')
                caption = add_caption('samples-caption')
            with gr.Column(scale=3, min_width=260):
                panels = self._add_panels()
        outputs = [grid, picture, caption, download, *panels]
        controls.listen(site, self.sample, outputs, 'sample', opened, button.click, show_progress_on=[picture])
        if panels:
            # Not by the queue, which takes longer, and whose answer to one of two clicks at a time may not reach the page.
            look = answering(self.look, site.turn)
            picture.select(
                look, grid, panels, queue=False, trigger_mode='multiple', show_progress='hidden', api_visibility='private'
            )

    def _add_panels(self) -> list[gr.Component]:
        """A caption for all; then picture and caption of the image, and of each layer."""
        if not self.site.layers:
            gr.Markdown('This generator has no attention layer to look into.', elem_id='attention-caption')
            return []
        panels = [add_caption('attention-caption')]
        is_narrow = len(self.site.layers) > 2  # then there are two a row
        with gr.Row():
            for name in ('image', *self.site.layers):
                with gr.Column(min_width=140 if is_narrow else 240):
                    panels += [add_picture(f'attention-{name}', f'Attention: {name}'), add_caption()]
        return panels

    def sample(self, classes: list[int], number: float, seed: float, truncation: float, sample_model: str | None) -> list:
        """Shows a grid of samples, and what is attended to from a pixel of the first one."""
        site = self.site
        request = read_samples(site.model, classes, number, seed, site.max_images)
        grid = sample_grid(site.model, request, read_look(truncation, sample_model))
        picture = grid.draw()
        download = site.offer(picture, site.checkpoints.first, f'seed{request.seed}')
        panels = self._show_attention(grid, 0, *salient_pixel(grid)) if site.layers else []
        shown = site.show(grid.layout.enlarge(picture))
        return [grid.without_images(), shown, describe_samples(site, request, grid), download, *panels]

    def look(self, grid: Grid | None, event: gr.EventData) -> list | dict:
        """Shows what is attended to from the pixel that was clicked; between the images, nothing happens."""
        place = clicked_place(event)
        found = None if grid is None or place is None else grid.layout.locate(*place)
        return gr.skip() if found is None else self._show_attention(grid, *found)

    def _show_attention(self, grid: Grid, index: int, x: int, y: int) -> list:
        attention = attention_of(self.site.model, grid, index, x, y)
        what = '' if grid.label is None else f', class {self.site.choices[int(grid.label[index])][0]}'
        panels = [
            f'**Attention** from pixel ({x}, {y}) of image {index + 1}{what}. Click another one.',
            self.site.show(attention.image),
            'image',
        ]
        for layer, picture in attention.layers.items():
            panels += [
                self.site.show(picture),
                f'layer {layer}: the brightest spot gets {attention.peaks[layer]:.1f} times the average attention',
            ]
        return panels


def describe_samples(site: Site, request: SampleRequest, grid: Grid) -> str:
    """What a grid shows, in words."""
    if not request.classes:
        return f'{request.number} samples of seed {request.seed}{_describe_drawn(site, grid)}.'
    names = ', '.join(site.choices[label][0] for label in request.classes)
    if len(request.classes) == 1:
        return f'{request.number} of class {names}. Seed {request.seed}.'
    rows = grid.layout.rows_per_group
    order = 'row by row' if request.number == 1 else 'from top to bottom' if rows == 1 else f'{rows} rows a class'
    return f'{request.number} of each class, {order}: {names}. Seed {request.seed}.'


def _describe_drawn(site: Site, grid: Grid) -> str:
    if grid.label is None:
        return ''
    if len(grid.label) > _MOST_NAMED:
        return ', classes drawn at random'
    return f'; classes, row by row: {", ".join(site.choices[label][0] for label in grid.label.tolist())}'


class InterpolateTab:
    """The way from one sample to another, by noise, by class or by both.

    Args:
        site: What is shown.
        opened: The event upon which the first way appears.
    """

    def __init__(self, site: Site, opened: Callable):
        self.site = site
        controls = Controls()
        with gr.Row():
            with gr.Column(scale=3, min_width=260):
                for name, value in (('From', 0), ('To', 1)):
                    controls.add_choice(site.choices, min(value, len(site.choices) - 1), f'{name} class')
                    controls.add_seed(f'{name} seed', value)
                controls.add_truncation()
                controls.add_weights(site)
                button = gr.Button('Interpolate', variant='primary')
                download = gr.DownloadButton('Download PNG')
            with gr.Column(scale=9, min_width=320):
                frame = gr.HTML(elem_id='frame')
                step = gr.Slider(0, STEPS - 1, 0, step=1, label='Step', elem_id='step')
                step.change(None, step, None, js=_SHOW_STEP, api_visibility='private')
                strip = add_picture('strip', 'All steps')
                caption = add_caption('strip-caption')
        outputs = [frame, strip, caption, download]
        controls.listen(site, self.interpolate, outputs, 'interpolate', opened, button.click, show_progress_on=[strip])

    def interpolate(
        self,
        from_class: int | None,
        from_seed: float,
        to_class: int | None,
        to_seed: float,
        truncation: float,
        sample_model: str | None,
    ) -> tuple:
        """Shows the frames of the way, one of them large."""
        site = self.site
        seeds = read_seed(from_seed), read_seed(to_seed)
        classes = (read_class(site.model, from_class), read_class(site.model, to_class)) if site.choices else None
        frames = frames_between(site.model, seeds, classes, read_look(truncation, sample_model))
        layout = GridLayout(len(frames), _FRAMES_A_ROW, frames.shape[2])
        picture = layout.draw(frames)
        name = [f'seed{seeds[0]}-{seeds[1]}', *([f'class{classes[0]}-{classes[1]}'] if classes else [])]
        download = site.offer(picture, site.checkpoints.first, *name)
        frame = (
            f'<div class="frame" role="img" aria-label="the step chosen" style="--frames: {len(frames)}; '
            f"background-image: url('{film(frames)}')\"></div>"
        )
        return frame, site.show(layout.enlarge(picture)), f'All {len(frames)} steps, row by row.', download


class CompareTab:
    """Samples of two checkpoints side by side, of the same noise and classes.

    Args:
        site: What is shown.
        opened: The event upon which the first comparison appears.
        loaded: The event upon which the checkpoints that there are now are looked up.
    """

    def __init__(self, site: Site, opened: Callable, loaded: Callable):
        self.site = site
        names = site.checkpoints.names()
        second = names[1 if len(names) > 1 else 0]
        controls = Controls()
        with gr.Row():
            with gr.Column(scale=3, min_width=260):
                controls.add_classes(site)
                controls.add_number(site, 16)
                controls.add_seed('Seed', 0)
                controls.add_truncation()
                button = gr.Button('Compare', variant='primary')
                download = gr.DownloadButton('Download PNG')
                if len(names) == 1:
                    gr.Markdown(
                        'There is one checkpoint so far. Open the page anew when there are more.', elem_classes='caption'
                    )
            sides = [self._add_side(controls, *side) for side in (('Left', names[0]), ('Right', second))]
        pictures = [picture for _, picture in sides]
        controls.listen(site, self.compare, [*pictures, download], 'compare', opened, button.click, show_progress_on=pictures)
        loaded(self.offer_checkpoints, None, [choice for choice, _ in sides], queue=False, show_progress='hidden')

    def _add_side(self, controls: Controls, name: str, checkpoint: str) -> tuple[gr.Dropdown, gr.Image]:
        with gr.Column(scale=4, min_width=300):
            choice = controls.add_choice(self.site.checkpoints.names(), checkpoint, name)
            controls.add_weights(self.site, f'{name}: weights')
            return choice, add_picture(f'compared-{name.lower()}', f'Samples of the checkpoint on the {name.lower()}')

    def offer_checkpoints(self) -> list[gr.Dropdown]:
        """Offers the checkpoints that there are now, without changing what is chosen."""
        return [gr.Dropdown(choices=self.site.checkpoints.names())] * 2

    def compare(
        self,
        classes: list[int],
        number: float,
        seed: float,
        truncation: float,
        left: str,
        left_model: str | None,
        right: str,
        right_model: str | None,
    ) -> tuple:
        """Shows both checkpoints' samples."""
        site = self.site
        models = [site.checkpoints.model(name) for name in (left, right)]
        request = read_samples(site.model, classes, number, seed, site.max_images)
        # One of them may have been trained without a moving average.
        looks = [read_look(truncation, None if weights == 'ema' else weights) for weights in (left_model, right_model)]
        grids = compare_grids(*models, request, *looks)
        download = site.offer(side_by_side(*(grid.draw() for grid in grids)), left, right, f'seed{request.seed}')
        return *(site.show(grid.layout.enlarge(grid.draw())) for grid in grids), download
