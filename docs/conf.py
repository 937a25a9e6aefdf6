"""How Sphinx makes the site out of these pages and the docstrings (`make docs`), without fetching anything."""

import importlib
import os
import re
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

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode', 'sphinx_copybutton']
exclude_patterns = ['_build']
# Headings get the anchors that GitHub gives them.
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

# A reference to something of this package that is not there is a warning. Of other packages none is looked up.
nitpicky = True
nitpick_ignore_regex = [('py:.*', r'(?!mmsagan\.).*')]

html_theme = 'furo'
html_title = f'MMSAGAN {release}'
html_static_path = ['_static']
html_css_files = ['site.css']
html_copy_source = False
html_show_sphinx = False
copybutton_prompt_text = r'>>> |\.\.\. |\$ '
copybutton_prompt_is_regexp = True
# What programs print stays as it is.
highlight_language = 'none'

REPOSITORY = Path(__file__).resolve().parent.parent
STUB = re.compile(r'\A# .+\n\n\[`.+`\]\((?P<path>.+\.md)\)\n\Z')
LINK = re.compile(r'\[(?P<text>[^\]]*)\]\((?P<path>(?!\w+:|#)[^)#]+)(?P<anchor>#[^)]*)?\)')
IMAGE = re.compile(r'<p align="center"><img src="(?P<path>[^"]+)"[^>]*alt="(?P<text>[^"]*)"[^>]*></p>')


def fill_stub(app: Sphinx, docname: str, source: list[str]) -> None:
    """Gives a page that is a title and a link to a file of the repository that file's text."""
    stub = STUB.match(source[0])
    if stub is None:
        return
    page = Path(app.env.doc2path(docname))
    file = (page.parent / stub['path']).resolve()
    app.env.note_dependency(str(file))
    text = IMAGE.sub(r'![\g<text>](\g<path>)', file.read_text())
    source[0] = LINK.sub(lambda link: move_link(link, file, page, stubs_of(app)), text)


def stubs_of(app: Sphinx) -> dict[Path, Path]:
    """The pages that show files of the repository, by these files."""
    pages = {Path(app.env.doc2path(name)) for name in app.env.found_docs}
    stubs = ((page, STUB.match(page.read_text())) for page in pages)
    return {(page.parent / stub['path']).resolve(): page for page, stub in stubs if stub}


def move_link(link: re.Match, file: Path, page: Path, stubs: dict[Path, Path]) -> str:
    """A link of a file, as it has to be in the page that shows it; one to a folder leads to the page of its README."""
    target = (file.parent / link['path']).resolve()
    if target.is_dir():
        target = target / 'README.md'
    target = stubs.get(target, target)
    if not target.is_file():
        return link['text']
    return f'[{link["text"]}]({os.path.relpath(target, page.parent)}{link["anchor"] or ""})'


def find_exported(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element) -> nodes.Element | None:
    """Finds mmsagan.apis.init_model, say, where it is documented: in the module that defines it; a type variable is text."""
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
    """Called by Sphinx."""
    register_all_modules()
    app.connect('missing-reference', find_exported)
    app.connect('source-read', fill_stub)
