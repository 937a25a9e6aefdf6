"""The command ``mmsagan``, and what the scripts in ``tools/`` share."""
