"""Arrays in, pictures out."""

from mmsagan.visualization.attention import attention_figure, check_attention_figure
from mmsagan.visualization.class_grid import class_grid
from mmsagan.visualization.curves import curves_figure
from mmsagan.visualization.grids import image_grid
from mmsagan.visualization.saliency import salient_queries

__all__ = ['attention_figure', 'check_attention_figure', 'class_grid', 'curves_figure', 'image_grid', 'salient_queries']
