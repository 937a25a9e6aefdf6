"""The web demo: a page on which a trained generator is sampled, looked into, interpolated and compared. Needs Gradio.

``checkpoints.py`` says what may be shown, ``requests.py`` reads what a visitor asks for, ``handlers.py`` makes the pictures,
``pictures.py`` lays them out. ``page.py`` is the page, with its ``tabs.py``, and ``server.py`` serves it.
"""
