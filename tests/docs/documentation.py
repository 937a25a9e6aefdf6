"""Reading the documentation: code blocks, the commands in them, links."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / 'README.md', *sorted(ROOT.glob('docs/**/*.md')), *sorted(ROOT.glob('configs/*/README.md'))]
PAGES = [page for page in PAGES if '_build' not in page.parts]
_BLOCK = re.compile(r'^```(?P<language>\w*)\n(?P<text>.*?)^```$', re.DOTALL | re.MULTILINE)
_FILE = re.compile(r'# (?P<path>[\w./-]+\.py)\b')
_VARIABLE = re.compile(r'(\w+)=(.*)')


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Attributes:
        page: The page.
        language: As the page says: python, bash or something else.
        text: What stands in it.
    """

    page: Path
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that the reader is to put it into, by the comment in its first line."""
        match = _FILE.match(self.text)
        return match['path'] if self.language == 'python' and match else None

    @property
    def commands(self) -> list['Command']:
        """The commands of a bash block."""
        lines = self.text.replace('\\\n', ' ').splitlines()
        parts = [shlex.split(line, comments=True) for line in lines]
        return [Command.of(words) for words in parts if words]


@dataclass(frozen=True)
class Command:
    """A shell command: the variables set for it, and its words."""

    env: dict[str, str]
    words: tuple[str, ...]

    @classmethod
    def of(cls, words: list[str]) -> 'Command':
        """The command that these words are."""
        env = {}
        while words and _VARIABLE.fullmatch(words[0]):
            name, value = _VARIABLE.fullmatch(words.pop(0)).groups()
            env[name] = value
        return cls(env, tuple(words))

    def __str__(self) -> str:
        return ' '.join([*(f'{name}={value}' for name, value in self.env.items()), *self.words])


def blocks_of(page: Path) -> list[Block]:
    """The code blocks of a page, in its order."""
    return [Block(page, match['language'], match['text']) for match in _BLOCK.finditer(page.read_text())]


def prose_of(page: Path) -> str:
    """A page without its code blocks."""
    return _BLOCK.sub('', page.read_text())
