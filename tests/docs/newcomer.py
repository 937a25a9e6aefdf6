"""Somebody who does what a page says, from top to bottom, in a folder that looks like a fresh clone.

Commands are run as they stand on the page. What is small is the world that they find:

* the demo, the training on CIFAR-10 and the one on ImageNet are configs of the same names that inherit the real ones and state
  tiny networks, two iterations and few samples; Tero Karras' Inception is a stand-in of the same interface;
* ``data/`` has a CIFAR-10, an ImageNet and a folder of photos with a few images each;
* a training's last checkpoint is also there as ``iter_900.pth`` and as ``iter_1000000.pth``;
* launchers find a ``python`` and an ``srun`` that say what they were called with, which torchrun's own parser reads; then two
  processes run the tool, whatever number of GPUs the page says, once for all launchers that start the same;
* ``make`` says what it would run (``--dry-run``), which is run then. Its installation is what tests/packaging is about.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from documentation import ROOT, Block, Command, blocks_of
from launching import free_port, run_tool, run_tools
from PIL import Image
from torch.distributed.run import get_args_parser

DEMO = 'sagan_32_mnist_b64x1'
TINY = """
_base_ = '{root}/configs/sagan/{name}.py'
model = dict(generator=dict(base_channels={width}), discriminator=dict(base_channels=8){classes})
train_cfg = dict(max_iters=2, val_interval=2)
train_dataloader = dict(batch_size=4, num_workers=0{dataset})
val_dataloader = test_dataloader = dict(num_workers=0)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
val_evaluator = test_evaluator = dict(metrics=[
    dict(type='InceptionScore', fake_nums={samples}, resize=False, {extractor}),
    dict(type='FrechetInceptionDistance', fake_nums={samples}, {extractor})]{held_out})
"""
SAYS = '#!/usr/bin/env bash\nprintf "%s\\n" {prefix} "$@"\n'


class Newcomer:
    """Follows pages in a folder of their own.

    Args:
        folder: An empty folder.
        imagenet: A small data set in ImageNet's layout.
        cifar: A small data set in CIFAR-10's format.
        inception: File of the stand-in for Inception.
    """

    def __init__(self, folder: Path, imagenet: Path, cifar: Path, inception: str):
        self.folder = folder
        self.inception = inception
        self.waiting: list[list[str]] = []
        self.ran_together: dict[tuple[str, ...], str] = {}
        for name in ('Makefile', 'setup.py', 'pyproject.toml', 'requirements', 'tools', 'tests', 'docs'):
            (folder / name).symlink_to(ROOT / name)
        self._make_configs()
        (folder / 'data').mkdir()
        (folder / 'data' / 'imagenet').symlink_to(imagenet)
        (folder / 'data' / 'cifar10').symlink_to(cifar / 'cifar10')
        self._make_photos()
        self._make_environment()

    def _make_configs(self) -> None:
        (self.folder / 'configs' / 'sagan').mkdir(parents=True)
        for path in (ROOT / 'configs').iterdir():
            if path.name != 'sagan':
                (self.folder / 'configs' / path.name).symlink_to(path)
        for path in (ROOT / 'configs' / 'sagan').glob('*.py'):
            (self.folder / 'configs' / 'sagan' / path.name).symlink_to(path)
        inception = dict(extractor=f'inception_path={self.inception!r}', samples=12)  # it has 6 features, the digits' has 64
        digits = dict(
            extractor="inception_style='digits'", samples=70, dataset=', dataset=dict(indices=100)', held_out=', held_out=None'
        )
        self._make_tiny(DEMO, **digits)
        self._make_tiny('sagan_32_woReLUinplace_cifar10_b64x1', **inception)
        self._make_tiny('sagan_128_woReLUinplace_imagenet1k_b64x4', width=4, classes=', num_classes=3', **inception)

    def _make_tiny(self, name: str, **values) -> None:
        config = self.folder / 'configs' / 'sagan' / f'{name}.py'
        config.unlink()
        config.write_text(TINY.format(**{**dict(root=ROOT, name=name, width=8, classes='', dataset='', held_out=''), **values}))

    def _make_photos(self) -> None:
        random = np.random.default_rng(0)
        for label in range(5):
            folder = self.folder / 'data' / 'mine' / f'class{label}'
            folder.mkdir(parents=True)
            for number in range(4):
                pixels = random.integers(0, 256, (128 + number, 140, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f'{number}.jpg')

    def _make_environment(self) -> None:
        """An environment that make takes for installed, and the stand-ins for what launchers start."""
        (self.folder / '.venv' / 'bin').mkdir(parents=True)
        for name in ('installed', 'tests-installed', 'demo-installed', 'docs-installed'):
            (self.folder / '.venv' / f'.{name}').touch()
        self.stand_ins = self.folder / '.venv' / 'stand-ins'
        self.stand_ins.mkdir()
        for name in ('python', 'srun'):
            (self.stand_ins / name).write_text(SAYS.format(prefix=name))
            (self.stand_ins / name).chmod(0o700)

    # --------------------------------------------------------------------------------------------------------- reading

    def follow(self, page: Path, without: Collection[str] = ()) -> list[str]:
        """Does what a page says.

        Args:
            page: The page.
            without: Scripts whose commands are left out.

        Returns:
            What each command and each block of Python said.
        """
        said = []
        for block in blocks_of(page):
            if block.file:
                path = self.folder / block.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)
            elif block.language == 'python':
                said.append(self.run_python(block))
            elif block.language == 'bash':
                said += [self.run(command) for command in block.commands if not set(without) & set(command.words)]
        assert not self.waiting, f'a node waits for others: {self.waiting}'
        return said

    def run_python(self, block: Block) -> str:
        """Runs a block behind the others of its page, whose names it may use."""
        scripts = [other.text for other in blocks_of(block.page) if other.language == 'python' and not other.file]
        script = self.folder / '.venv' / 'script.py'
        script.write_text('\n'.join(scripts[: scripts.index(block.text) + 1]))
        return self._check(run_tool(script, cwd=self.folder, PYTHONPATH='.'), block.text)

    # --------------------------------------------------------------------------------------------------------- running

    def run(self, command: Command) -> str:
        """Runs a command of a page, and gives what it said.

        Raises:
            AssertionError: It fails, or nobody has said here how such a command is run.
        """
        known: dict[str, Callable[[Command], str]] = {
            'make': self._make,
            'python': self._python,
            'mmsagan': self._front_door,
            'pip': self._pip,
            'source': self._source,
        }
        name = command.words[0]
        if name.startswith('tools/') and name.endswith('.sh'):
            return self._launcher(command)
        assert name in known, f'no test knows how to run: {command}'
        return known[name](command)

    def _check(self, ended: subprocess.CompletedProcess, what: object) -> str:
        assert ended.returncode == 0, f'{what}\nended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}'
        for checkpoint in [*self.folder.glob('work_dirs/*/iter_2.pth'), *self.folder.glob('digits/iter_2.pth')]:
            for name in ('iter_900.pth', 'iter_1000000.pth'):
                shutil.copy(checkpoint, checkpoint.with_name(name))
        return ended.stdout

    def _source(self, command: Command) -> str:
        assert command.words == ('source', '.venv/bin/activate')
        return ''

    def _pip(self, command: Command) -> str:
        """tests/packaging installs the wheel into an environment of its own, and runs it there."""
        assert command.words == ('pip', 'install', '.')

        return ''

    def _make(self, command: Command) -> str:
        # Not as a part of the `make test` that may have started this.
        env = {name: value for name, value in os.environ.items() if name not in ('MAKEFLAGS', 'MAKELEVEL', 'MFLAGS')}
        make = ['make', '--dry-run', *command.words[1:]]
        ended = subprocess.run(make, cwd=self.folder, env=env, capture_output=True, text=True)
        lines = self._check(ended, command).replace('.venv/bin/python', 'python')
        steps = [step for step in Block(ROOT / 'Makefile', 'bash', lines).commands if step.words[0] != 'echo']
        assert len(steps) == 1, f'{command} would also run {lines}'
        return self.run(steps[0])

    def _python(self, command: Command) -> str:
        if command.words[1] == '-m':
            return self._module(command)
        script, *arguments = command.words[1:]
        assert (ROOT / script).is_file() and Path(script).parts[0] == 'tools', command
        if script == 'tools/web_demo.py':
            return self._serve(script, arguments)
        if script == 'tools/evaluate_images.py':
            arguments += ['--inception-pth', self.inception]
        arguments = [path for word in arguments for path in self._expand(word)]
        return self._check(run_tool(script, *arguments, cwd=self.folder, OMP_NUM_THREADS='1', **command.env), command)

    def _expand(self, word: str) -> list[str]:
        """As the shell does."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.glob(word)) if '*' in word else [word]

    def _module(self, command: Command) -> str:
        """pytest, with the page's options, on files that are quickly done; Sphinx's options are read by its own parser."""
        module, *arguments = command.words[2:]
        if module == 'pytest':
            if arguments[0] == 'tests':
                arguments[:3] = ['tests/test_registry.py', '--numprocesses', '0']
            script = Path(importlib.util.find_spec('pytest').origin).with_name('__main__.py')
            ended = run_tool(script, *arguments, '-p', 'no:cacheprovider', cwd=self.folder, PYTHONPATH='.')
            return self._check(ended, command)
        assert module == 'sphinx', command
        if importlib.util.find_spec('sphinx'):  # needs Python 3.11, and is in the environment that builds the pages
            from sphinx.cmd.build import get_parser

            options = get_parser().parse_args(arguments)
            assert (self.folder / options.sourcedir / 'conf.py').is_file() and options.exception_on_warning is False
        return ''

    def _front_door(self, command: Command) -> str:
        arguments = [f'configs/sagan/{DEMO}.py' if word == DEMO else word for word in command.words[1:]]
        script = ROOT / 'mmsagan' / '__main__.py'
        return self._check(run_tool(script, *arguments, cwd=self.folder, OMP_NUM_THREADS='1', **command.env), command)

    def _serve(self, script: str, arguments: list[str]) -> str:
        """Starts the web page, looks whether it is there, and stops it."""
        port = free_port()
        env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
        server = subprocess.Popen([sys.executable, script, *arguments, '--port', port], cwd=self.folder, env=env)
        try:
            for _ in range(600):
                assert server.poll() is None, f'{script} ended with {server.returncode}'
                try:
                    with urllib.request.urlopen(f'http://127.0.0.1:{port}', timeout=10) as page:
                        return page.read().decode()
                except OSError:
                    time.sleep(0.1)
            raise AssertionError(f'{script} serves no page')
        finally:
            server.kill()
            server.wait()

    # ------------------------------------------------------------------------------------------------------- launchers

    def _launcher(self, command: Command) -> str:
        """Asks the script what it would start, and has two processes do it."""
        env = dict(os.environ, PATH=f'{self.stand_ins}:{os.environ["PATH"]}', **command.env)
        ended = subprocess.run(['bash', *command.words], cwd=self.folder, env=env, capture_output=True, text=True)
        words = self._check(ended, command).splitlines()
        if words[0] == 'srun':
            options, start = words[1 : words.index('python')], words[words.index('python') + 2 :]
            assert f'--ntasks={command.words[4]}' in options and words[words.index('python') + 1] == '-u', words
            assert start[-2:] == ['--launcher', 'slurm']
            return self._run_together([*start[:-1], 'pytorch'], command)
        assert words[:3] == ['python', '-m', 'torch.distributed.run']
        options = get_args_parser().parse_args(words[3:])
        start = [options.training_script, *options.training_script_args]
        assert options.nproc_per_node == next(word for word in command.words if word.isdigit())
        if options.nnodes == '1':
            return self._run_together(start, command)
        assert options.node_rank == len(self.waiting) and options.master_addr == command.env['MASTER_ADDR']
        self.waiting.append(start)
        if len(self.waiting) < int(options.nnodes):
            return ''
        assert all(other == start for other in self.waiting), 'the nodes do different things'
        self.waiting = []
        return self._run_together(start, command)

    def _run_together(self, start: list[str], command: Command) -> str:
        start[0] = str((self.folder / start[0]).resolve())
        if tuple(start) not in self.ran_together:
            ends = run_tools(*start, processes=2, cwd=self.folder, OMP_NUM_THREADS='1')
            codes = {end.returncode for end in ends}
            streams = [''.join(parts) for parts in zip(*((end.stdout, end.stderr) for end in ends))]
            together = subprocess.CompletedProcess(start, max(codes, key=abs), *streams)
            self.ran_together[tuple(start)] = self._check(together, command)
        return self.ran_together[tuple(start)]
