"""The web demo's page as a web application, and the server that runs it."""

import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import fastapi
import gradio as gr
import uvicorn

from mmsagan.web.style import CSS, theme

_LARGEST_UPLOAD = '1kb'  # there is nothing to upload
_PATIENCE = 2  # seconds for what is under way when the server is told to stop


def run_app(page: gr.Blocks, listener: socket.socket) -> None:
    """Serves a page until SIGINT or SIGTERM.

    Args:
        page: As :func:`~mmsagan.web.page.build_page` makes it.
        listener: Where it listens already.
    """
    app = fastapi.FastAPI(openapi_url=None)
    # Not page.launch(), which asks itself for pages over the network, by way of a proxy if one is set.
    gr.mount_gradio_app(
        app,
        page,
        path='/',
        footer_links=[],  # they lead to the internet
        run_history=False,
        enable_monitoring=False,
        show_error=False,  # of a bug of ours the page says no more than that
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        max_file_size=_LARGEST_UPLOAD,
        theme=theme(),
        css=CSS,
    )
    streams_end = app.routes[-1].app.stop_event
    server = _Server(uvicorn.Config(app, log_level='warning', timeout_graceful_shutdown=_PATIENCE), streams_end.set)
    with _quiet_signals():
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Ends what pages that are open listen to, when it is told to stop; without that it would wait for them to be closed."""

    def __init__(self, config: uvicorn.Config, end_streams: Callable[[], None]):
        super().__init__(config)
        self._end_streams = end_streams

    def handle_exit(self, *args) -> None:
        # Jobs that are cut off now would be reported with tracebacks.
        logging.getLogger('uvicorn.error').setLevel(logging.CRITICAL)
        self._end_streams()
        super().handle_exit(*args)


@contextmanager
def _quiet_signals() -> Iterator[None]:
    """Within it, SIGINT and SIGTERM do nothing but what the server does upon them: it raises them anew when it has ended."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
