#!/usr/bin/env python
"""Prints the numbers of REFERENCE in test_extractors.py and test_metrics.py in tests/evaluation, of other people's code.

Needs pytorch-fid 0.3.0, torch-fidelity 0.4.0, clean-fid 0.1.35, prdc 0.2, scikit-learn, and torchvision (nothing of it runs
but Python code), and folders with the code of StudioGAN (commit 947b35e), dgm-eval (74c79f7) and DINOv2 (b8931f7):

    python tests/data/reference_values.py STUDIOGAN DGM_EVAL DINOV2
"""

import importlib.util
import sys
import types
from pathlib import Path
from pprint import pprint

import numpy as np
import torch

# Without a build that fits PyTorch's, torchvision can be imported if its operators are declared.
library = torch.library.Library('torchvision', 'FRAGMENT')
for name in ('nms', 'qnms'):
    library.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')

import prdc  # noqa: E402
import pytorch_fid.fid_score  # noqa: E402
import pytorch_fid.inception  # noqa: E402
import torch_fidelity.feature_extractor_clip  # noqa: E402
import torch_fidelity.feature_extractor_inceptionv3  # noqa: E402
import torch_fidelity.metric_fid  # noqa: E402
import torch_fidelity.metric_kid  # noqa: E402
import torch_fidelity.metric_prc  # noqa: E402
import torchvision.transforms  # noqa: E402
from cleanfid.fid import kernel_distance  # noqa: E402
from cleanfid.inception_torchscript import InceptionV3W  # noqa: E402
from cleanfid.resize import build_resizer  # noqa: E402
from PIL import Image  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / 'evaluation'))
from test_extractors import CLIP, DINOV2, POINTS, SIZES, layout_of, random_images, random_weights  # noqa: E402
from test_inception_v3 import recipe_weights  # noqa: E402
from test_metrics import reference_features  # noqa: E402


def load(name: str, folder: str, path: str) -> types.ModuleType:
    """Imports one file of a program that is not installed."""
    spec = importlib.util.spec_from_file_location(name, Path(folder, path))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


studiogan, dgm_eval, dinov2 = sys.argv[1:]
studiogan_resize = load('studiogan_resize', studiogan, 'src/utils/resize.py')
sys.modules['dgm_eval'] = types.ModuleType('dgm_eval')
sys.modules['dgm_eval.models'] = types.ModuleType('dgm_eval.models')
for name in ('resizer', 'models.encoder', 'models.dinov2'):
    dgm_dinov2 = load(f'dgm_eval.{name}', dgm_eval, f'dgm_eval/{name.replace(".", "/")}.py')
sys.path.insert(0, dinov2)
from dinov2.models.vision_transformer import DinoVisionTransformer  # noqa: E402

# pytorch-fid's network and torch-fidelity's, with random weights
weights = recipe_weights()


def with_weights(make):
    """Calls a function that downloads Inception's weights, and gives it random ones."""
    modules = pytorch_fid.inception, torch_fidelity.feature_extractor_inceptionv3
    for module in modules:
        module.load_state_dict_from_url = lambda *args, **kwargs: weights
    return make().eval()


legacy = with_weights(lambda: pytorch_fid.inception.InceptionV3(resize_input=True))
resized_before = with_weights(lambda: pytorch_fid.inception.InceptionV3(resize_input=False, normalize_input=False))
fidelity = with_weights(
    lambda: torch_fidelity.feature_extractor_inceptionv3.FeatureExtractorInceptionV3('inception-v3-compat', ['2048'])
)
spatial: list = []
fidelity.Mixed_6d.branch1x1.register_forward_hook(lambda layer, inputs, maps: spatial.append(maps))


class CleanFID(InceptionV3W):
    """clean-fid's wrapper, of that network in place of StyleGAN's."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.resize_inside = False
        self.layers = type('Layers', (), dict(forward=staticmethod(lambda x: resized_before(x)[0])))


def of_each_image(resize, images: torch.Tensor) -> torch.Tensor:
    """Resizes by a function of an array (H, W, 3)."""
    arrays = [resize(image) for image in images.permute(0, 2, 3, 1).numpy()]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)


def friendly_features(images: torch.Tensor) -> torch.Tensor:
    """As LoadEvalModel.get_outputs of StudioGAN, whose ToTensor leaves floats as they are."""
    resized = of_each_image(studiogan_resize.build_resizer('friendly', 'InceptionV3_tf', 299), images)
    return resized_before((resized / 255 - 0.5) / 0.5)[0]


def resize_legacy(images: torch.Tensor) -> torch.Tensor:
    """What pytorch-fid's network gets, scaled back."""
    inputs: list = []
    handle = legacy.blocks[0].register_forward_pre_hook(lambda layer, arguments: inputs.append(arguments[0]))
    legacy(images.float() / 255)
    handle.remove()
    return (inputs[0] + 1) * 127.5


RESIZES = dict(
    legacy=resize_legacy,
    tensorflow=lambda images: torch_fidelity.feature_extractor_inceptionv3.interpolate_bilinear_2d_like_tensorflow1x(
        images.float(), size=(299, 299), align_corners=False
    ),
    clean=lambda images: of_each_image(build_resizer('clean'), images),
    friendly=lambda images: of_each_image(studiogan_resize.build_resizer('friendly', 'InceptionV3_tf', 299), images),
)
FEATURES = dict(
    legacy=lambda images: legacy(images.float() / 255)[0],
    tensorflow=lambda images: fidelity(images)[0],
    clean=lambda images: CleanFID()(RESIZES['clean'](images)),
    friendly=friendly_features,
)


def joined(weights: dict, replacements: dict, parts: tuple, whole: str) -> dict:
    """Renames the weights of transformers' models; query, key and value become one matrix."""
    state: dict = {}
    for name in weights:
        new = name
        for old, replacement in replacements.items():
            new = new.replace(old, replacement)
        if parts[0] in name:
            values = [weights[name.replace(parts[0], part)] for part in parts]
            state[new.replace(f'{parts[0]}.', whole)] = torch.cat(values)
        elif not any(part in name for part in parts):
            state[new] = weights[name]
    return state


def dinov2_features(images: torch.Tensor) -> torch.Tensor:
    """Of dgm-eval's transform and Meta's network."""
    network = DinoVisionTransformer(
        img_size=DINOV2['image_size'],
        patch_size=DINOV2['patch_size'],
        embed_dim=DINOV2['hidden_size'],
        depth=DINOV2['num_hidden_layers'],
        num_heads=DINOV2['num_attention_heads'],
        init_values=1.0,
        block_chunks=0,
    ).eval()
    replacements = {
        'embeddings.cls_token': 'cls_token',
        'embeddings.mask_token': 'mask_token',
        'embeddings.position_embeddings': 'pos_embed',
        'embeddings.patch_embeddings.projection': 'patch_embed.proj',
        'encoder.layer.': 'blocks.',
        'attention.output.dense': 'attn.proj',
        'attention.attention.': 'attn.',
        'layer_scale1.lambda1': 'ls1.gamma',
        'layer_scale2.lambda1': 'ls2.gamma',
        'layernorm.': 'norm.',
    }
    network.load_state_dict(joined(random_weights(layout_of('dinov2')), replacements, ('query', 'key', 'value'), 'qkv.'))
    encoder = dgm_dinov2.DINOv2Encoder.__new__(dgm_dinov2.DINOv2Encoder)
    encoder.__dict__['clean_resize'] = False
    pictures = [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).numpy()]
    return network(torch.stack([encoder.transform(picture).float() for picture in pictures]))


def clip_features(images: torch.Tensor) -> torch.Tensor:
    """Of clean-fid's (and dgm-eval's) transform, in float32, and torch-fidelity's copy of OpenAI's network."""
    network = torch_fidelity.feature_extractor_clip.VisionTransformer(
        input_resolution=224,
        patch_size=CLIP['patch_size'],
        width=CLIP['hidden_size'],
        layers=CLIP['num_hidden_layers'],
        heads=CLIP['num_attention_heads'],
        output_dim=CLIP['projection_dim'],
    ).eval()
    replacements = {
        'vision_model.embeddings.': '',
        'patch_embedding.weight': 'conv1.weight',
        'position_embedding.weight': 'positional_embedding',
        'vision_model.pre_layrnorm': 'ln_pre',
        'vision_model.post_layernorm': 'ln_post',
        'vision_model.encoder.layers.': 'transformer.resblocks.',
        'self_attn.': 'attn.',
        'layer_norm': 'ln_',
        'mlp.fc1': 'mlp.c_fc',
        'mlp.fc2': 'mlp.c_proj',
        'visual_projection.weight': 'proj',
    }
    state = joined(random_weights(layout_of('clip')), replacements, ('q_proj', 'k_proj', 'v_proj'), 'in_proj_')
    network.load_state_dict(dict(state, proj=state['proj'].T))
    transforms = torchvision.transforms
    transform = transforms.Compose(
        [
            transforms.Resize(224, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )
    return network(torch.stack([transform(Image.fromarray(image)) for image in images.permute(0, 2, 3, 1).numpy()]))


def rounded(values: torch.Tensor) -> list[float]:
    return [float(f'{value:.6g}') for value in values.flatten().tolist()]


with torch.no_grad():
    square = random_images(32, 32)
    values = {
        'pixels': {
            mode: [rounded(resize(random_images(*size))[1, 2][POINTS]) for size in SIZES] for mode, resize in RESIZES.items()
        },
        'features': {mode: rounded(features(square).reshape(2, -1)[:, :3]) for mode, features in FEATURES.items()},
        'spatial': rounded(spatial[-1][:, :7].permute(0, 2, 3, 1).flatten(1)[:, [0, 1, 6, 7, 1000, 2022]]),
        'dinov2': rounded(dinov2_features(square)[:, :4]),
        'clip': rounded(clip_features(square)[:, :4]),
    }
pprint(values, width=128, sort_dicts=False)

# the metrics
fd, dgm_prdc, authpct = (load(f'dgm_{name}', dgm_eval, f'dgm_eval/metrics/{name}.py') for name in ('fd', 'prdc', 'authpct'))
real, fake = reference_features()
moments = [(features.mean(0), np.cov(features, rowvar=False)) for features in (real, fake)]
statistics = [dict(mu=mean, sigma=cov) for mean, cov in moments]
tensors = torch.from_numpy(fake), torch.from_numpy(real)
whole = dict(kid_subsets=1, kid_subset_size=len(real), verbose=False)
k3 = dict(prc_neighborhood=3, prc_batch_size=10000, save_cpu_ram=False, verbose=False)
numbers = {
    'pytorch-fid': dict(fid=pytorch_fid.fid_score.calculate_frechet_distance(*moments[0], *moments[1])),
    'clean-fid': dict(kid=kernel_distance(real, fake, 1, len(real))),
    'torch-fidelity': {
        **torch_fidelity.metric_fid.fid_statistics_to_metric(*statistics, verbose=False),
        **torch_fidelity.metric_kid.kid_features_to_metric(*tensors, **whole),
        **torch_fidelity.metric_prc.prc_features_to_metric(*tensors, **k3),
    },
    'prdc': prdc.compute_prdc(real, fake, 5),
    'dgm-eval': {
        'fd': fd.compute_FD_with_reps(real, fake),
        'fd_infinity': np.mean([fd.compute_FD_infinity(real, fake) for _ in range(100)]),  # of random subsets
        **dgm_prdc.compute_prdc(real, fake, 3),
        'authpct': authpct.compute_authpct(real, fake),
    },
}
pprint({name: {key: float(f'{value:.8g}') for key, value in known.items()} for name, known in numbers.items()}, width=128)
