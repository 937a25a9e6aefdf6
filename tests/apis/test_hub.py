"""Repositories of the Hugging Face Hub, against a server on this machine that implements the few API calls needed."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from mmsagan.apis import init_model, sample, train_from_config
from mmsagan.apis.hub import push_repository, write_repository
from mmsagan.apis.sampling import class_names
from mmsagan.apis.zoo import resolve_config, resolve_model
from mmsagan.datasets import CIFAR10
from mmsagan.errors import ConfigError, DownloadError

huggingface_hub = pytest.importorskip('huggingface_hub')
COMMIT = hashlib.sha1(b'').hexdigest()


class Hub(BaseHTTPRequestHandler):
    """Answers with the files of ``server.files``, by (repository, name), and takes new ones in commits."""

    def log_message(self, *args):
        pass

    def answer(self, content: bytes = b'{}', status: int = 200, **headers):
        self.send_response(status)
        for name, value in dict(headers, content_length=len(content)).items():
            self.send_header(name.replace('_', '-'), str(value))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(content)

    def do_GET(self):
        self.server.tokens.add(self.headers.get('authorization'))
        match = re.fullmatch(r'/([^/]+/[^/]+)/resolve/([^/]+)/(.+)', self.path)
        content = self.server.files.get(match and (match[1], match[3]))
        if content is None or match[2] not in ('main', 'v1', COMMIT):
            return self.answer(status=404, x_error_code='EntryNotFound' if match and match[2] == 'main' else 'RevisionNotFound')
        self.answer(content, x_repo_commit=COMMIT, etag=f'"{hashlib.sha1(content).hexdigest()}"')

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers['content-length'] or 0)).decode()
        if self.path == '/api/repos/create':
            self.server.created = json.loads(body)
            url = f'http://127.0.0.1/{self.server.created["organization"]}/{self.server.created["name"]}'
            return self.answer(json.dumps(dict(url=url, name='somebody/digits', id='1')).encode())
        if '/preupload/' in self.path:
            files = json.loads(body)['files']
            modes = [dict(path=file['path'], uploadMode='regular', shouldIgnore=False) for file in files]
            return self.answer(json.dumps(dict(files=modes)).encode())
        if '/commit/' in self.path:
            for line in map(json.loads, body.splitlines()):
                if line['key'] == 'file':
                    value = line['value']
                    self.server.files['somebody/digits', value['path']] = base64.b64decode(value['content'])
            answer = dict(success=True, commitOid=COMMIT, commitUrl=f'http://127.0.0.1/somebody/digits/commit/{COMMIT}')
            return self.answer(json.dumps(answer).encode())
        self.answer()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    server.files, server.tokens, server.created = {}, set(), None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f'http://127.0.0.1:{server.server_port}'
    for name, value in dict(ENDPOINT=url, HF_HUB_CACHE=str(tmp_path / 'cache'), HF_HUB_DISABLE_XET=True).items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setattr(
        huggingface_hub.constants, 'HUGGINGFACE_CO_URL_TEMPLATE', url + '/{repo_id}/resolve/{revision}/{filename}'
    )
    monkeypatch.setenv('HF_TOKEN', 'hf_secret')
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def trained(tiny_run, tmp_path):
    cfg = tiny_run(max_iters=2, **{'default_hooks.checkpoint.interval': 2, 'custom_hooks': []})
    train_from_config(cfg)
    return f'{cfg.work_dir}/iter_2.pth'


def test_a_model_goes_to_the_hub_and_comes_back(hub, trained, tmp_path):
    files = write_repository(trained, tmp_path / 'repo', 'hf://somebody/digits', license='cc-by-4.0')
    names = ['README.md', 'app.py', 'config.json', 'model.safetensors', 'requirements.txt', 'samples.png']
    assert [path.name for path in files] == names and not hub.files
    assert push_repository(tmp_path / 'repo', 'hf://somebody/digits', private=True).endswith(COMMIT)
    assert hub.created.get('visibility') == 'private' or hub.created.get('private') is True
    assert sorted(name for _, name in hub.files) == names
    assert str(tmp_path) not in ''.join(content.decode(errors='ignore') for content in hub.files.values())

    source = 'hf://somebody/digits'
    models = [init_model(source), init_model(source, 'zoo'), init_model(source, f'{source}@v1'), init_model(None, source)]
    expected = sample(init_model(None, trained), num_samples=4, seed=1)
    assert all(torch.equal(sample(model, num_samples=4, seed=1), expected) for model in models)
    assert 'Bearer hf_secret' in hub.tokens
    assert class_names(models[0].cfg, 10) == list(CIFAR10.classes)
    assert resolve_model(source).weights == source and resolve_config(source).name == 'config.json'


def test_the_cache_is_enough_without_a_network(hub, trained, tmp_path, monkeypatch):
    write_repository(trained, tmp_path / 'repo')
    hub.files.update({('a/b', path.name): path.read_bytes() for path in (tmp_path / 'repo').iterdir()})
    expected = sample(init_model('hf://a/b'), num_samples=2, seed=0)
    hub.files.clear()
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
    assert torch.equal(sample(init_model('hf://a/b'), num_samples=2, seed=0), expected)
    with pytest.raises(DownloadError, match='hf://a/c: config.json cannot be downloaded'):
        init_model('hf://a/c')


@pytest.mark.parametrize(
    'content, message',
    [
        ('[]', 'config.json'),
        ('{"model": {"type": "os.system", "command": "true"}}', "unknown type 'os.system'"),
        ('{"model": {"type": "SAGAN", "generator": {"type": "antigravity"}}}', "unknown type 'antigravity'"),
        ('{"model": {"type": "SAGAN", "init_from": {"checkpoint": "/etc/passwd"}}}', 'init_from is not allowed'),
        ('{"model": {"type": "SAGAN", "_scope_": "antigravity"}}', '_scope_ is not allowed'),
        ('{"model": {"type": "SAGAN", "generator": {"compile_cfg": {"backend": "x"}}}}', 'compile_cfg is not allowed'),
        ('{"model": {"type": "SAGAN", "generator": {"type": "studio"}}}', "unknown type 'studio'"),
        ('{"model": {"type": "SAGAN", "generator": {"type": "FID"}}}', "unknown type 'FID'"),
        ('{"model": {"type": "SAGAN"}, "dataset_meta": {"classes": 5}}', 'no list of names'),
        ('{"architectures": ["Llama"]}', 'no "model"'),
        ('{"model": ' + '[' * 9999, 'config.json'),
        ('{"model": {"type": "SAGAN", "num_classes": "{{$ENV:HOME}}"}}', 'unexpected keys: {{'),
        ('{"model": {"type": "SAGAN"}, "custom_imports": {"imports": ["antigravity"]}}', 'custom_imports'),
        ('{"_base_": "/etc/passwd", "model": {"type": "SAGAN"}}', '_base_'),
        ('no json', 'config.json does not describe a model'),
    ],
)
def test_a_config_from_the_hub_can_only_describe_a_model(hub, content, message):
    hub.files['a/b', 'config.json'] = content.encode()
    with pytest.raises(ConfigError, match='hf://a/b: .*' + re.escape(message)):
        init_model('hf://a/b')


@pytest.mark.parametrize('source', ['hf://digits', 'hf://a/b/c', 'hf://a/../b', 'hf://a/b@'])
def test_names_of_repositories(hub, source):
    with pytest.raises(DownloadError, match='expected hf://user/repo'):
        init_model(source)
    with pytest.raises(DownloadError, match='expected hf://user/repo'):
        push_repository('nowhere', source)


def test_a_repository_is_pushed_without_a_revision(hub, tmp_path):
    with pytest.raises(ConfigError, match='hf://a/b@v1: .*hf://a/b'):
        push_repository(tmp_path, 'hf://a/b@v1')


def test_a_revision_that_is_not_there(hub):
    hub.files['a/b', 'config.json'] = b'{}'
    with pytest.raises(DownloadError, match='hf://a/b@other: config.json cannot be downloaded'):
        init_model('hf://a/b@other')
