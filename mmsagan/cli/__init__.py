"""The command ``mmsagan``: one front door to the scripts in ``tools/``. It imports PyTorch only when a command runs."""
