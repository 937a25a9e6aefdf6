"""The pages hang together: links lead somewhere, and every page is found from the front page. `make docs` builds them."""

import re
from pathlib import Path

import pytest
from documentation import PAGES, ROOT, prose_of

LINK = re.compile(r'\]\((?P<path>(?!\w+:)[^)#\s]*)(?:#(?P<anchor>[^)]*))?\)|(?:src|href)="(?P<raw>(?!\w+:)[^"#]+)"')
TOCTREE = re.compile(r'```\{toctree\}\n(?P<text>.*?)```', re.DOTALL)
# Characters in a line of code: for those of the site docs/_static/site.css makes room.
LONGEST, LONGEST_OF_THE_SITE = 125, 100


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub and Sphinx give the headings of a page."""
    headings = re.findall(r'^#+ (.+)$', prose_of(page), re.MULTILINE)
    texts = [re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading).lower() for heading in headings]
    return {re.sub(r'[^\w\- ]', '', text).replace(' ', '-') for text in texts}


@pytest.mark.parametrize('page', [*PAGES, ROOT / 'CHANGELOG.md'], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_repository(page):
    for match in LINK.finditer(prose_of(page)):
        target = (page.parent / (match['path'] or match['raw'] or page.name)).resolve()
        assert target.exists(), f'{match[0]} leads nowhere'
        if match['anchor']:
            assert match['anchor'] in anchors_of(target), f'{match[0]}: {target.name} has no such heading'


def test_every_page_is_in_the_contents():
    docs = ROOT / 'docs'
    found, left = {docs / 'index.md'}, [docs / 'index.md']
    while left:
        page = left.pop()
        for tree in TOCTREE.finditer(page.read_text()):
            names = [line for line in tree['text'].splitlines() if line and not line.startswith(':')]
            pages = {page.parent / f'{name}.md' for name in names} - found
            found, left = found | pages, [*left, *pages]
    assert all(page.is_file() for page in found)
    assert found == {page for page in PAGES if page.is_relative_to(docs)}


def test_code_fits_the_page():
    for page in PAGES:
        for block in re.findall(r'^```(?:bash|python)\n(.*?)^```', page.read_text(), re.DOTALL | re.MULTILINE):
            longest = LONGEST_OF_THE_SITE if page.is_relative_to(ROOT / 'docs') else LONGEST
            assert max(map(len, block.splitlines())) <= longest, f'{page.name}: {block}'


def test_the_pages_load_nothing_from_the_web():
    """Sphinx's settings name no fonts, scripts or inventories of other hosts."""
    for path in [ROOT / 'docs' / 'conf.py', *(ROOT / 'docs' / '_static').iterdir()]:
        assert 'http' not in path.read_text(), path
