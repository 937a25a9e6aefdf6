"""The web demo's server: local, without internet access, until it is stopped."""

import importlib.util
import os
import signal
import socket
import tempfile
from urllib.parse import urlsplit

from mmsagan.errors import ConfigError
from mmsagan.web.checkpoints import Checkpoints

# System fonts: others would come from the internet.
_FONT, _MONO = ['Segoe UI', 'Roboto', 'Helvetica Neue', 'Arial', 'sans-serif'], ['Menlo', 'Consolas', 'monospace']
_CSS = """
.gradio-container { max-width: 1200px !important; margin: 0 auto !important; }
#header h1 { font-size: 1.6rem; font-weight: 650; margin: 0 0 .4rem; }
#header span {
  display: inline-block; margin: 0 .35rem .35rem 0; padding: .15rem .6rem; border-radius: 999px; font-size: .82rem;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary);
}
.caption, .caption p { color: var(--body-text-color-subdued); font-size: .88rem; margin: 0; }
.picture .image-container { background: transparent; }
#samples img, .maps img { cursor: crosshair; }
/* Errors appear in the upper right corner; the pictures stay. */
.picture .wrap:has(.error), #frame .wrap:has(.error) { display: none; }
.seed button { align-self: center; }
/* On a phone, pictures come first. */
@media (max-width: 640px) {
  .main { padding: 12px !important; }
  .tab-container button { padding: 0 8px !important; }
  .controls { order: 2; }
  .maps > .column { min-width: 140px !important; }
  #header span { display: none; }
}
/* Contrasts of at least 4.5:1 (WCAG AA). */
.tab-container button.selected { color: var(--primary-700); }
.dark .tab-container button.selected { color: var(--primary-300); }
.frame {
  width: min(100%, 416px); aspect-ratio: 1; margin: 0 auto; border-radius: 6px; image-rendering: pixelated;
  background-size: 100% calc(100% * var(--frames)); background-repeat: no-repeat;
  background-position: 0 calc(100% * var(--step, 0) / (var(--frames) - 1));
}
"""


def open_port(host: str, port: int) -> socket.socket:
    """Returns a socket that listens on a port of this machine, or raises a ConfigError; port 0 selects a free one."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ConfigError(f'cannot listen on {host}, port {port}: {error}; choose others with --host and --port') from error


def build_app(checkpoints: Checkpoints, folder: str, max_images: int, root_path: str):
    """Builds the page's ASGI application, whose temporary files are in ``folder``; see :func:`serve`."""
    os.environ['GRADIO_TEMP_DIR'] = folder  # Gradio reads it when it is imported
    import fastapi
    import gradio
    from starlette.responses import RedirectResponse

    from mmsagan.web.tabs import build_page

    # Contrasts of at least 4.5:1 (WCAG AA), also in dark mode.
    hues = dict(primary_hue='teal', secondary_hue='teal', neutral_hue='slate')
    theme = gradio.themes.Default(**hues, font=_FONT, font_mono=_MONO).set(
        button_primary_background_fill='*primary_700',
        button_primary_background_fill_dark='*primary_700',
        button_primary_background_fill_hover='*primary_800',
        button_primary_text_color='white',
        block_info_text_color='*neutral_600',
        block_info_text_color_dark='*neutral_300',
        body_text_color_subdued='*neutral_600',
        body_text_color_subdued_dark='*neutral_300',
    )
    root_path = root_path.rstrip('/')
    # Not page.launch(), which requests its own pages over the network, through a proxy if one is set.
    app = gradio.mount_gradio_app(
        fastapi.FastAPI(openapi_url=None),
        build_page(checkpoints, folder, max_images),
        path='/',
        root_path=root_path or None,
        footer_links=[],  # they lead to the internet
        run_history=False,
        enable_monitoring=False,
        show_error=False,  # unexpected errors are logged, not shown
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        max_file_size='1kb',  # there is nothing to upload
        theme=theme,
        css=_CSS,
    )
    prefix = urlsplit(root_path).path

    async def without_prefix(scope, receive, send) -> None:
        # A proxy may have removed the path from the requests.
        path = scope.get('path', '')
        if prefix and path.startswith(f'{prefix}/'):
            scope = dict(scope, path=path[len(prefix) :])
        await (RedirectResponse(f'{root_path}/') if prefix and path == prefix else app)(scope, receive, send)

    return without_prefix


def serve(checkpoints: Checkpoints, listener: socket.socket, max_images: int = 100, root_path: str = '') -> None:
    """Serves the page at a socket of :func:`open_port` until SIGINT or SIGTERM, with at most ``max_images`` per request.

    ``root_path`` is the path or URL at which a reverse proxy offers the page, such as ``/demo``.
    """
    if importlib.util.find_spec('gradio') is None:
        raise ConfigError('the web demo needs Gradio: pip install "mmsagan[demo]"')
    with tempfile.TemporaryDirectory(prefix='mmsagan-web-') as folder:
        app = build_app(checkpoints, folder, max_images, root_path)
        import uvicorn

        # Open pages keep a connection: they are cut off after a second, without uvicorn's tracebacks.
        server = uvicorn.Server(uvicorn.Config(app, log_level='critical', timeout_graceful_shutdown=1))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)  # uvicorn stops, and then raises the signal again
        host, port = listener.getsockname()[:2]
        print(f'the demo is at http://{f"[{host}]" if ":" in host else host}:{port}/ (press Ctrl-C to stop)', flush=True)
        server.run(sockets=[listener])
