"""Arrays in, pictures out."""

from mmsagan.visualization.grids import image_grid

__all__ = ['image_grid']
