"""The files that GitHub and other programs read: citation, issue forms, changelog."""

import re

import pytest
import yaml
from documentation import ROOT

from mmsagan import __version__

FORMS = sorted(path for path in (ROOT / '.github' / 'ISSUE_TEMPLATE').glob('*.yml') if path.name != 'config.yml')
# What GitHub asks of each kind of element.
REQUIRED = dict(
    markdown={'value'}, input={'label'}, textarea={'label'}, dropdown={'label', 'options'}, checkboxes={'label', 'options'}
)


def test_the_citation():
    """Has what version 1.2.0 of the format requires, of the software and of the paper."""
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert citation['cff-version'] == '1.2.0' and citation['type'] == 'software'
    assert {'message', 'title', 'authors', 'license'} <= set(citation)
    assert citation['version'] == __version__
    paper = citation['preferred-citation']
    assert paper['type'] == 'conference-paper' and paper['title'] == 'Self-Attention Generative Adversarial Networks'
    assert [author['family-names'] for author in paper['authors']] == ['Zhang', 'Goodfellow', 'Metaxas', 'Odena']
    assert all(set(author) == {'family-names', 'given-names'} for author in paper['authors'])
    bibtex = (ROOT / 'configs' / 'sagan' / 'README.md').read_text()
    assert f'{{{paper["start"]}--{paper["end"]}}}' in bibtex and f'{{{paper["year"]}}}' in bibtex


def test_the_changelog_has_this_version():
    changelog = (ROOT / 'CHANGELOG.md').read_text()
    versions = re.findall(r'^## (\S+)(?: - (\d{4}-\d\d-\d\d))?$', changelog, re.MULTILINE)
    assert versions[0] == ('Unreleased', '') and versions[1][0] == __version__ and all(date for _, date in versions[1:])
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert str(citation['date-released']) == versions[1][1]


@pytest.mark.parametrize('form', FORMS, ids=lambda path: path.stem)
def test_issue_forms(form):
    content = yaml.safe_load(form.read_text())
    assert {'name', 'description', 'body'} <= set(content) <= {'name', 'description', 'body', 'title', 'labels', 'assignees'}
    fields = [element for element in content['body'] if element['type'] != 'markdown']
    assert fields and any(field.get('validations', {}).get('required') for field in fields)
    for element in content['body']:
        assert REQUIRED[element['type']] <= set(element['attributes']), element
    names = [field['id'] for field in fields]
    assert len(set(names)) == len(names)


def test_there_is_a_form_for_bugs_scores_and_features():
    assert [path.stem for path in FORMS] == ['bug', 'feature', 'scores']
