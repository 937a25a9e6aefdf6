"""A data set whose random transforms do not depend on which process carries them out, and when."""

from contextlib import nullcontext
from typing import Any

from mmengine.registry import DATASETS as ROOT_DATASETS
from torch.utils.data import Dataset

from mmsagan.datasets.base import ClassImageDataset
from mmsagan.datasets.samplers import NumberedBatch
from mmsagan.registry import DATASETS
from mmsagan.utils.random_states import drawing_from
from mmsagan.utils.workers import ReadingNotes


@DATASETS.register_module()
class SeededDataset(Dataset):
    """Wraps a data set: each batch's random transforms draw from a seed of the batch's own.

    So images are the same ones with any number of loader processes, and a resumed training gets those that it would have got.
    All else is the wrapped data set's.

    Args:
        dataset: The data set or its config.
    """

    def __init__(self, dataset: Dataset | dict):
        self.dataset = ROOT_DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]

    def __getitems__(self, indices: list[int]) -> Any:
        """A batch, for PyTorch's data loader; seeded if the indices are a :class:`NumberedBatch`."""
        with drawing_from(*indices.seed) if isinstance(indices, NumberedBatch) else nullcontext():
            if hasattr(self.dataset, '__getitems__'):
                return self.dataset.__getitems__(indices)
            return [self.dataset[index] for index in indices]

    def note_reading(self, notes: ReadingNotes) -> None:
        """Has the data set note what it reads, if it is one of ours."""
        if isinstance(self.dataset, ClassImageDataset):
            self.dataset.reading_notes = notes

    def describe_image(self, index: int) -> str:
        """An image's file, or whatever else tells which one it is."""
        info = self.dataset.get_data_info(index) if hasattr(self.dataset, 'get_data_info') else {}
        return info.get('img_path') or f'image {index} of {getattr(self.dataset, "name", type(self.dataset).__name__)}'

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'dataset':  # asked for by copying and pickling, before there is anything
            raise AttributeError(name)
        return getattr(self.dataset, name)
