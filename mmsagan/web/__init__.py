"""The web demo: a page to sample a trained generator, inspect its attention, interpolate, and compare checkpoints.

``app.py`` serves the page, which needs Gradio. ``tabs.py`` builds the page and ``controls.py`` its inputs, ``handlers.py``
computes and draws what it shows, and ``checkpoints.py`` loads the models.
"""
