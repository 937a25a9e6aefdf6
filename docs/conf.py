"""Configuration of Sphinx, which builds the site from these pages and the docstrings (`make docs`) without a network."""

import importlib
import os
import re
import sys
from pathlib import Path
from typing import TypeVar

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from mmsagan import __version__
from mmsagan.utils import register_all_modules

project = 'MMSAGAN'
copyright = 'the authors of MMSAGAN; Apache 2.0'  # noqa: A001 (Sphinx's name)
release = version = __version__

extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode', 'sphinx_copybutton']
exclude_patterns = ['_build', 'jupyter_execute']
# Notebooks are executed, each in an empty folder, if they have changed; an error fails the build.
nb_execution_mode = 'cache'
nb_execution_cache_path = str(Path(__file__).parent / '_build' / 'notebooks')
nb_execution_in_temp = nb_execution_raise_on_error = True
nb_execution_timeout = 900
nb_merge_streams = True
os.environ['PATH'] = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'  # `mmsagan`
# Headings get the anchors of GitHub.
myst_heading_anchors = 4

autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
autodoc_member_order = 'bysource'
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = 'hide'
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# A reference to something that this package lacks is a warning. References to other packages are not looked up.
nitpicky = True
nitpick_ignore_regex = [('py:.*', r'(?!mmsagan\.).*')]

html_theme = 'furo'
html_title = f'MMSAGAN {release}'
html_static_path = ['_static']
html_css_files = ['site.css']
html_search_scorer = str(Path(__file__).parent / '_static' / 'scorer.js')
html_copy_source = False
html_show_sphinx = False
copybutton_prompt_text = r'>>> |\.\.\. |\$ '
copybutton_prompt_is_regexp = True
# Output of programs is not highlighted.
highlight_language = 'none'

REPOSITORY = Path(__file__).resolve().parent.parent
STUB = re.compile(r'\A# .+\n\n\[`.+`\]\((?P<path>.+\.md)\)\n\Z')
LINK = re.compile(r'\[(?P<text>[^\]]*)\]\((?P<path>(?!\w+:|#)[^)#]+)(?P<anchor>#[^)]*)?\)')
IMAGE = re.compile(r'<p align="center"><img src="(?P<path>[^"]+)"[^>]*alt="(?P<text>[^"]*)"[^>]*></p>')


def fill_stub(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replaces a page that consists of a title and a link to a file of the repository by the text of that file."""
    stub = STUB.match(source[0])
    if stub is None:
        return
    page = Path(app.env.doc2path(docname))
    file = (page.parent / stub['path']).resolve()
    app.env.note_dependency(str(file))
    text = IMAGE.sub(r'![\g<text>](\g<path>)', file.read_text())
    source[0] = LINK.sub(lambda link: move_link(link, file, page, stubs_of(app)), text)


def stubs_of(app: Sphinx) -> dict[Path, Path]:
    """Returns the pages that show files of the repository, by file."""
    pages = {Path(app.env.doc2path(name)) for name in app.env.found_docs}
    stubs = ((page, STUB.match(page.read_text())) for page in pages)
    return {(page.parent / stub['path']).resolve(): page for page, stub in stubs if stub}


def move_link(link: re.Match, file: Path, page: Path, stubs: dict[Path, Path]) -> str:
    """Rewrites a link of a file for the page that shows it; a link to a folder leads to the page of its README."""
    target = (file.parent / link['path']).resolve()
    if target.is_dir():
        target = target / 'README.md'
    target = stubs.get(target, target)
    if not target.is_file():
        return link['text']
    return f'[{link["text"]}]({os.path.relpath(target, page.parent)}{link["anchor"] or ""})'


def find_exported(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element) -> nodes.Element | None:
    """Resolves an exported name, such as mmsagan.apis.init_model, to the module that defines and documents it."""
    package, _, name = node['reftarget'].rpartition('.')
    if node.get('refdomain') != 'py' or not package.startswith('mmsagan'):
        return None
    try:
        found = getattr(importlib.import_module(package), name, None)
    except ImportError:
        return None
    if isinstance(found, TypeVar):
        return content
    defined = f'{getattr(found, "__module__", "")}.{getattr(found, "__qualname__", "")}'
    python = env.get_domain('py')
    return python.resolve_xref(env, node['refdoc'], app.builder, node['reftype'], defined, node, content)


def setup(app: Sphinx) -> None:
    """Connects the functions above to Sphinx."""
    register_all_modules()
    app.connect('missing-reference', find_exported)
    app.connect('source-read', fill_stub)
