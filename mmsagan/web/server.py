"""Serving the web demo: from this machine, without the internet, until it is told to stop."""

import importlib.util
import os
import socket
import tempfile

from mmsagan.errors import ConfigError
from mmsagan.web.checkpoints import Checkpoints


def check_gradio() -> None:
    """Raises a ConfigError if Gradio is not installed."""
    if importlib.util.find_spec('gradio') is None:
        raise ConfigError('the web demo needs Gradio: pip install "mmsagan[demo]"')


def open_port(host: str, port: int) -> socket.socket:
    """Takes a port, which listens from then on.

    Args:
        host: Name or address of a network interface of this machine.
        port: Of it; 0 takes a free one.

    Raises:
        ConfigError: It is in use, or not to be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, 'strerror', None) or error).partition(' (')[0]
        raise ConfigError(f'cannot listen on {host}, port {port}: {reason}; choose others by --host and --port') from error


def serve(checkpoints: Checkpoints, listener: socket.socket, max_images: int = 100) -> None:
    """Serves the page of some checkpoints, until SIGINT or SIGTERM.

    Args:
        checkpoints: What may be shown.
        listener: As :func:`open_port` gives it.
        max_images: The most images that are made at a time.

    Raises:
        MMSAGANError: The first checkpoint's model cannot make an image.
    """
    with tempfile.TemporaryDirectory(prefix='mmsagan-web-') as folder:
        # Gradio reads these when it is imported, so that happens here.
        os.environ.update(GRADIO_ANALYTICS_ENABLED='False', GRADIO_TEMP_DIR=folder, HF_HUB_DISABLE_TELEMETRY='1')
        from mmsagan.web.app import run_app
        from mmsagan.web.page import build_page

        page = build_page(checkpoints, folder, max_images)
        host, port = listener.getsockname()[:2]
        print(f'the demo is at http://{f"[{host}]" if ":" in host else host}:{port}/ (Ctrl-C ends it)', flush=True)
        run_app(page, listener)
