"""Style of the web demo: system fonts, light and dark."""

import gradio as gr

_FONT = ('Segoe UI', 'Roboto', 'Helvetica Neue', 'Arial', 'sans-serif')
_MONO = ('Menlo', 'Consolas', 'monospace')

CSS = """
.gradio-container { max-width: 1200px !important; margin: 0 auto !important; }
#header h1 { font-size: 1.6rem; font-weight: 650; margin: 0 0 .4rem; }
#header span {
  display: inline-block; margin: 0 .35rem .35rem 0; padding: .15rem .6rem; border-radius: 999px; font-size: .82rem;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary);
}
#header span:first-of-type, #header span:nth-of-type(2) { font-family: var(--font-mono); }
.caption, .caption p { color: var(--body-text-color-subdued); font-size: .88rem; margin: 0; }
.picture .image-container { background: transparent; }
#samples img { cursor: crosshair; }
/* Errors appear in the upper right corner; the pictures stay. */
.picture .wrap:has(.error), #frame .wrap:has(.error) { display: none; }
.seed button { align-self: center; }
.gradio-container button.lg, .gradio-container button.md { font-weight: 500; }
.frame {
  width: min(100%, 416px); aspect-ratio: 1; margin: 0 auto; border-radius: 6px; image-rendering: pixelated;
  background-size: 100% calc(100% * var(--frames)); background-repeat: no-repeat;
  background-position: 0 calc(100% * var(--step, 0) / (var(--frames) - 1));
}
"""


def make_theme() -> gr.themes.Base:
    """Returns the colours and fonts."""
    return gr.themes.Default(
        primary_hue='teal', secondary_hue='teal', neutral_hue='slate', font=list(_FONT), font_mono=list(_MONO)
    )
