"""What pyproject.toml cannot say of the packaging: configs and tools go along, and a hook for MMEngine's hub."""

import os
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# What OpenMMLab's projects put into <package>/.mim, where MMEngine's hub and this package's model zoo look for it.
MIM = ('configs', 'tools', 'model-index.yml')
# Has Python call mmsagan/_hub.py when it starts, see there. A copy at the top level spares it the import of the package, and
# leaves it to the working directory which mmsagan a program gets.
HOOK = '_mmsagan_hub.py'
HOOK_CALL = ('mmsagan-hub.pth', 'import _mmsagan_hub; _mmsagan_hub.install()\n')


class BuildWithConfigs(build_py):
    """Adds ``mmsagan/.mim`` and the hook for MMEngine's hub to what is built; only an editable install changes this folder."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            # The folder that becomes the wheel, since an editable one takes nothing from build_lib.
            self._write_hook(Path(self.get_finalized_command('install').install_lib))
            self._link_mim()
        else:
            self._write_hook(Path(self.build_lib))
            self._copy_mim()

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs = super().get_outputs(include_bytecode)
        if self.editable_mode:
            return outputs
        own = [HOOK, HOOK_CALL[0], *(f'mmsagan/.mim/{name}' for name in _mim_files())]
        return [*outputs, *(os.path.join(self.build_lib, *name.split('/')) for name in own)]

    def _write_hook(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / 'mmsagan' / '_hub.py', folder / HOOK)
        name, line = HOOK_CALL
        (folder / name).write_text(line)

    def _copy_mim(self) -> None:
        mim = Path(self.build_lib, 'mmsagan', '.mim')
        # An earlier build's files would be shipped along.
        shutil.rmtree(mim, ignore_errors=True)
        for name in _mim_files():
            (mim / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, mim / name)

    def _link_mim(self) -> None:
        """MMEngine's hub looks into the package's folder, which is here; git ignores the links."""
        mim = ROOT / 'mmsagan' / '.mim'
        mim.mkdir(exist_ok=True)
        for name in MIM:
            if not (mim / name).exists():
                try:
                    (mim / name).symlink_to(Path('..', '..', name))
                except OSError as error:  # Windows allows links to some users only
                    self.warn(f"mmsagan/.mim/{name} cannot be linked: MMEngine's hub will not find the configs ({error})")


def _mim_files() -> list[str]:
    """The files for .mim, relative to here, with slashes."""
    roots = [ROOT / name for name in MIM]
    found = [path for root in roots for path in (root.rglob('*') if root.is_dir() else [root])]
    return sorted(path.relative_to(ROOT).as_posix() for path in found if path.is_file() and '__pycache__' not in path.parts)


setup(cmdclass={'build_py': BuildWithConfigs})
