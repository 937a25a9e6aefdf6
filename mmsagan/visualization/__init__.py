"""Arrays in, pictures out; and the curves of what a training logged."""

from mmsagan.visualization.attention import attention_figure, salient_queries
from mmsagan.visualization.curves import curves_figure
from mmsagan.visualization.figures import class_grid, image_grid

__all__ = ['attention_figure', 'class_grid', 'curves_figure', 'image_grid', 'salient_queries']
