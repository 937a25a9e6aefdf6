"""The web demo's inputs, and how its handlers are called."""

import functools
import html
import json
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr
import numpy as np
from gradio.media import get_file
from mmengine.config import Config
from torch import Tensor

from mmsagan.apis.sampling import class_names
from mmsagan.errors import ConfigError, MMSAGANError
from mmsagan.visualization.figures import encode_png, printable
from mmsagan.web.checkpoints import Checkpoints

SECONDS_KEPT = 3600  # of pictures
NO_TRUNCATION = 3.0  # the slider's maximum, which turns truncation off
_MESSAGE_SECONDS = 7
_RANDOM_SEED = '() => Array(2).fill(Math.floor(Math.random() * 1000000))'
_NEW_SEED = '(random, seed) => Array(2).fill(random ? Math.floor(Math.random() * 1000000) : seed)'
_SELECT_TEXT = '() => { document.activeElement.select(); }'  # so that typing replaces it and searches all choices


@dataclass(frozen=True)
class Demo:
    """What the page shows."""

    checkpoints: Checkpoints
    choices: Sequence[tuple[str, int]]  # texts and numbers of the classes
    layers: Sequence[str]  # names of the generator's attention layers
    folder: Path  # for the pictures
    max_images: int  # per request
    lock: threading.Lock = field(default_factory=threading.Lock)  # held while a model is in use

    def save(self, picture: np.ndarray | bytes, *name: object, suffix: str = '.png') -> str:
        """Writes a picture (H, W, 3), or an encoded one, to a file named after the given words, and returns its path."""
        for old in self.folder.glob('picture-*'):  # Gradio has copied them, and deletes its copies itself
            if time.time() - old.stat().st_mtime > SECONDS_KEPT:
                shutil.rmtree(old, ignore_errors=True)
        # Gradio would write equal arrays to the same file again, even while another page is reading it.
        words = '_'.join(re.sub(r'\.(pth|safetensors)$', '', str(word)) for word in name or ['picture'])
        path = Path(tempfile.mkdtemp(prefix='picture-', dir=self.folder)) / (re.sub('[^a-zA-Z0-9.=-]+', '_', words) + suffix)
        path.write_bytes(picture if isinstance(picture, bytes) else encode_png(picture))
        return str(path)

    def names(self, label: Tensor | None) -> list[str]:
        """Returns the names of classes (N,); none for None."""
        return [] if label is None else [self.choices[number][0] for number in label]

    def read_samples(
        self, classes: Sequence[int] | None, number: float, seed: int | None, truncation: float
    ) -> tuple[Sequence[int], int, int, float | None]:
        """Returns classes, images per class, seed and truncation within the sliders' limits, which typed numbers may exceed.

        If many classes are selected, fewer images of each are drawn.
        """
        classes = classes or []
        if len(classes) > self.max_images:
            raise ConfigError(f'too many classes ({len(classes)}): at most {self.max_images} images can be drawn')
        number = int(min(max(number or 1, 1), self.max_images // max(len(classes), 1)))
        return classes, number, *read_seed_and_truncation(seed, truncation)


def read_seed_and_truncation(seed: int | None, truncation: float | None) -> tuple[int, float | None]:
    """Returns both; a cleared field of the seed is a ConfigError, and the truncation None where the slider turns it off."""
    if seed is None:  # in whose place sampling would draw one
        raise ConfigError('enter a seed: an integer of at least 0')
    return seed, None if truncation is None or truncation >= NO_TRUNCATION else max(truncation, 0.1)


def add_samples(demo: Demo, action: str, with_weights: bool = False) -> list[gr.Component]:
    """Adds the inputs of :meth:`Demo.read_samples` and a button, which draws another seed unless the visitor keeps it.

    The classes are hidden for an unconditional model.
    """
    among = f' among {len(demo.choices)}' if len(demo.choices) >= 100 else ''
    classes = gr.Dropdown(
        demo.choices,
        value=[],
        multiselect=True,
        label='Classes',
        info=f'Type to search{among}. Empty: classes drawn at random.',
        visible=bool(demo.choices),
    )
    info = f'In total, or per selected class; at most {demo.max_images} overall.' if demo.choices else None
    number = gr.Slider(1, demo.max_images, min(16, demo.max_images), step=1, label='Images', info=info)
    # What counts is the hidden number: see add_seed().
    seed, shown, is_random = (
        gr.Number(0, visible='hidden'),
        gr.Number(0, label='Seed'),
        gr.Checkbox(True, label='Randomize seed'),
    )
    gr.on([shown.submit, shown.blur], None, shown, seed, js='value => value', api_visibility='private')
    inputs = [classes, number, seed, add_truncation(), *([add_weights(demo)] if with_weights else [])]
    button = gr.Button(action, variant='primary')
    button.click(None, [is_random, seed], [shown, seed], js=_NEW_SEED, api_visibility='private')
    return inputs


def add_choice(choices: Sequence, value: object, label: str) -> gr.Dropdown:
    """Adds a list to select one of several choices; hidden if there are none."""
    picker = gr.Dropdown(choices, value=value if choices else None, label=label, visible=bool(choices))
    picker.focus(None, js=_SELECT_TEXT, api_visibility='private')
    return picker


def add_seed(label: str, value: int) -> gr.Number:
    """Adds a field for a seed and a button that draws one, and returns the seed that was entered last."""
    # Enter and leaving the field submit what was typed, but only if it has changed.
    entered = gr.Number(value, visible='hidden')
    with gr.Row(elem_classes='seed'):
        number = gr.Number(value, label=label, min_width=100, scale=3)
        button = gr.Button('Random', size='md', min_width=80, scale=1)
    gr.on([number.submit, number.blur], None, number, entered, js='value => value', api_visibility='private')
    button.click(None, None, [number, entered], js=_RANDOM_SEED, api_visibility='private')
    return entered


def add_truncation() -> gr.Slider:
    """Adds a slider for the truncation."""
    info = f'{NO_TRUNCATION:g}: off. Smaller: samples vary less, and may look more typical.'
    return gr.Slider(0.1, NO_TRUNCATION, NO_TRUNCATION, step=0.1, label='Truncation', info=info)


def add_weights(demo: Demo, label: str = 'Weights') -> gr.Radio:
    """Adds a choice between the moving average and the raw weights; hidden if the model has no average."""
    choices = [('moving average', 'ema'), ('raw weights', 'orig')]
    has_average = demo.checkpoints.model().generator_ema is not None
    return gr.Radio(choices, value='ema' if has_average else None, label=label, visible=has_average)


def add_picture(name: str, description: str) -> gr.Image:
    """Adds a picture without a frame; the description is for screen readers."""
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
    """Adds a line of text below a picture."""
    return gr.Markdown(elem_id=name, elem_classes='caption', container=False)


def connect(
    demo: Demo,
    handler: Callable,
    inputs: list,
    outputs: list,
    *events: Callable,
    show_progress_on: list,
    lock: AbstractContextManager | None = None,
) -> None:
    """Calls a handler on the given events, and whenever an input changes; it holds the lock, by default that of the models."""
    for component in inputs:
        if isinstance(component, gr.Slider):
            events += (component.release,)
        else:
            is_picker = isinstance(component, gr.Dropdown) and not component.multiselect
            events += (component.input if is_picker else component.change,)
    gr.on(
        events,
        show_errors(handler, lock or demo.lock),
        inputs,
        outputs,
        api_name=handler.__name__,
        preprocess=False,  # the handlers' messages say more than Gradio's
        trigger_mode='always_last',
        show_progress='minimal',
        show_progress_on=show_progress_on,
    )


def show_errors(handler: Callable, lock: AbstractContextManager) -> Callable:
    """Makes a handler wait for the model, and show the user's errors on the page instead of logging a traceback."""

    @functools.wraps(handler)
    def call(*args, **kwargs):
        try:
            with lock:
                return handler(*args, **kwargs)
        except MMSAGANError as error:
            text = html.escape(str(error)[:300], quote=False)  # Gradio shows HTML, and the text may quote the request
            raise gr.Error(text, duration=_MESSAGE_SECONDS, print_exception=False) from error

    return call


def class_choices(cfg: Config, num_classes: int) -> list[tuple[str, int]]:
    """Returns the searchable text and the number of each class: its name, for ImageNet such as ``goldfish (1, n01443537)``."""
    names = [printable(name) for name in class_names(cfg, num_classes)]
    dataset = str((cfg.get('train_dataloader') or {}).get('dataset')).lower()
    # Numbers, where its files are missing.
    if num_classes == 1000 and (names[0] == 'n01440764' or (names[0].isdecimal() and 'imagenet' in dataset)):
        english = json.loads(Path(get_file('imagenet_labels.json')).read_text(encoding='utf-8'))  # of Gradio's own demos
        folders = ['' if name.isdecimal() else f', {name}' for name in names]
        names = [f'{name} ({label}{folder})' for label, (name, folder) in enumerate(zip(english, folders))]
    return [(name, label) for label, name in enumerate(names)]
