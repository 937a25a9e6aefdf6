"""Speed and time left, by a clock that the tests wind on."""

from types import SimpleNamespace

import pytest
from mmengine.hooks import iter_timer_hook

from mmsagan.apis import train_from_config
from mmsagan.engine.hooks import IterTimerHook, timer
from mmsagan.engine.hooks.timer import evaluations_left


@pytest.fixture
def clock(monkeypatch):
    """The time, as ``clock.now``; it passes only when a test says so."""
    clock = SimpleNamespace(now=1000.0)
    clock.time = lambda: clock.now
    monkeypatch.setattr(timer, 'time', clock)
    monkeypatch.setattr(iter_timer_hook, 'time', clock)
    return clock


@pytest.fixture
def timed(quick_runner, clock):
    """Makes a runner whose iterations take as long as ``seconds(iteration)`` says: timed(max_iters, seconds)."""

    def make(max_iters, seconds, **kwargs):
        infos = []

        def note(runner, batch):
            infos.append(dict(runner.message_hub.runtime_info))  # of the iteration before
            clock.now += seconds(runner.iter + 1)

        runner = quick_runner(max_iters, noting=note, **kwargs)
        return runner, infos

    return make


def last(runner, name):
    return runner.message_hub.get_info(name)


def test_the_speed_is_that_of_the_last_iterations(timed):
    """The first one starts loaders and compiles; evaluations do not count; a slower machine shows after 50 iterations."""
    runner, infos = timed(110, lambda iteration: 100.0 if iteration == 1 else 0.5 if iteration <= 55 else 2.0, batch_size=4)
    runner.train()
    assert infos[1]['images_per_second'] == pytest.approx(4 / 100)
    assert infos[2]['images_per_second'] == infos[50]['images_per_second'] == pytest.approx(4 / 0.5)
    assert infos[80]['images_per_second'] == pytest.approx(4 * 50 / (25 * 0.5 + 25 * 2))
    assert last(runner, 'images_per_second') == pytest.approx(4 / 2.0)


def test_the_time_left_is_that_of_the_iterations(timed):
    runner, infos = timed(20, lambda iteration: 60.0 if iteration == 1 else 3.0)
    runner.train()
    assert infos[1]['eta'] == pytest.approx(60 * 19), 'all that is known'
    assert [infos[done]['eta'] for done in (2, 10, 19)] == pytest.approx([3 * 18, 3 * 10, 3 * 1])
    assert last(runner, 'eta') == 0


def test_a_resumed_run_counts_its_own_iterations(timed, quick_runner):
    runner, _ = timed(4, lambda iteration: 1000.0)
    runner.train()
    runner, infos = timed(8, lambda iteration: 2.0, resume=True)
    runner.train()
    assert infos[-1]['images_per_second'] == pytest.approx(4 / 2.0) and infos[-1]['eta'] == pytest.approx(2.0)
    assert infos[1]['eta'] == pytest.approx(3 * 2.0)


def test_images_of_all_processes_and_of_all_parts(timed, monkeypatch):
    monkeypatch.setattr(timer, 'get_world_size', lambda: 8)
    runner, _ = timed(4, lambda iteration: 0.5, batch_size=4, optim_wrapper=dict(accumulative_counts=2))
    runner.train()
    assert last(runner, 'images_per_second') == pytest.approx(8 * 4 / 0.5)


def test_skipped_updates_have_taken_their_time(timed):
    """A batch whose updates are skipped has been worked through all the same."""
    runner, _ = timed(6, lambda iteration: 0.5)
    runner.model.discriminator.linear.weight.data.fill_(float('nan'))
    runner.train()
    assert runner.optim_wrapper['discriminator'].skipped == 6
    assert last(runner, 'images_per_second') == pytest.approx(4 / 0.5)


def test_evaluations_count_for_the_time_left_and_not_for_the_speed(tiny_run, clock, monkeypatch):
    """Each takes 100 seconds, of which the last come after its last batch."""
    import mmsagan.evaluation

    def evaluate(*_):
        clock.now += 100
        return {'FID-digits/fid': 1.0}

    monkeypatch.setattr(mmsagan.evaluation.Evaluator, 'evaluate_model', evaluate)
    infos = {}

    def note(self, runner, batch_idx, **_):
        original(self, runner, batch_idx, **_)
        infos[runner.iter + 1] = dict(runner.message_hub.runtime_info)

    original = IterTimerHook.after_train_iter
    monkeypatch.setattr(IterTimerHook, 'after_train_iter', note)
    monkeypatch.setattr(IterTimerHook, 'before_train_iter', lambda self, *_, **__: setattr(clock, 'now', clock.now + 2))
    cfg = tiny_run(max_iters=7, custom_hooks=[], **{'train_cfg.val_interval': 3})
    cfg.val_evaluator = dict(metrics=[dict(type='FrechetInceptionDistance', fake_nums=70, inception_style='digits')])
    train_from_config(cfg)
    assert [infos[done]['images_per_second'] for done in (3, 4, 7)] == pytest.approx([2, 2, 2])
    assert infos[3]['eta'] == pytest.approx(4 * 2), 'none has been yet'
    assert [infos[done]['eta'] for done in (4, 6, 7)] == pytest.approx([3 * 2 + 200, 2 + 200, 100])


@pytest.mark.parametrize(
    'done, options, expected',
    [
        (0, {}, 10),
        (99, {}, 1),
        (10, {}, 10),
        (11, {}, 9),
        (100, {}, 1),
        (0, dict(val_begin=50), 6),
        (0, dict(max_iters=95), 10),
        (90, dict(max_iters=95), 2),
        (91, dict(max_iters=95), 1),
        (0, dict(max_iters=95, val_begin=96), 0),
        (0, dict(val_begin=101), 0),
        (0, dict(milestones=[0, 60], intervals=[10, 5]), 6 + 8),
        (0, dict(milestones=[0, 200], intervals=[10, 5]), 10),
    ],
)
def test_evaluations_left(done, options, expected):
    """The first is that of iteration ``done``: hooks ask before it."""
    values = dict(max_iters=100, val_begin=1, milestones=[0], intervals=[10]) | options
    loop = SimpleNamespace(
        max_iters=values['max_iters'],
        val_begin=values['val_begin'],
        dynamic_milestones=values['milestones'],
        dynamic_intervals=values['intervals'],
    )
    assert evaluations_left(loop, done) == expected
