import copy
import hashlib
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from mmsagan.apis.statistics import image_statistics
from mmsagan.datasets import CIFAR10
from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation import (
    Evaluator,
    FeatureExtractor,
    RealImages,
    SampleInputs,
    Statistics,
    StyleGANInception,
    frechet_distance,
    inception_score,
    kernel_distance,
    load_statistics,
    precision_recall,
    save_statistics,
)
from mmsagan.evaluation import images as images_module
from mmsagan.evaluation.extractors import resize_pillow
from mmsagan.evaluation.images import apply_standing_statistics
from mmsagan.evaluation.metrics import fid as fid_module
from mmsagan.models import to_uint8
from mmsagan.registry import EXTRACTORS, MODELS

CPU = torch.device('cpu')


@EXTRACTORS.register_module()
class CountingExtractor(FeatureExtractor):
    """12 features and 4 probabilities by fixed random projections; counts images and calls."""

    name, suffix = 'counting', '-counting'
    images = 0
    outputs: list = []

    def __init__(self, scale: float = 1.0):
        super().__init__()
        source = torch.Generator().manual_seed(5)
        self.scale = scale
        self.unused = torch.nn.Linear(2, 2)  # draws from torch's random state
        self.projection = torch.randn(3 * 8 * 8, 12, generator=source) / 10
        self.head = torch.randn(12, 4, generator=source)

    def forward(self, images, outputs=('features',)):
        type(self).images += len(images)
        type(self).outputs.append(set(outputs))
        small = torch.nn.functional.adaptive_avg_pool2d(images.float() / 127.5 - 1, 8).flatten(1)
        features = torch.relu(small @ self.projection) * self.scale
        return dict(features=features, probabilities=(features @ self.head).softmax(1))


COUNTING = dict(extractor=dict(type='CountingExtractor'))
CIFAR = dict(type='CIFAR10', pipeline=[dict(type='PackInputs')])


@pytest.fixture
def counts():
    CountingExtractor.images, CountingExtractor.outputs = 0, []
    return CountingExtractor


@pytest.fixture
def gan(gan_config):
    torch.manual_seed(1)
    model = MODELS.build(gan_config(ema_config=dict(momentum=0.9)))
    for parameter in model.generator.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture
def real(cifar_root):
    dataset = CIFAR10(data_root=str(cifar_root), pipeline=[dict(type='PackInputs')])
    dataset._metainfo['classes'] = ('a', 'b', 'c')
    dataset.labels %= 3
    return RealImages(dataset)


def all_metrics(**options) -> list[dict]:
    arguments = dict(COUNTING, **options)
    return [
        dict(type='InceptionScore', fake_nums=60, splits=4, resize=False, **arguments),
        dict(type='FrechetInceptionDistance', fake_nums=90, **arguments),
        dict(type='KernelInceptionDistance', fake_nums=90, real_nums=80, num_subsets=3, subset_size=20, **arguments),
        dict(type='PrecisionRecall', fake_nums=90, real_nums=80, **arguments),
        dict(type='IntraFID', fake_nums=90, **arguments),
    ]


def reference(gan, network, real_images) -> dict:
    """Every metric from the pure functions, on the images one by one."""
    noise, label = SampleInputs(gan.noise_size, gan.num_classes, (0, 0)).draw(0, 90)
    with torch.no_grad():
        images = torch.cat([to_uint8(network.eval()(n[None], label=y[None])) for n, y in zip(noise, label)])
    extractor = CountingExtractor()
    fake = extractor(images)
    batch = next(real_images.batches(100, 100, CPU))
    true = extractor(batch.images)['features']

    def statistics(features):
        return features.double().mean(0), torch.tensor(np.cov(features.double().numpy(), rowvar=False))

    fid = frechet_distance(*statistics(fake['features']), *statistics(true))
    per_class = {
        name: frechet_distance(*statistics(fake['features'][label == c]), *statistics(true[batch.label == c]))
        for c, name in enumerate('abc')
    }
    score, std = inception_score(fake['probabilities'][:60], 4)
    kid, kid_std = kernel_distance(true[:80], fake['features'], 3, 20)
    shares = precision_recall(true[:80], fake['features'])
    return {
        'IS-counting/is': score,
        'IS-counting/is_std': std,
        'FID-counting/fid': fid,
        'KID-counting/kid': kid,
        'KID-counting/kid_std': kid_std,
        **{f'PR-counting/{name}': value for name, value in shares.items()},
        'IntraFID-counting/intra_fid': float(np.mean(list(per_class.values()))),
        'IntraFID-counting/per_class': per_class,
    }


def test_metrics_that_keep_different_things_of_the_same_images(gan, real):
    """In one pass, each gives what it gives alone."""
    metrics = [dict(type=name, fake_nums=90, real_nums=80, **COUNTING) for name in ('FIDInfinity', 'AuthPct')]
    metrics += [dict(metric, real_nums=80) for metric in all_metrics()[1:4]]
    together = Evaluator(metrics).evaluate_model(gan, real, 32)
    alone = [Evaluator(metric).evaluate_model(gan, real, 32) for metric in metrics]
    assert together == {name: value for results in alone for name, value in results.items()}
    assert {'FIDInfinity-counting/fid_infinity', 'AuthPct-counting/authpct'} < set(together)


@pytest.mark.parametrize('sample_model', ['ema', 'orig', None])
def test_all_metrics_equal_the_pure_functions(gan, real, sample_model):
    evaluator = Evaluator(all_metrics(sample_model=sample_model))
    results = evaluator.evaluate_model(gan, real, batch_size=16)
    expected = reference(gan, gan.get_generator(sample_model), real)
    assert list(results) == list(expected) == evaluator.result_names
    assert results.pop('IntraFID-counting/per_class') == pytest.approx(expected.pop('IntraFID-counting/per_class'), rel=1e-3)
    assert results == pytest.approx(expected, rel=1e-3)


def test_one_pass(gan, real, counts):
    """Five metrics on each of two models: every sample is made once, and extracted once, as is every real image."""
    made = []
    for network in (gan.generator, gan.generator_ema):
        network.register_forward_hook(lambda module, args, output: made.append(len(output)))
    metrics = all_metrics(sample_model='orig') + [
        dict(metric, prefix=f'{metric["type"]}-ema') for metric in all_metrics(sample_model='ema')
    ]
    evaluator = Evaluator(metrics)
    evaluator.evaluate_model(gan, real, batch_size=16)
    probes = 2 * 2
    assert sum(made) == 2 * 90 and counts.images == 2 * 90 + 100 + probes
    evaluator.evaluate_model(gan, real, batch_size=16)
    assert sum(made) == 4 * 90 and counts.images == 4 * 90 + 100 + probes, 'real images are extracted once and for all'
    assert counts.outputs[-3:] == [{'features', 'probabilities'}, {'features'}, {'features'}], 'IS wants 60 samples'


@pytest.mark.parametrize('batch_size', [1, 89, 200])
def test_any_batch_size(gan, real, batch_size):
    whole, parts = (Evaluator(all_metrics()).evaluate_model(gan, real, size) for size in (32, batch_size))
    for name, value in whole.items():
        assert parts[name] == pytest.approx(value, rel=1e-6), name


def test_the_model_and_the_random_numbers_stay_as_they_are(gan, real):
    gan.train()
    before = {name: value.clone() for name, value in gan.state_dict().items()}
    state = torch.random.get_rng_state()
    Evaluator(all_metrics(), standing_steps=2, standing_batch_size=8).evaluate_model(gan, real, 32)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in gan.state_dict().items())
    assert gan.generator.training and not gan.generator_ema.training


def test_standing_statistics_and_the_seed_change_the_samples(gan, real):
    plain, standing, seeded = (
        Evaluator(all_metrics()[1:2], **each).evaluate_model(gan, real, 32)['FID-counting/fid']
        for each in (dict(), dict(standing_steps=4, standing_batch_size=8), dict(seed=1))
    )
    assert plain != standing != seeded != plain
    # of samples that are not scored
    apply_standing_statistics(gan.generator_ema, SampleInputs(gan.noise_size, gan.num_classes, (0, 1)), 4, 8)
    assert Evaluator(all_metrics()[1:2]).evaluate_model(gan, real, 32)['FID-counting/fid'] == standing


def test_a_source_gets_only_the_samples_that_its_metrics_want(gan, real, counts):
    other = dict(extractor=dict(type='CountingExtractor', scale=2.0))
    metrics = [dict(all_metrics()[1], fake_nums=25), dict(all_metrics()[1], fake_nums=20, prefix='2-counting', **other)]
    evaluator = Evaluator(metrics + [dict(all_metrics()[4], fakes_per_class=300)])
    evaluator.prepare(CPU, 16, real, gan)
    counts.images = 0
    evaluator.evaluate_model(gan, real, batch_size=16)
    assert counts.images == 25 + 20 + 3 * 300


@pytest.mark.parametrize('fakes_per_class', [20, 'real'])
def test_intra_fid_of_as_many_samples_as_asked_for(gan, real, fakes_per_class):
    metric = dict(all_metrics()[4], fakes_per_class=fakes_per_class)
    found = Evaluator(metric).evaluate_model(gan, real, 16)['IntraFID-counting/per_class']
    batch = next(real.batches(100, 100, CPU))
    number = 0
    for label, name in enumerate('abc'):
        true = CountingExtractor()(batch.images[batch.label == label])['features']
        count = len(true) if fakes_per_class == 'real' else 20
        noise = SampleInputs(gan.noise_size, seed=(0, 0)).noise(number, number + count)
        images = to_uint8(gan.sample(noise, torch.full((count,), label)))
        fake, number = CountingExtractor()(images)['features'], number + count
        moments = [(f.double().mean(0), np.cov(f.double().numpy(), rowvar=False)) for f in (fake, true)]
        assert found[name] == pytest.approx(frechet_distance(*moments[0], *moments[1]), rel=1e-4)


def test_a_covariance_below_its_rank_is_scored_and_said(gan, real, said):
    score = Evaluator(dict(all_metrics()[1], fake_nums=10)).evaluate_model(gan, real, 16)['FID-counting/fid']
    assert score > 0 and any('fake_nums=10' in line for line in said)


def test_batch_statistics(gan, real):
    """Those of the batches of samples, as torch's batch norm uses them in training, and nothing of the model changes."""
    images = []
    evaluator = Evaluator(dict(all_metrics()[1], sample_model='orig'), batch_statistics=True)
    evaluator.prepare(CPU, 30, real, gan)
    evaluator.score = lambda source, *_: (
        images.extend(source.batches(60, 30, CPU)) or dict.fromkeys(evaluator.result_names, 0.0)
    )
    evaluator.evaluate_model(gan, real, 30)
    noise, label = SampleInputs(gan.noise_size, gan.num_classes, (0, 0)).draw(0, 60)
    training = copy.deepcopy(gan.generator).train()
    for part, batch in zip((slice(0, 30), slice(30, 60)), images):
        for layer in training.modules():
            if hasattr(layer, 'weight_orig'):
                layer.eval()  # no power iteration
        torch.testing.assert_close(
            batch.unrounded, (training(noise[part], label=label[part]) + 1) * 127.5, rtol=1e-4, atol=1e-2
        )


def test_samples_that_are_not_rounded(gan, real):
    """StudioGAN's extractors got floats."""
    gan.init_weights()  # for pixels between black and white
    rounded, floats = (
        Evaluator(dict(all_metrics()[1], quantize=quantize)).evaluate_model(gan, real, 32)['FID-counting/fid']
        for quantize in (True, False)
    )
    noise, label = SampleInputs(gan.noise_size, gan.num_classes, (0, 0)).draw(0, 90)
    features = CountingExtractor()((gan.sample(noise, label) + 1) * 127.5)['features'].double()
    true = CountingExtractor()(next(real.batches(100, 100, CPU)).images)['features'].double()
    moments = [(each.mean(0), np.cov(each.numpy(), rowvar=False)) for each in (features, true)]
    assert rounded != floats == pytest.approx(frechet_distance(*moments[0], *moments[1]), rel=1e-5)


def test_a_metric_with_a_data_set_of_its_own(gan, cifar_root, tmp_path, counts):
    """What it does not state is as in the data loader's; metrics with the same data set share its features."""
    shared = RealImages(dict(CIFAR, data_root=str(cifar_root)))
    metric, own = all_metrics()[1], dict(indices=40)
    metrics = [metric, *(dict(metric, dataset=own, prefix=f'{name}-counting') for name in 'ab')]
    evaluator = Evaluator(metrics, inception_pkl=str(tmp_path / 'shared.pkl'))
    results = evaluator.evaluate_model(gan, shared, 32)
    assert counts.images == 2 + 100 + 40 + 90
    few = RealImages(dict(CIFAR, data_root=str(cifar_root), **own))
    assert (
        results['a-counting/fid']
        == results['b-counting/fid']
        == Evaluator(metric).evaluate_model(gan, few, 32)['FID-counting/fid']
    )
    assert results['FID-counting/fid'] == Evaluator(metric).evaluate_model(gan, shared, 32)['FID-counting/fid']
    with pytest.raises(ConfigError, match='no_such'):
        Evaluator(dict(metric, dataset=dict(no_such=1))).evaluate_model(gan, shared, 32)
    with pytest.raises(ConfigError, match='indices'):  # there is no data loader to take the rest from
        Evaluator(dict(metric, dataset=own)).evaluate_model(gan, None, 32)
    alone = dict(metric, dataset=dict(CIFAR, data_root=str(cifar_root)))
    assert Evaluator(alone).evaluate_model(gan, None, 32)['FID-counting/fid'] == results['FID-counting/fid']


def test_truncations_and_seeds(gan, real):
    metric = all_metrics()[1]

    def score(**options):
        return Evaluator(metric, **options).evaluate_model(gan, real, 32)

    single = {(seed, value): score(seed=seed, truncation=value)['FID-counting/fid'] for seed in (3, 4) for value in (0.5, None)}
    results = score(seed=3, num_seeds=2, truncation=[0.5, None])
    for value in (0.5, None):
        name, pair = f'truncation_{value}/FID-counting/fid', [single[seed, value] for seed in (3, 4)]
        assert results[name] == pytest.approx(np.mean(pair))
        assert results[f'seeds_std/{name}'] == pytest.approx(np.std(pair, ddof=1))
    assert len(set(single.values())) == 4
    evaluator = Evaluator(metric, truncation=[0.5, None])
    assert list(evaluator.evaluate_model(gan, real, 32)) == evaluator.result_names
    assert evaluator.num_batches(gan, 32) == 2 * 3


@pytest.mark.parametrize('real_nums, size', [(-1, 100), (80, 80)])
def test_statistics_are_written_once_and_then_used(gan, cifar_root, tmp_path, real_nums, size):
    real, no_data = (RealImages(dict(CIFAR, data_root=root)) for root in (str(cifar_root), 'gone'))
    metrics = [dict(type='FrechetInceptionDistance', fake_nums=50, real_nums=real_nums, **COUNTING)]
    path = str(tmp_path / 'real.pkl')
    first = Evaluator(metrics, inception_pkl=path).evaluate_model(gan, real, 32)
    written = load_statistics(tmp_path / 'real-counting.pkl')  # the extractor's suffix joins the name
    assert (written.size, written.whole, written.extractor) == (size, size == 100, 'counting')
    assert written.automatic and written.content.items() >= dict(real.fingerprint, image_size=[32, 32]).items()
    assert Evaluator(metrics, inception_pkl=path).evaluate_model(gan, no_data, 32) == first, 'without the data'


@pytest.mark.parametrize('batch_size', [1, 7, 60])
def test_scores_are_those_of_the_readable_images(tmp_path, gan, batch_size):
    pixels = np.random.RandomState(0).randint(256, size=(60, 8, 8, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        (tmp_path / f'{number % 3}').mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / f'{number % 3}' / f'{number:02}.png')
    for number in (4, 19, 57):
        (tmp_path / f'{number % 3}' / f'{number:02}.png').write_bytes(b'')
    enlarge = dict(type='Resize', scale=(32, 32), interpolation='nearest', backend='pillow')  # the extractor shrinks to 8x8
    pipeline = [dict(type='LoadImageFromFile'), enlarge, dict(type='PackInputs')]
    config = dict(type='ImageFolder', data_root=str(tmp_path), pipeline=pipeline, max_unreadable_share=0.05)
    metrics = [
        dict(type='InceptionScore', fake_nums=50, splits=3, resize=False, **COUNTING),
    ]
    for count in (-1, 50):
        names = dict(prefix=f'{count}-counting', inception_pkl=f'{tmp_path}/{count}.pkl')
        metrics.append(dict(type='FrechetInceptionDistance', fake_nums=60, real_nums=count, **names, **COUNTING))
    evaluators = [Evaluator(metrics, held_out=config) for _ in range(2)]
    with pytest.warns(UserWarning, match='unreadable image skipped'):
        first, again = (evaluator.evaluate_model(gan, RealImages(config), batch_size) for evaluator in evaluators)
    assert first == again, 'the statistics that the first one has written are those of the same images'
    numbers = np.array([*range(0, 60, 3), *range(1, 60, 3), *range(2, 60, 3)])[np.random.RandomState(0).permutation(60)]
    values = CountingExtractor()(torch.from_numpy(pixels[numbers]).permute(0, 3, 1, 2))
    is_kept = torch.from_numpy(~np.isin(numbers, [4, 19, 57]))
    kept = values['features'].double()[is_kept].numpy()
    statistics = load_statistics(tmp_path / '-1.pkl')
    np.testing.assert_allclose(statistics.mean, kept.mean(0), rtol=1e-5)
    np.testing.assert_allclose(statistics.cov, np.cov(kept, rowvar=False), rtol=1e-4)
    parts = [values['probabilities'][a:b][is_kept[a:b]] for a, b in ((0, 16), (16, 33), (33, 50))]
    assert first['held_out/IS-counting/is'] == pytest.approx(np.mean([inception_score(part, 1)[0] for part in parts]))


def test_held_out_images(gan, real, cifar_root):
    held_out = dict(CIFAR, data_root=str(cifar_root), indices=50)  # fewer than there are samples
    evaluator = Evaluator(all_metrics(), held_out=held_out)
    results = evaluator.evaluate_model(gan, real, 32)
    names = [name for name in results if name.startswith('held_out/')]
    assert names == [f'held_out/{name}' for name in evaluator.result_names if 'Intra' not in name]
    assert list(results) == evaluator.result_names + names
    images = next(RealImages(held_out).batches(50, 50, CPU)).images
    score = inception_score(CountingExtractor()(images)['probabilities'], 4)[0]
    assert results['held_out/IS-counting/is'] == pytest.approx(score, rel=1e-5)
    alone = Evaluator(all_metrics()[-1:], held_out=held_out)  # which scores no held-out images
    assert list(alone.evaluate_model(gan, real, 32)) == alone.result_names


def test_an_unconditional_gan_without_a_moving_average(gan_config, real):
    gan = MODELS.build(gan_config(num_classes=0))
    assert len(Evaluator(all_metrics()[:4]).evaluate_model(gan, real, 32)) == 9
    with pytest.raises(ConfigError, match='IntraFID'):
        Evaluator(all_metrics()).evaluate_model(gan, real, 32)
    with pytest.raises(ConfigError, match='moving average'):
        Evaluator(all_metrics(sample_model='ema')[:4]).evaluate_model(gan, real, 32)


@pytest.fixture
def no_sampling(gan):
    def forbid(module, args, kwargs):
        raise AssertionError('sampled before the mistake was found')

    gan.generator.register_forward_pre_hook(forbid, with_kwargs=True)
    gan.generator_ema.register_forward_pre_hook(forbid, with_kwargs=True)
    return gan


@pytest.mark.parametrize(
    'num_real, metric, message',
    [
        (100, dict(type='FrechetInceptionDistance', fake_nums=1), 'fake_nums=1,'),
        (100, dict(type='IntraFID', fake_nums=2), 'IntraFID-counting.*=0'),
        (100, dict(type='PrecisionRecall', fake_nums=50), 'real_nums=50000'),
        (100, dict(type='FID', fake_nums=50, extractor=dict(type='CountingExtractor', scale=np.inf)), 'counting'),
        (10, dict(type='FrechetInceptionDistance', fake_nums=50, real_nums=1), 'FID-counting.*=1'),
        (10, dict(type='KernelInceptionDistance', fake_nums=50, real_nums=1), 'KID-counting.*1'),
        (10, dict(type='PrecisionRecall', fake_nums=50, real_nums=4, k=4), 'PR-counting.*4'),
        (10, dict(type='IntraFID', fake_nums=90), "IntraFID-counting.*'c'"),
    ],
)
def test_mistakes_are_found_before_sampling(no_sampling, real, num_real, metric, message):
    dataset = real.dataset.get_subset(num_real)
    if num_real == 10:
        dataset.labels = dataset.labels % 2  # no image of class c
    evaluator = Evaluator([dict(COUNTING, **metric)])
    for _ in range(2):
        with pytest.raises((ConfigError, DataError), match=message):
            evaluator.evaluate_model(no_sampling, RealImages(dataset), 32)


def test_statistics_that_cannot_be_written_are_found_before_sampling(no_sampling, real, tmp_path):
    (tmp_path / 'file').write_text('')
    for path in ('statistics.txt', 'file/statistics.pkl'):
        with pytest.raises((ConfigError, DataError), match='statistics'):
            Evaluator(all_metrics()[1:2], inception_pkl=str(tmp_path / path)).evaluate_model(no_sampling, real, 32)


def test_arguments_of_mmagic():
    theirs = dict(need_cond_input=True, fake_key='fake', real_key='img', collect_device='cpu', fake_nums=6e1)
    metric = Evaluator([dict(all_metrics()[0], **theirs)]).metrics[0]
    assert metric.fake_nums == 60 and isinstance(metric.fake_nums, int)


def test_names_carry_the_extractor():
    metrics = [
        dict(type='FID', prefix='FID-50k', **COUNTING),
        dict(type='FID', prefix='Counting-FID', **COUNTING),
        dict(type='IS', **COUNTING),
        dict(type='IS', prefix='IS-50k'),
        dict(type='KID', inception_style='PyTorch'),
    ]
    prefixes = [metric.prefix for metric in Evaluator(metrics).metrics]
    assert prefixes == ['FID-50k-counting', 'Counting-FID', 'IS-counting', 'IS-50k', 'KID-PyTorch']


def test_which_images_are_resized_for_the_inception_score():
    """Those for StyleGAN's, as in its published scores; the others' networks resize themselves."""
    styles = dict(stylegan=True, pytorch=False, digits=False)
    for style, resized in styles.items():
        assert (Evaluator([dict(type='IS', inception_style=style)]).metrics[0].source.resize is not None) == resized
    assert Evaluator([dict(type='IS', resize=False)]).metrics[0].source.resize is None


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(metrics=[]), 'metrics'),
        (dict(metrics=all_metrics() + all_metrics()[:1]), "'IS-counting'"),
        (dict(metrics=all_metrics(), standing_steps=-1), 'standing_steps'),
        (dict(metrics=[dict(all_metrics()[1], sample_model='both')]), 'sample_model'),
        (dict(metrics=all_metrics(), seed=-1), 'seed'),
        (dict(metrics=all_metrics(), num_seeds=0), 'num_seeds'),
        (dict(metrics=all_metrics(), truncation=[0.5, 0]), 'truncation'),
        (dict(metrics=all_metrics(), truncation=[]), 'truncation'),
        (dict(metrics=all_metrics(), standing_steps=1, batch_statistics=True), 'batch_statistics'),
        (dict(metrics=[dict(all_metrics()[4], fakes_per_class=1)]), 'fakes_per_class'),
        (dict(metrics=[dict(all_metrics()[2], subset_size=1)]), 'subset_size'),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ConfigError, match=message):
        Evaluator(**options)


def test_our_pipeline_through_the_stand_in(gan, real, inception_file):
    metrics = [
        dict(type='InceptionScore', fake_nums=20, splits=2, inception_path=inception_file),
        dict(type='FrechetInceptionDistance', fake_nums=20, inception_path=inception_file),
    ]
    results = Evaluator(metrics).evaluate_model(gan, real, 8)
    noise, label = SampleInputs(gan.noise_size, gan.num_classes, (0, 0)).draw(0, 20)
    with torch.no_grad():
        images = to_uint8(gan.generator_ema(noise, label=label))
        script = torch.jit.load(inception_file)
        true = next(real.batches(100, 100, CPU)).images
        fake, true = (script(part, return_features=True).double().numpy() for part in (images, true))
        probabilities = script(resize_pillow(images), no_output_bias=True)
    fid = frechet_distance(fake.mean(0), np.cov(fake, rowvar=False), true.mean(0), np.cov(true, rowvar=False))
    assert results['FID/fid'] == pytest.approx(fid, rel=1e-4)
    assert results['IS/is'] == pytest.approx(inception_score(probabilities, 2)[0], rel=1e-5)
    assert json.dumps(results)


# ------------------------------------------------------------------------------------------- statistics of which images


def write_noise(path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(256, size=(8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, 'BMP')  # all of one size in bytes


def folder_images(folder, size=32, method='bilinear', **options) -> RealImages:
    resize = dict(type='Resize', scale=(size, size), interpolation=method, backend='pillow')
    pipeline = [dict(type='LoadImageFromFile'), resize, dict(type='PackInputs')]
    return RealImages(dict(type='ImageFolder', data_root=str(folder), pipeline=pipeline), **options)


@pytest.fixture
def photos(tmp_path):
    for index in range(60):
        write_noise(tmp_path / 'photos' / f'class{index % 3}' / f'{index}.bmp', index)
    return tmp_path / 'photos'


@pytest.fixture
def said(monkeypatch):
    messages: list[str] = []
    monkeypatch.setattr(fid_module, 'print_log', lambda message, **_: messages.append(message))
    return messages


def fid_of(gan, images, path=None, real_nums=-1, **options):
    metric = dict(type='FrechetInceptionDistance', fake_nums=50, real_nums=real_nums, **COUNTING, **options)
    return Evaluator(dict(metric, inception_pkl=path and str(path))).evaluate_model(gan, images, 32)


def copied(photos):
    """Without its times."""
    return shutil.copytree(photos, photos.with_name('elsewhere'), copy_function=shutil.copyfile)


CHANGES = {
    'replaced': lambda photos: write_noise(photos / 'class0' / '3.bmp', 99),
    'added': lambda photos: write_noise(photos / 'class0' / '99.bmp', 99),
    'removed': lambda photos: (photos / 'class0' / '3.bmp').unlink(),
    'renamed': lambda photos: (photos / 'class0' / '3.bmp').rename(photos / 'class0' / '4.bmp'),
    'other folder': lambda photos: write_noise(copied(photos) / 'class1' / '1.bmp', 99),
    'another interpolation': lambda photos: dict(method='bicubic'),
    'another choice': lambda photos: dict(seed=5),
    'the first ones': lambda photos: dict(seed=None),
    'copied': copied,
    'touched': lambda photos: os.utime(photos / 'class0' / '3.bmp', (1, 1)),
}


@pytest.mark.parametrize('change', CHANGES)
def test_statistics_of_changed_images(gan, photos, tmp_path, said, change):
    paths = [tmp_path / 'automatic.npz', tmp_path / 'given.pkl']
    real_nums = 50 if change in ('another choice', 'the first ones') else -1
    before = fid_of(gan, folder_images(photos), paths[0], real_nums)
    save_statistics(replace(load_statistics(paths[0]), automatic=False), paths[1])
    assert fid_of(gan, folder_images(photos), paths[1], real_nums) == before

    options = CHANGES[change](photos)
    folder = photos.with_name('elsewhere') if change in ('copied', 'other folder') else photos
    images = folder_images(folder, **options) if isinstance(options, dict) else folder_images(folder)
    expected = fid_of(gan, images, real_nums=real_nums)
    assert change == 'renamed' or (expected == before) == (change in ('copied', 'touched'))
    del said[:]
    assert fid_of(gan, images, paths[0], real_nums) == pytest.approx(expected, rel=1e-9)
    assert any('made anew' in line for line in said) == (change not in ('copied', 'touched'))
    if change in ('copied', 'touched', 'another choice'):
        assert fid_of(gan, images, paths[1], real_nums) == before
    else:
        with pytest.raises(ConfigError, match='given.pkl'):
            fid_of(gan, images, paths[1], real_nums)


def test_fingerprints_of_lists_of_images_and_of_large_files(photos, monkeypatch):
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob('*.bmp'))
    (photos / 'list.txt').write_text(''.join(f'{name} {name[5]}\n' for name in reversed(names)))
    config = folder_images(photos).config
    found = RealImages(dict(config, ann_file='list.txt')).fingerprint
    assert found == folder_images(photos).fingerprint, 'in any order'
    monkeypatch.chdir(photos)
    lines = [f'{photos / name if number else name} {name[5]}\n' for number, name in enumerate(names)]
    (photos / 'list.txt').write_text(''.join(lines))
    assert RealImages(dict(config, data_root='', ann_file=str(photos / 'list.txt'))).fingerprint == found, 'absolute paths, too'
    (photos / 'list.txt').write_text(''.join(f'{name} {name[5]}\n' for name in names[1:]))
    assert RealImages(dict(config, ann_file='list.txt')).fingerprint['names'] != found['names']
    (photos / names[0]).write_bytes((photos / names[0]).read_bytes() + bytes(200_000))
    large = folder_images(photos).fingerprint
    for position, whence in ((300, os.SEEK_SET), (-1, os.SEEK_END)):
        with (photos / names[0]).open('r+b') as file:
            file.seek(position, whence)
            file.write(b'x')
        before, large = large, folder_images(photos).fingerprint
        assert large != before


def test_of_many_files_a_spread_choice_is_read(photos, monkeypatch):
    read = []
    monkeypatch.setattr(images_module, '_MAX_COMPARED', 10)
    monkeypatch.setattr(images_module, '_read_ends', lambda path: read.append(os.path.basename(path)) or b'')
    found = folder_images(photos).fingerprint
    assert len({*read}) == 10
    (photos / 'class0' / '3.bmp').unlink()
    assert folder_images(photos).fingerprint['images'] == found['images'] - 1


@pytest.mark.parametrize('automatic', [True, False])
@pytest.mark.parametrize('here', [True, False])
def test_statistics_of_images_of_another_size_are_not_taken(gan, photos, tmp_path, here, automatic):
    path = tmp_path / 'real.pkl'
    save_statistics(image_statistics(folder_images(photos, 24), inception=COUNTING), path)
    save_statistics(replace(load_statistics(path), automatic=automatic), path)
    with pytest.raises(ConfigError, match='24, 24.*32, 32|32x32 .*24x24'):
        fid_of(gan, folder_images(photos, 24) if here else None, path)
    if here and automatic:
        assert fid_of(gan, folder_images(photos), path) == fid_of(gan, folder_images(photos))


def test_images_of_two_sizes_are_not_compared(gan, photos):
    for options in (dict(), dict(held_out=folder_images(photos, 24).config)):
        images = folder_images(photos, 32 if options else 24)
        with pytest.raises(ConfigError, match='32x32 .*24x24'):
            Evaluator(all_metrics()[1:2], **options).evaluate_model(gan, images, 32)


def test_features_of_another_file_are_told_apart_by_its_content(tmp_path, monkeypatch, inception_file):
    copy, other = tmp_path / 'copy.pt', tmp_path / 'other.pt'
    shutil.copyfile(inception_file, copy)
    other.write_bytes(b'other')
    metrics = [dict(type='FID', inception_path=str(path)) for path in (inception_file, copy, other)] + [dict(type='FID')]
    found = [json.dumps(Evaluator(metric).metrics[0].source.fingerprint) for metric in metrics]
    assert found[0] == found[1] and len(set(found)) == 3 and str(tmp_path) not in ''.join(found)
    monkeypatch.setattr(StyleGANInception, 'sha256', hashlib.sha256(copy.read_bytes()).hexdigest())
    assert json.dumps(Evaluator(metrics[1]).metrics[0].source.fingerprint) == found[3], 'it is the published file'


def test_statistics_of_other_programs_are_used_and_that_is_said(gan, photos, tmp_path, said):
    path = tmp_path / 'real.npz'
    save_statistics(image_statistics(folder_images(photos), inception=COUNTING), path)
    found = load_statistics(path)
    for content in ({}, dict(type='ImageFolder', image_size=32)):
        save_statistics(Statistics(found.mean, found.cov, content=content), path)
        del said[:]
        fid_of(gan, folder_images(photos), path)
        assert len(said) == 1 and 'cannot be told' in said[0]


def test_a_file_for_all_metrics_is_used_by_those_of_its_extractor(gan, photos, tmp_path, said):
    path = tmp_path / 'real.pkl'
    save_statistics(image_statistics(folder_images(photos), inception=COUNTING), path)
    metrics = [dict(type='FrechetInceptionDistance', fake_nums=50, **COUNTING)]
    evaluator = Evaluator(metrics, inception_pkl=str(path))
    assert evaluator.metrics[0].inception_pkl == str(path), 'as dist_test.sh asks beforehand'
    evaluator.evaluate_model(gan, None, 32)
    assert f'read from {path}' in said[-1]
    save_statistics(replace(load_statistics(path), extractor=''), path)
    del said[:]
    Evaluator(metrics, inception_pkl=str(path)).evaluate_model(gan, folder_images(photos), 32)
    assert str(path) in said[0] and 'real-counting.pkl' in said[0] and (tmp_path / 'real-counting.pkl').is_file()


@pytest.mark.parametrize(
    'metric, message',
    [
        (dict(type='FID', fake_nums=1), 'fake_nums=1,'),
        (dict(type='KID', real_nums=61), 'real_nums=61'),
        (dict(type='PR'), 'real_nums=50000'),
    ],
)
def test_too_few_images_are_found_before_an_extractor_is_built(gan, photos, monkeypatch, metric, message):
    monkeypatch.setattr(EXTRACTORS, 'build', lambda config: pytest.fail('it is built'))
    with pytest.raises(ConfigError, match=message):
        Evaluator([dict(type='IS'), metric]).evaluate_model(gan, folder_images(photos), 32)
