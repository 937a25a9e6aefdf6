import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.evaluation.diversity import RealPairs, mean_distance, pair_distances


def random_images(count, seed=0, size=8):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def test_distances_are_scipys():
    images = random_images(7)
    expected = pdist(images.flatten(1).numpy() / 255) / np.sqrt(3 * 8 * 8)
    np.testing.assert_allclose(pair_distances(images), expected, rtol=1e-5)
    black, white = torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    assert pair_distances(torch.cat([black, white, white])).tolist() == pytest.approx([1, 1, 0])


def test_the_mean_is_over_all_pairs_of_all_groups():
    groups = random_images(2), random_images(5, seed=1) // 2
    expected = np.concatenate([pdist(group.flatten(1).numpy() / 255) for group in groups]).mean() / np.sqrt(192)
    assert mean_distance(groups) == pytest.approx(expected, rel=1e-5)


def by_hand(images, labels):
    """The mean distance of the pairs that partners of the same label make, first come, first served."""
    waiting, distances = {}, []
    for image, label in zip(images.numpy() / 255.0, labels):
        if label in waiting:
            distances.append(np.sqrt(np.mean((waiting.pop(label) - image) ** 2)))
        else:
            waiting[label] = image
    return len(distances), np.mean(distances)


@pytest.mark.parametrize('batch_size', [1, 3, 40])
@pytest.mark.parametrize('as_lists', [False, True])
def test_pairs_come_together_across_batches(batch_size, as_lists):
    images, labels = random_images(40), torch.randint(4, (40,))
    pairs = RealPairs()
    for image, label in zip(images.split(batch_size), labels.split(batch_size)):
        pairs.add(list(image) if as_lists else image, label.tolist() if as_lists else label)
    for found, keys in ((pairs.of_same_class, labels.tolist()), (pairs.of_any_class, [0] * 40)):
        count, mean = by_hand(images, keys)
        assert found.count == count and found.mean == pytest.approx(mean, rel=1e-5)
    assert not pairs.is_complete


def test_it_is_complete_with_enough_pairs_or_batches():
    pairs = RealPairs(num_pairs=5)
    pairs.add(random_images(100), torch.zeros(100, dtype=torch.long))
    assert pairs.of_same_class.count == 5 and pairs.is_complete
    pairs = RealPairs(max_batches=3)
    for number in range(3):
        assert not pairs.is_complete
        pairs.add(random_images(2), [2 * number, 2 * number + 1])
    assert pairs.is_complete and (pairs.of_same_class.count, pairs.of_any_class.count) == (0, 3)


def test_memory_is_bounded():
    pairs = RealPairs(max_waiting=8)
    batch = random_images(50)
    pairs.add(batch, range(50))
    waiting = pairs.of_same_class._waiting
    assert len(waiting) == 8
    assert sum(image.untyped_storage().nbytes() for image in waiting.values()) == 8 * batch[0].numel()
    pairs.add(batch[:8], range(8))
    assert pairs.of_same_class.count == 8 and not waiting


@pytest.mark.parametrize('batches_before', [1, 3, 40])
def test_pairs_go_on_from_a_checkpoint(tmp_path, batches_before):
    """With a few images waiting, and after enough pairs."""
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randint(256, (5, 3, 4, 4), dtype=torch.uint8, generator=generator), torch.randint(4, (5,), generator=generator))
        for _ in range(60)
    ]
    whole, first, second = (RealPairs(num_pairs=50) for _ in range(3))
    for batch in batches:
        whole.add(*batch)
    for batch in batches[:batches_before]:
        first.add(*batch)
    torch.save(first.state_dict(), tmp_path / 'state.pth')
    second.load_state_dict(load_checkpoint_file(tmp_path / 'state.pth'))
    for batch in batches[batches_before:]:
        second.add(*batch)
    for name in ('of_same_class', 'of_any_class'):
        assert getattr(whole, name).count == getattr(second, name).count > 0
        assert getattr(whole, name).mean == getattr(second, name).mean
