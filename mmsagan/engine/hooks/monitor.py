"""Checks before the first iteration, and warnings about trainings that diverge."""

import re
from collections.abc import Sized
from pathlib import Path

import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from mmsagan.checkpoints import check_compatibility
from mmsagan.checkpoints.io import LAST_CHECKPOINT, list_checkpoints
from mmsagan.engine.config import changes_since
from mmsagan.engine.hooks.logging import LogProcessor, get_optim_wrappers
from mmsagan.engine.loops import GANValLoop
from mmsagan.errors import CheckpointError, ConfigError, DataError, DivergenceError
from mmsagan.models.gan import unwrap
from mmsagan.registry import HOOKS

# What becomes of a value that was changed before the training was resumed; the first pattern that is found decides.
_EFFECTS = (
    (r'^model\.(fast|compile_cfg|init_from)|\.(fused|foreach|capturable|data_root)$|_(path|pkl)$', ''),
    (r'^optim_wrapper\..*optimizer\.type$|^param_scheduler\.\d+\.type$', 'refused'),
    (r'^(optim_wrapper\..*optimizer|param_scheduler|randomness)\.|^auto_scale_lr', "the checkpoint's stays"),
    (r'^val_evaluator', 'used from the next evaluation on; what was best so far was measured the former way'),
    (r'^(model|optim_wrapper|train_dataloader\.(dataset|sampler|batch_s|collate|drop_last))', 'used from here on'),
)
_IMAGES = 'training_images'  # in a checkpoint's meta: the number of images
_SKIPPED = 'train/skipped_steps'  # in the message hub, and with it in every checkpoint


@HOOKS.register_module()
class ConsistencyHook(Hook):
    """Compares the data set and the loaded checkpoint with the model, and raises the errors of later evaluations early.

    At the start of a resumed training, a warning lists what differs from the config and the data of the checkpoint, each with
    what becomes of it; another optimizer or scheduler is refused.

    A training shorter than ``val_interval`` is not evaluated at its end: it is a trial, and 50 000 samples would take longer.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        model, dataset = unwrap(runner.model), runner.train_dataloader.dataset
        classes, num_classes = getattr(dataset, 'metainfo', {}).get('classes'), getattr(model, 'num_classes', None)
        if num_classes and classes and num_classes != len(classes):
            raise DataError(f'the data has {len(classes)} classes; set model.num_classes={len(classes)} (now {num_classes})')
        discriminator = unwrap(getattr(model, 'discriminator', None))
        size = getattr(discriminator, 'input_scale', None)
        if size is not None and len(dataset):
            sample = dataset[0]
            if not isinstance(sample, dict) or not {'inputs', 'labels'} <= set(sample):
                raise DataError("the pipeline must end with dict(type='PackInputs'), see train_dataloader.dataset.pipeline")
            shape, expected = tuple(sample['inputs'].shape), (getattr(discriminator, 'input_channels', 3), size, size)
            if shape != expected:
                remedy = 'resize them in train_dataloader.dataset.pipeline, or choose another model'
                raise DataError(f'the pipeline returns images of shape {shape}, the discriminator takes {expected}; {remedy}')
        loop, train_loop = runner.val_loop, runner.train_loop
        if isinstance(train_loop, IterBasedTrainLoop) and train_loop.max_iters < runner.iter:
            runner.logger.warning(f'nothing to train: train_cfg.max_iters={train_loop.max_iters} at iteration {runner.iter}')
        if not isinstance(loop, GANValLoop):
            return
        if isinstance(train_loop, IterBasedTrainLoop):
            interval = min([train_loop.val_interval, *(train_loop.dynamic_intervals or ())])
            if train_loop.max_iters < interval:
                short = f'its {train_loop.max_iters} iterations are fewer than train_cfg.val_interval={interval}'
                runner.logger.info(f'no evaluation in this run: {short}')
                train_loop.val_begin = train_loop.max_iters + 1
                return
        for hook in runner.hooks:
            results = loop.evaluator.result_names
            unknown = [key for key in getattr(hook, 'key_indicators', ()) if key not in results]
            if isinstance(hook, CheckpointHook) and hook.save_best and unknown:
                raise ConfigError(f'default_hooks.checkpoint.save_best: {unknown[0]!r} is not one of {", ".join(results)}')
        # Extracts the features of the real images, and raises the errors that an evaluation would.
        loop.evaluator.prepare(model.device, loop.batch_size, loop.real_images, model)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        file, saved = runner._load_from or runner.work_dir, checkpoint.get('optimizer')
        networks = set(get_optim_wrappers(runner))
        if runner._resume and (not isinstance(saved, dict) or networks not in ({'model'}, set(saved))):
            causes = 'it was published, converted, or has other optimizers'
            raise CheckpointError(f'{file} cannot be resumed from ({causes}); to start from its weights, set load_from')
        if runner._resume:
            self._compare(runner, checkpoint.get('meta') or {}, file)
        for warning in check_compatibility(unwrap(runner.model), checkpoint, file):
            runner.logger.warning(warning)
        state = checkpoint.get('state_dict', checkpoint)
        if not runner._resume and 'iteration' in state:
            # A new training counts from 0, which the updates of G and the start of the moving average depend on.
            state['iteration'] = torch.zeros_like(state['iteration'])

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if isinstance(runner.train_dataloader.dataset, Sized):
            checkpoint['meta'][_IMAGES] = len(runner.train_dataloader.dataset)

    def _compare(self, runner: Runner, meta: dict, file: str) -> None:
        """Lists what is not as in the checkpoint, and refuses what cannot be meant."""
        dataset, listed, refused = runner.train_dataloader.dataset, [], []
        changes, unreadable = changes_since(meta.get('cfg'), runner.cfg)
        if unreadable:
            runner.logger.info(f'not compared with the checkpoint, since it is not plain data: {", ".join(unreadable)}')
        replaced = [key.removesuffix('type') for key in changes if re.match(r'param_scheduler\.\d+\.type$', key)]
        for key, (before, after) in changes.items():
            effect = next((effect for pattern, effect in _EFFECTS if re.search(pattern, key)), '')
            change = f'{key}: {before or "not set"} -> {after or "not set"}'
            if effect == 'refused' and after:
                refused.append(change)
            elif effect and (effect == 'refused' or not key.startswith(tuple(replaced))):
                listed.append(f'{change}: {"the rate stays as it is" if effect == "refused" else effect}')
        own = getattr(dataset, 'metainfo', None)
        old, new = (tuple((info or {}).get('classes') or ()) for info in (meta.get('dataset_meta'), own))
        if getattr(unwrap(runner.model), 'num_classes', None) and old != new:
            labels = {name: label for label, name in enumerate(new)}
            moved = [(name, label) for label, name in enumerate(old) if labels.get(name, label) != label]
            refused += [f'class {name} was label {label} and is {labels[name]}' for name, label in moved]
            names = ', '.join(f'{one} -> {other}' for one, other in zip(old, new) if one != other)
            listed.append(f'train_dataloader.dataset: classes {names[:200]}: taken for the same ones')
        if refused:
            remedy = 'to start anew from its weights, set load_from, or with other classes model.init_from.checkpoint'
            raise ConfigError(f'{file} cannot be resumed from with this config: {refused[0]}; {remedy}, without resume')
        if isinstance(dataset, Sized) and meta.get(_IMAGES, len(dataset)) != len(dataset):
            listed.append(f'train_dataloader.dataset: {meta[_IMAGES]} -> {len(dataset)} images: they come in another order')
        if listed:
            runner.logger.warning(f'differences from {file}, which is resumed:\n  ' + '\n  '.join(listed))
        meta['dataset_meta'] = own  # MMEngine would warn without saying of what


@HOOKS.register_module()
class DivergenceHook(Hook):
    """Counts the optimizer steps that were skipped because of NaN or Inf, and ends a training that takes no others.

    The log and the checkpoints have their number as ``skipped_steps``, over all runs of a training. Single ones do no harm, see
    :class:`~mmsagan.engine.optim.SkipNonFinite`; ``max_skipped_in_a_row`` of one network, without a limit if it is None, end
    the training with a DivergenceError.
    """

    def __init__(self, max_skipped_in_a_row: int | None = 20):
        self.max_skipped_in_a_row = max_skipped_in_a_row
        self._total = self._before = 0
        self._iter = self._good = 0  # iterations done, and those up to the last one whose steps were taken

    def before_train(self, runner: Runner) -> None:
        self._iter = self._good = runner.iter
        scalars = runner.message_hub.log_scalars  # of the runs before this one
        self._total = self._before = int(scalars[_SKIPPED].current()) if _SKIPPED in scalars else 0

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        self._iter = runner.iter + 1
        if not isinstance(runner.log_processor, LogProcessor):  # which flushes
            self.flush(runner)

    def flush(self, runner: Runner) -> None:
        wrappers = {name: wrapper for name, wrapper in get_optim_wrappers(runner).items() if hasattr(wrapper, 'skipped')}
        total = self._before + sum(wrapper.skipped for wrapper in wrappers.values())
        if total != self._total:
            if self._total == self._before:
                name = next(name for name, wrapper in wrappers.items() if wrapper.skipped)
                steps = f'iterations {self._good + 1} to {self._iter}'
                runner.logger.warning(f'{steps}: a step of the {name} is skipped, since it is not finite')
            self._total = total
            runner.message_hub.update_scalar(_SKIPPED, total)
        for name, wrapper in wrappers.items():
            if self.max_skipped_in_a_row is not None and wrapper.skipped_in_a_row >= self.max_skipped_in_a_row:
                good = 'missing: none was saved before'
                hook = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook) and not hook.by_epoch), None)
                if hook is not None:
                    saved = list_checkpoints(Path(hook.out_dir), hook.filename_tmpl, Path(runner.work_dir, LAST_CHECKPOINT))
                    good = next((str(path) for step, path in reversed(saved) if step <= self._good), good)
                raise DivergenceError(
                    f'the training has diverged: after iteration {self._good}, the loss or gradient of the {name} was NaN or '
                    f'Inf, and {wrapper.skipped_in_a_row} steps in a row were skipped; the last good checkpoint is '
                    f'{good}. What may help: a lower optim_wrapper.{name}.optimizer.lr, '
                    "optim_wrapper.clip_grad=dict(max_norm=10.0), or float32: optim_wrapper.type='OptimWrapper'"
                )
        if not any(wrapper.skipped_in_a_row for wrapper in wrappers.values()):
            self._good = self._iter
