"""Thirty networks of others through `lt run`: what of them is pruned, and what their weights give in plain PyTorch.

The expected tensors were counted by hand or read off the papers' tables; a pattern stands for all tensors that it
matches whole, with their number.
"""

import re
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from lottery_ticket import Ticket, load_mask, load_weights
from lottery_ticket.models.prunable import Inventory
from lottery_ticket.store.seal import unseal

OWN, VISION = "tests.help.strangers", "torchvision.models"
COLOURS, TEST = 48, 40

# model: (prunable tensors, their weights in all, weights that stay dense, their values in all)
NETWORKS = {
    f"{VISION}:resnet18": (
        {
            r"conv1\.weight": 1,
            r"layer\d\.\d\.conv\d\.weight": 16,
            r"layer\d\.0\.downsample\.0\.weight": 3,
            r"fc\.weight": 1,
        },
        11_172_032,
        {},
        0,
    ),
    f"{VISION}:vgg11_bn": ({r"features\.\d+\.weight": 8, r"classifier\.\d\.weight": 3}, 128_796_352, {}, 0),
    f"{VISION}:mobilenet_v3_small": (
        {
            r"features\.\d+\.0\.weight": 2,
            r"features\.\d+\.block\.\d\.0\.weight": 32,
            r"features\.\d+\.block\.\d\.fc[12]\.weight": 18,
            r"classifier\.[03]\.weight": 2,
        },
        1_512_072,
        {},
        0,
    ),
    f"{VISION}:efficientnet_b0": (
        {
            r"features\.[08]\.0\.weight": 2,
            r"features\.\d\.\d\.block\.\d\.0\.weight": 47,
            r"features\.\d\.\d\.block\.\d\.fc[12]\.weight": 32,
            r"classifier\.1\.weight": 1,
        },
        3_968_992,
        {},
        0,
    ),
    f"{VISION}:densenet121": (
        {
            r"features\.conv0\.weight": 1,
            r"features\.denseblock\d\.denselayer\d+\.conv[12]\.weight": 116,
            r"features\.transition\d\.conv\.weight": 3,
            r"classifier\.weight": 1,
        },
        6_880_448,
        {},
        0,
    ),
    f"{OWN}:vit_b_16_at_32": (
        {
            r"conv_proj\.weight": 1,
            r"encoder\.layers\.\w+\.self_attention\.in_proj_weight": 12,
            r"encoder\.layers\.\w+\.self_attention\.out_proj\.weight": 12,
            r"encoder\.layers\.\w+\.mlp\.[03]\.weight": 24,
            r"heads\.head\.weight": 1,
        },
        85_532_160,
        {r"class_token": 1, r"encoder\.pos_embedding": 1},
        768 + 5 * 768,
    ),
    f"{VISION}:convnext_tiny": (
        {
            r"features\.[0246]\.[01]\.weight": 4,
            r"features\.[1357]\.\d\.block\.[035]\.weight": 54,
            r"classifier\.2\.weight": 1,
        },
        27_763_680,
        {r"features\.[1357]\.\d\.layer_scale": 18},
        6_624,
    ),
    f"{VISION}:shufflenet_v2_x1_0": (
        {
            r"conv[15]\.0\.weight": 2,
            r"stage[234]\.\d\.branch1\.[02]\.weight": 6,
            r"stage[234]\.\d\.branch2\.[035]\.weight": 48,
            r"fc\.weight": 1,
        },
        1_247_664,
        {},
        0,
    ),
    f"{VISION}:squeezenet1_1": (
        {
            r"features\.0\.weight": 1,
            r"features\.\d+\.(squeeze|expand1x1|expand3x3)\.weight": 24,
            r"classifier\.1\.weight": 1,
        },
        724_672,
        {},
        0,
    ),
    f"{OWN}:googlenet_without_aux": (
        {
            r"conv[123]\.conv\.weight": 3,
            r"inception\d[a-e]\.branch1\.conv\.weight": 9,
            r"inception\d[a-e]\.branch[234]\.\d\.conv\.weight": 45,
            r"fc\.weight": 1,
        },
        5_595_584,
        {},
        0,
    ),
    f"{VISION}:swin_t": (
        {
            r"features\.0\.0\.weight": 1,
            r"features\.[1357]\.\d\.attn\.(qkv|proj)\.weight": 24,
            r"features\.[1357]\.\d\.mlp\.[03]\.weight": 24,
            r"features\.[246]\.reduction\.weight": 3,
            r"head\.weight": 1,
        },
        27_439_104,
        {r"features\.[1357]\.\d\.attn\.relative_position_bias_table": 12},
        169 * (2 * 3 + 2 * 6 + 6 * 12 + 2 * 24),
    ),
    f"{VISION}:regnet_y_400mf": (
        {
            r"stem\.0\.weight": 1,
            r"trunk_output\.block\d\.block\d-\d\.proj\.0\.weight": 4,
            r"trunk_output\.block\d\.block\d-\d\.f\.[abc]\.0\.weight": 48,
            r"trunk_output\.block\d\.block\d-\d\.f\.se\.fc[12]\.weight": 32,
            r"fc\.weight": 1,
        },
        3_875_184,
        {},
        0,
    ),
    f"{VISION}:mnasnet1_0": (
        {r"layers\.\d+\.weight": 4, r"layers\.\d+\.\d\.layers\.\d\.weight": 48, r"classifier\.1\.weight": 1},
        3_077_192,
        {},
        0,
    ),
    f"{OWN}:ResNet20": (
        {r"conv1\.weight": 1, r"layer\d\.\d\.conv[12]\.weight": 18, r"linear\.weight": 1},
        268_336,
        {},
        0,
    ),
    f"{OWN}:PreActResNet18": (
        {
            r"conv1\.weight": 1,
            r"blocks\.\d\.conv[12]\.weight": 16,
            r"blocks\.\d\.shortcut\.0\.weight": 3,
            r"linear\.weight": 1,
        },
        11_164_352,
        {},
        0,
    ),
    f"{OWN}:WideResNet16x4": (
        {
            r"conv1\.weight": 1,
            r"blocks\.\d\.conv[12]\.weight": 12,
            r"blocks\.\d\.shortcut\.0\.weight": 3,
            r"fc\.weight": 1,
        },
        2_745_264,
        {},
        0,
    ),
    f"{OWN}:DenseNetBC40": (
        {r"features\.0\.weight": 1, r"features\.\d+\.conv[12]?\.weight": 38, r"linear\.weight": 1},
        171_024,
        {},
        0,
    ),
    f"{OWN}:MLPMixer": (
        {r"patches\.weight": 1, r"blocks\.\d\.(tokens|channels)\.[02]\.weight": 16, r"head\.weight": 1},
        151_168,
        {},
        0,
    ),
    f"{OWN}:EncoderOverRows": (
        {
            r"embed\.weight": 1,
            r"encoder\.layers\.\d\.self_attn\.(in_proj_weight|out_proj\.weight)": 4,
            r"encoder\.layers\.\d\.linear[12]\.weight": 4,
            r"head\.weight": 1,
        },
        96 * 64 + 2 * (3 * 64 * 64 + 64 * 64 + 2 * 64 * 128) + 640,
        {r"class_token": 1, r"positions": 1},
        64 + 33 * 64,
    ),
    f"{OWN}:lstm_over_rows": (
        {r"recurrent\.weight_(ih|hh)_l[01](_reverse)?": 8, r"head\.weight": 1},
        2 * 256 * (96 + 64) + 2 * 256 * (128 + 64) + 1280,
        {},
        0,
    ),
    f"{OWN}:gru_over_rows": ({r"recurrent\.weight_(ih|hh)_l0": 2, r"head\.weight": 1}, 192 * (96 + 64) + 640, {}, 0),
    f"{OWN}:Conv1dOverRows": (
        {r"convs\.\d\.weight": 3, r"head\.weight": 1},
        3 * 48 * (96 + 48 + 48) + 480,
        {},
        0,
    ),
    f"{OWN}:AttentionPooling": (
        {r"embed\.weight": 1, r"attention\.(in_proj_weight|out_proj\.weight)": 2, r"head\.weight": 1},
        96 * 64 + 4 * 64 * 64 + 640,
        {r"query": 1},
        64,
    ),
    f"{OWN}:weight_normed": (
        {r"[025]\.parametrizations\.weight\.original1": 3},
        16 * 27 + 32 * 144 + 15_680,
        {r"[025]\.parametrizations\.weight\.original0": 3},
        16 + 32 + 10,
    ),
    f"{OWN}:spectrally_normed": (
        {r"0\.parametrizations\.weight\.original": 1, r"3\.weight": 1},
        16 * 48 + 10_240,
        {},
        0,
    ),
    f"{OWN}:ParameterLists": ({r"weights\.[012]": 3}, 307_200 + 10_000 + 1_000, {}, 0),
    f"{OWN}:lambda_layers": ({r"[15]\.weight": 2}, 144 + 2_560, {}, 0),
    f"{OWN}:FunctionalDropout": ({r"fc[12]\.weight": 2}, 307_200 + 1_000, {}, 0),
    f"{OWN}:SqueezeAndExcitation": (
        {r"conv[12]\.weight": 2, r"(squeeze|excite|fc)\.weight": 3},
        864 + 2_304 + 2 * 256 + 320,
        {},
        0,
    ),
}

REFUSED = {
    f"{VISION}:googlenet": "returns a GoogLeNetOutputs of logits, aux_logits2, aux_logits1 in training; ",
    f"{OWN}:dropout_that_never_stops": "gives the same images other scores in each evaluation",
}


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """A few images of 32×32 pixels in three colours, ten classes."""
    draw = np.random.default_rng(0)
    patterns = draw.normal(size=(10, 32, 32, 3))
    arrays = {}
    for part, count in (("train", COLOURS + 12), ("test", TEST)):
        labels = np.arange(count) % 10
        pixels = 128 + 40 * patterns[labels] + 20 * draw.normal(size=(count, 32, 32, 3))
        arrays |= {f"x_{part}": pixels.clip(0, 255).astype(np.uint8), f"y_{part}": labels}
    path = tmp_path_factory.mktemp("colours") / "colours.npz"
    np.savez(path, **arrays)
    return path


def run(lt, colours, model):
    flags = f"--dataset {colours} --model {model} --arms winning --rounds 2 --iterations 10 --batch-size 12"
    return lt("run", *f"{flags} --validation-size 12 --checkpoint-precision float32 --json".split(), timeout=900)


def counted(names, patterns):
    """Pattern → how many of the names it matches; each name must be matched once."""
    for name in names:
        assert sum(bool(re.fullmatch(pattern, name)) for pattern in patterns) == 1, name
    return {pattern: sum(bool(re.fullmatch(pattern, name)) for name in names) for pattern in patterns}


@pytest.mark.slow
@pytest.mark.parametrize("model", NETWORKS)
def test_strangers(lt, colours, tmp_path, model):
    prunable, weights, dense, values = NETWORKS[model]
    done = run(lt, colours, model)
    assert done.code == 0, done.err
    uri = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    client, run_id = MlflowClient(uri), done.json["run_id"]

    told = Inventory.model_validate_json(unseal(Path(client.download_artifacts(run_id, "inventory.json")).read_bytes()))
    assert counted(told.prunable, prunable) == prunable
    assert sum(told.prunable.values()) == weights
    assert counted(told.dense, dense) == dense
    assert sum(each.count for each in told.dense.values()) == values
    assert all(name in done.err for name in [*told.prunable, *told.dense])
    assert f"{weights:,} of {told.parameters:,} parameters" in done.err
    assert client.get_run(run_id).data.tags["lt.prunable_weights"] == str(weights)

    ticket = Ticket.load(f"runs:/{run_id}:1", tracking_uri=uri, trained=False, model=model)
    assert ticket.inventory == told
    folder = client.download_artifacts(ticket.origin.trajectory, "rounds/01", str(tmp_path))
    mask, trained = load_mask(f"{folder}/mask.safetensors"), load_weights(f"{folder}/weights.safetensors")
    assert mask.keys() == told.prunable.keys()
    assert not any(trained[name][~kept].any() for name, kept in mask.items())
    kept = sum(int(each.sum()) for each in mask.values())
    assert kept == sum(count - round(0.2 * count) for count in told.prunable.values())

    where, name = model.split(":")
    plain = getattr(import_module(where), name)(num_classes=10)
    state = plain.state_dict()  # with the versions of its layers, which MNASNet asks for
    assert state.keys() == trained.keys()
    state.update(trained)
    plain.load_state_dict(state)
    images = np.load(colours)
    x = ticket.data.standardise(torch.from_numpy(images["x_test"]).movedim(-1, 1).float())
    with torch.no_grad():
        right = plain.eval()(x).argmax(1).numpy() == images["y_test"]
    last = done.json["rounds"][-1]
    assert right.mean() == pytest.approx(last["test_accuracy"], abs=1e-9)
    assert last["density"] == pytest.approx(kept / weights)
    shutil.rmtree(tmp_path / "mlruns")


@pytest.mark.slow
@pytest.mark.parametrize("model", REFUSED)
def test_strangers_that_are_refused(lt, colours, model):
    done = run(lt, colours, model)
    assert done.code == 2
    assert REFUSED[model] in done.err
