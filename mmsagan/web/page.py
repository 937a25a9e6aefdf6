"""The web demo's page."""

import html
from pathlib import Path

import gradio as gr

from mmsagan.models import ConditionalGAN
from mmsagan.models.attention_maps import attention_layers
from mmsagan.web.blocks import QuietBlocks
from mmsagan.web.checkpoints import Checkpoints
from mmsagan.web.classes import class_choices
from mmsagan.web.controls import SECONDS_KEPT, Site
from mmsagan.web.handlers import attention_of, describe_model, sample_grid
from mmsagan.web.requests import Look, SampleRequest
from mmsagan.web.tabs import CompareTab, InterpolateTab, SampleTab

_WAITING = 64  # visitors in the queue
_SECONDS_BETWEEN_CLEANINGS = 600


def build_page(checkpoints: Checkpoints, folder: str | Path, max_images: int = 100) -> gr.Blocks:
    """Builds the page of some checkpoints.

    Args:
        checkpoints: What may be shown.
        folder: Where pictures are put for a visitor to download.
        max_images: The most images that are made at a time.

    Raises:
        MMSAGANError: The first checkpoint's model cannot make an image.
    """
    model = checkpoints.model()
    choices = class_choices(model.cfg, model.num_classes)
    site = Site(checkpoints, choices, find_layers(model), Path(folder), max_images)
    kept = (_SECONDS_BETWEEN_CLEANINGS, SECONDS_KEPT)
    with QuietBlocks(title='MMSAGAN', analytics_enabled=False, delete_cache=kept) as page:
        gr.HTML(_header(site))
        with gr.Tab('Sample'):
            SampleTab(site, page.load)
        with gr.Tab('Interpolate') as tab:
            InterpolateTab(site, tab.select)
        with gr.Tab('Compare') as tab:
            CompareTab(site, tab.select, page.load)
    return page.queue(max_size=_WAITING, api_open=False)


def find_layers(model: ConditionalGAN) -> list[str]:
    """Names of the generator's attention layers, from a first sample, which also shows that the model works."""
    grid = sample_grid(model, SampleRequest((), 1, 0), Look())
    if not attention_layers(model.sampled_network()):
        return []
    return list(attention_of(model, grid, 0, 0, 0).layers)


def _header(site: Site) -> str:
    facts = describe_model(site.model, site.checkpoints.config, site.checkpoints.first, site.layers)
    spans = ''.join(f'<span>{html.escape(fact)}</span>' for fact in facts)
    return f'<div id="header"><h1>Self-attention GAN</h1>{spans}</div>'
