"""What the web demo's tabs share: the site, and the controls by which a visitor says what he wants to see."""

import functools
import math
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path

import gradio as gr
import numpy as np

from mmsagan.models import ConditionalGAN
from mmsagan.visualization.figures import encode_png
from mmsagan.web.blocks import answering, warn
from mmsagan.web.checkpoints import Checkpoints
from mmsagan.web.handlers import picture_name
from mmsagan.web.requests import NO_TRUNCATION, short

SECONDS_KEPT = 3600  # of pictures that have been shown
_OFFERED = 'offered-'
# One wish at a time, whoever has it; of those that a visitor has while his last one is not done, the newest.
_QUEUED = dict(concurrency_id='model', concurrency_limit=1, trigger_mode='always_last')
_SAME = 'value => value'
_RANDOM_SEED = '() => Array(2).fill(Math.floor(Math.random() * 1000000))'
_MANY_CLASSES = 100  # from there on, their number is worth knowing
_SELECT_TEXT = '() => { document.activeElement.select(); }'  # so that what is typed replaces it, and searches all choices


@dataclass(frozen=True)
class Site:
    """What a server shows.

    Args:
        checkpoints: What may be shown.
        choices: Texts and numbers of the classes.
        layers: Names of the generator's attention layers.
        folder: Where pictures are put for a visitor to download.
        max_images: The most images that are made at a time.
        turn: Held by the one who uses a model.
    """

    checkpoints: Checkpoints
    choices: Sequence[tuple[str, int]]
    layers: Sequence[str]
    folder: Path
    max_images: int
    turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def model(self) -> ConditionalGAN:
        """The first checkpoint's."""
        return self.checkpoints.model()

    def show(self, picture: np.ndarray) -> str:
        """Writes a picture that the page shows, and gives its path.

        Gradio would give equal pictures the same file and write it anew each time, also while a page is reading it.
        """
        return self.offer(picture, 'picture')

    def offer(self, picture: np.ndarray, *name: object) -> str:
        """Writes a picture for a visitor to download, and gives its path; its name is made of the words given."""
        for old in self.folder.glob(f'{_OFFERED}*'):  # Gradio serves a copy, which it removes itself
            if time.time() - old.stat().st_mtime > SECONDS_KEPT:
                shutil.rmtree(old, ignore_errors=True)
        path = Path(tempfile.mkdtemp(prefix=_OFFERED, dir=self.folder)) / picture_name(*name)
        path.write_bytes(encode_png(picture))
        return str(path)


@dataclass
class Controls:
    """The inputs of a handler, in its arguments' order, and upon which events it is called."""

    inputs: list[gr.Component] = field(default_factory=list)
    triggers: list[Callable] = field(default_factory=list)
    _after: list[Callable] = field(default_factory=list)

    def add(self, component: gr.Component, *triggers: Callable) -> None:
        """Adds an input."""
        self.inputs.append(component)
        self.triggers += triggers

    def add_classes(self, site: Site) -> None:
        """Any number of classes; nothing that can be seen if there are none."""
        number = len(site.choices)
        among = f' among {number:,}'.replace(',', ' ') if number >= _MANY_CLASSES else ''
        picker = gr.Dropdown(
            site.choices,
            value=[],
            multiselect=True,
            label='Classes',
            info=f'Type to search{among}. Empty: classes drawn at random.',
            visible=bool(site.choices),
        )
        self.add(picker, picker.change)

    def add_choice(self, choices: Sequence, value: object, label: str) -> gr.Dropdown:
        """One of several; nothing that can be seen if there are none."""
        picker = gr.Dropdown(choices, value=value if choices else None, label=label, visible=bool(choices))
        picker.focus(None, js=_SELECT_TEXT, api_visibility='private')
        self.add(picker, picker.input)
        return picker

    def add_number(self, site: Site, value: int) -> None:
        """How many images."""
        info = 'In total, or per class picked.' if site.choices else None
        slider = gr.Slider(1, site.max_images, min(value, site.max_images), step=1, label='Images', info=info)
        self._add_slider(slider)

    def add_seed(self, label: str, value: int) -> None:
        """A seed, and a button that draws one."""
        # What was typed counts upon Enter and upon leaving the field, but once; and a field that is only passed by, never.
        settled = gr.Number(value, visible='hidden')
        with gr.Row(elem_classes='seed'):
            number = gr.Number(value, label=label, min_width=100, scale=3)
            button = gr.Button('Random', size='md', min_width=80, scale=1)
        self.add(number, settled.change)
        gr.on([number.submit, number.blur], None, number, settled, js=_SAME, api_visibility='private')
        button.click(None, None, [number, settled], js=_RANDOM_SEED, api_visibility='private')

    def add_truncation(self) -> None:
        """How far noise may be from 0."""
        slider = gr.Slider(
            0.1,
            NO_TRUNCATION,
            NO_TRUNCATION,
            step=0.1,
            label='Truncation',
            info=f'{NO_TRUNCATION:g}: off. Smaller: more typical, less varied.',
        )
        self._add_slider(slider)

    def _add_slider(self, slider: gr.Slider) -> None:
        """Adds a slider whose field may have been given a number that is out of range."""
        self.add(slider)
        within = functools.partial(keep_within, slider.label.lower(), slider.minimum, slider.maximum)
        options = dict(preprocess=False, trigger_mode='always_last', concurrency_limit=None, show_progress='hidden')
        self._after.append(slider.release(within, slider, slider, api_visibility='private', **options).then)

    def add_weights(self, site: Site, label: str = 'Weights') -> None:
        """The moving average or the weights that it averages; nothing that can be seen if there is no average."""
        choices = [('moving average', 'ema'), ('raw weights', 'orig')]
        has_average = site.model.generator_ema is not None
        radio = gr.Radio(choices, value='ema' if has_average else None, label=label, visible=has_average)
        self.add(radio, radio.change)

    def listen(
        self, site: Site, handler: Callable, outputs: list[gr.Component], api_name: str, *triggers: Callable, **options
    ) -> None:
        """Calls a handler upon these controls' events and some more."""
        # Values are checked by requests.py, which names them; Gradio's own checks say less, and print a traceback. The last
        # pictures stay to be seen until the new ones are there.
        options.update(_QUEUED, preprocess=False, show_progress='minimal')
        handler = answering(handler, site.turn)
        gr.on([*triggers, *self.triggers], handler, self.inputs, outputs, api_name=api_name, **options)
        for then in self._after:
            then(handler, self.inputs, outputs, api_visibility='private', **options)


def keep_within(name: str, least: float, most: float, value: object) -> float | dict:
    """Of a number out of range the nearest one within, to which Gradio's field changes anyway, and a message."""
    number = value if isinstance(value, Real) and math.isfinite(value) else least
    taken = min(max(number, least), most)
    if taken == value:
        return gr.skip()
    warn(f'{name} must be from {least:g} to {most:g}, got {short(value)}: {taken:g} is taken')
    return taken


def add_picture(name: str, description: str) -> gr.Image:
    """A picture to be looked at, without a frame; its description is for those who cannot see it."""
    return gr.Image(
        format='png',
        interactive=False,
        show_label=False,
        container=False,
        buttons=[],
        alt_text=description,
        elem_id=name,
        elem_classes='picture',
    )


def add_caption(name: str | None = None) -> gr.Markdown:
    """A line below a picture."""
    return gr.Markdown(elem_id=name, elem_classes='caption', container=False)
