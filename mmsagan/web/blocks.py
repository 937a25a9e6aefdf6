"""Gradio's page and event listeners, with answers in place of tracebacks."""

import functools
import html
import math
import threading
from collections.abc import Callable

import gradio as gr
import torch

from mmsagan.errors import MMSAGANError

_LONGEST = 300  # characters of a message
_SECONDS = 7  # that it stays


class QuietBlocks(gr.Blocks):
    """A page that answers a request without the right inputs with a message, and no traceback in the log."""

    async def preprocess_data(self, *args, **kwargs):
        try:
            return await super().preprocess_data(*args, **kwargs)
        except Exception as error:  # it has seen nothing but what the client has sent
            raise message(getattr(error, 'message', error)) from None


def answering(handler: Callable, turn: threading.Lock) -> Callable:
    """Has a handler wait for its turn, and answer what the visitor can mend with a message."""

    @functools.wraps(handler)
    def answer(*args, **kwargs):
        try:
            with turn:
                return handler(*args, **kwargs)
        except MMSAGANError as error:
            raise message(error) from None
        except torch.OutOfMemoryError:
            raise message('there is not enough memory for this: ask for fewer images') from None

    return answer


def message(text: object) -> gr.Error:
    """A message on the visitor's page, to be raised. What was sent from there is shown, and not interpreted as HTML."""
    return gr.Error(_shown(text), duration=_SECONDS, print_exception=False)


def warn(text: object) -> None:
    """Shows a message on the visitor's page, and goes on."""
    gr.Warning(_shown(text), duration=_SECONDS)


def _shown(text: object) -> str:
    text = str(text)
    return html.escape(text if len(text) <= _LONGEST else f'{text[:_LONGEST]}…', quote=False)


def clicked_place(event: gr.EventData) -> tuple[float, float] | None:
    """Where a picture was clicked, in its pixels from the upper left corner; None if the event does not say."""
    try:
        x, y = map(float, event.index)
    except (AttributeError, TypeError, ValueError, OverflowError):
        return None
    return (x, y) if math.isfinite(x) and math.isfinite(y) else None
