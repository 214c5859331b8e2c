"""Data sets: packaged MNIST, preparation, .npz files, the cache, and what is published, from a local server."""

import dataclasses
import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import scipy.io
import torch
from torchvision import datasets

from lottery_ticket.data.images import KEYS, Images
from lottery_ticket.data.originals import PUBLISHED, Original
from lottery_ticket.data.prepared import DataInfo, channels_first, describe, prepare, split
from lottery_ticket.data.sources import KNOWN, cached, fetch, load_images
from lottery_ticket.errors import InputError, LotteryTicketError

CPU = torch.device("cpu")


def arrays(shape, classes=3, train=30, test=12, dtype=np.uint8):
    """Random images; every class is in both parts."""
    source = np.random.default_rng(len(shape))
    x, x_test = (source.integers(0, 256, (n, *shape)).astype(dtype) for n in (train, test))
    return {"x_train": x, "y_train": np.arange(train) % classes, "x_test": x_test, "y_test": np.arange(test) % classes}


def saved(path, **content):
    np.savez(path, **content)
    return load_images(str(path))


def assert_holds(images, content):
    for key in KEYS:
        assert np.array_equal(getattr(images, key), content[key])


# packaged MNIST


def test_mnist_is_mnist():
    mnist = load_images("mnist")
    assert mnist.x_train.shape == (60_000, 28, 28)
    assert mnist.x_test.shape == (10_000, 28, 28)
    assert mnist.classes == 10
    assert np.bincount(mnist.y_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert mnist.x_train.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert mnist.x_train.std() / 255 == pytest.approx(0.3081, abs=5e-5)
    assert mnist.y_train[:5].tolist() == [5, 0, 4, 1, 9]


# preparation


def test_mnist_is_standardised_by_what_it_is_trained_on():
    mnist = load_images("mnist")
    data = prepare(mnist, 5000, CPU)
    assert (len(data.train), len(data.validation), len(data.test)) == (55_000, 5000, 10_000)
    assert data.input_shape == (1, 28, 28)
    assert data.train.x.double().mean().item() == pytest.approx(0, abs=1e-5)
    assert data.train.x.double().std().item() == pytest.approx(1, abs=1e-5)
    kept = mnist.x_train[split(mnist, 5000)[0]]
    by_hand = (mnist.x_test / 1.0 - kept.mean()) / kept.std()
    assert np.allclose(data.test.x[:, 0].numpy(), by_hand, atol=1e-5)
    assert np.array_equal(data.test.y.numpy(), mnist.y_test)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 3), (6,)])
def test_held_out_and_test_images_change_no_statistic(shape):
    content = arrays(shape)
    expected = describe(Images("own", "", **content), 10)
    _, held = split(Images("own", "", **content), 10)
    content["x_train"][held] = 255
    changed = describe(Images("own", "", **content | {"x_test": content["x_test"] // 2}), 10)
    assert (changed.mean, changed.std) == (expected.mean, expected.std)
    assert describe(Images("own", "", **content), 0).mean != expected.mean


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_each_column_of_a_table_is_standardised(dtype):
    source = np.random.default_rng(0)
    scale = np.array([1, 10, 100]).astype(dtype)
    content = arrays((3,)) | {"x_train": source.integers(0, 3, (5000, 3)).astype(dtype) * scale}
    data = prepare(Images("own", "", **content | {"y_train": np.arange(5000) % 3}), 100, CPU)
    assert torch.allclose(data.train.x.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(data.train.x.std(0, correction=0), torch.ones(3), atol=1e-5)
    assert len(data.info.mean) == len(data.info.std) == 3


def test_statistics_of_many_values():
    x = (
        np.random.default_rng(0).normal([1e4, 0, -3], [1, 1e-20, 2], (300_000, 3)).astype(np.float32)
    )  # in several parts
    info = describe(Images("own", "", x, np.arange(300_000) % 2, x[:2], np.arange(2)), 0)
    assert np.allclose(info.mean, x.mean(0, dtype=np.float64), rtol=1e-6, atol=1e-22)
    assert np.allclose(info.std, x.std(0, dtype=np.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("image_shape", "mean", "std"),
    [((5,), (3.0,), (2.0,)), ((4, 4, 4), (1.0, 2.0, 3.0, 255.0), (1.0, 1.0, 1.0, 1e-12)), ((4, 4), (7.0,), (1e-12,))],
)
def test_what_version_0_3_kept_standardises_as_it_did(image_shape, mean, std):
    info = DataInfo(name="old", digest="0", image_shape=image_shape, dtype="uint8", classes=3, mean=mean, std=std)
    content = arrays(image_shape)
    data = prepare(Images("own", "", **content), 10, CPU, info)
    x = channels_first(content["x_test"])
    along = (-1, 1, 1) if len(image_shape) > 1 else (-1,)
    expected = (x - torch.tensor(mean).view(along)) / torch.tensor(std).view(along)
    assert torch.equal(data.test.x, expected)
    assert data.info == info


def test_each_channel_is_standardised_by_the_training_images():
    content = arrays((4, 5, 3))
    content["x_train"][..., 1] //= 4
    data = prepare(Images("own", "", **content), 0, CPU)
    assert data.input_shape == (3, 4, 5)
    assert torch.allclose(data.train.x.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(data.train.x.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5)
    channel = content["x_train"][..., 1]
    by_hand = (content["x_test"][..., 1] - channel.mean()) / channel.std()
    assert np.allclose(data.test.x[:, 1].numpy(), by_hand, atol=1e-4)
    assert len(data.validation) == 0


@pytest.mark.parametrize(
    ("shape", "constant"),
    [((4, 4), 0), ((4, 4, 4), 3), ((6,), 2), ((4, 4, 3), 0)],
    ids=["grey", "alpha", "column", "red"],
)
def test_what_is_constant_in_training_is_not_blown_up_in_the_test(shape, constant):
    content = arrays(shape)
    for key in ("x_train", "x_test"):
        content[key][..., constant if len(shape) != 2 else slice(None)] = 255
    content["x_test"][0][content["x_test"][0] == 255] = 254
    data = prepare(Images("own", "", **content), 10, CPU)
    of_it = channels_first(content["x_test"])[:, constant]
    assert set(of_it.flatten().tolist()) == {254, 255}
    assert torch.equal(data.test.x[:, constant], of_it - 255)
    assert not data.train.x[:, constant].any()


def test_split_holds_each_image_once_with_its_label():
    numbers = np.arange(100, dtype=np.float32)
    images = Images("own", "", numbers[:, None], np.arange(100), numbers[:50, None], np.arange(50))
    data = prepare(images, 30, CPU)
    assert (len(data.train), len(data.validation)) == (70, 30)
    assert sorted([*data.train.y.tolist(), *data.validation.y.tolist()]) == list(range(100))
    assert data.validation.y.tolist() != list(range(70, 100))
    trained_on = numbers[data.train.y]
    for part in (data.train, data.validation, data.test):
        assert np.allclose(part.x[:, 0] * trained_on.std() + trained_on.mean(), part.y, atol=1e-4)
    assert data.test.y.tolist() == list(range(50))


def test_split_is_always_the_same():
    images = Images("own", "", **arrays((4, 4)))
    one = prepare(images, 10, CPU)
    torch.manual_seed(99)
    other = prepare(images, 10, CPU)
    assert torch.equal(one.validation.x, other.validation.x)
    assert torch.equal(one.train.x, other.train.x)


def test_preparation_leaves_the_images_alone():
    content = arrays((4, 4), dtype=np.float32)
    images = Images("own", "", **{key: value.copy() for key, value in content.items()})
    prepare(images, 10, CPU)
    assert_holds(images, content)


# .npz files


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    ("shape", "input_shape"), [((4, 5), (1, 4, 5)), ((4, 5, 3), (3, 4, 5)), ((4, 5, 1), (1, 4, 5)), ((6,), (6,))]
)
def test_npz(tmp_path, shape, input_shape, dtype):
    content = arrays(shape, dtype=dtype)
    images = saved(tmp_path / "own.npz", **content | {"y_train": content["y_train"].astype(np.uint8)})
    assert_holds(images, content)
    assert images.x_train.dtype == dtype
    assert images.y_train.dtype == np.int64
    assert (images.name, images.source, images.classes) == ("own", str(tmp_path / "own.npz"), 3)
    data = prepare(images, 10, CPU)
    assert data.input_shape == input_shape
    assert data.train.x.dtype == torch.float32


def test_digest_follows_the_content(tmp_path):
    content = arrays((4, 5))
    digest = saved(tmp_path / "one.npz", **content).digest
    assert len(digest) == 36
    np.savez_compressed(tmp_path / "same.npz", **content)
    assert load_images(str(tmp_path / "same.npz")).digest == digest
    for key in KEYS:
        changed = {name: value.copy() for name, value in content.items()}
        changed[key].flat[0] = (changed[key].flat[0] + 1) % 3
        assert saved(tmp_path / "changed.npz", **changed).digest != digest
    flat = {key: value.reshape(len(value), -1) if key.startswith("x") else value for key, value in content.items()}
    assert saved(tmp_path / "flat.npz", **flat).digest != digest


# the cache


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, not there yet."""
    monkeypatch.setenv("LT_DATA_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_cached_file_is_used_as_it_is(cache):
    cache.mkdir()
    content = arrays((32, 32, 3), 10)
    np.savez(cache / "cifar10.npz", **content)
    before = (cache / "cifar10.npz").read_bytes()
    assert cached("cifar10") == cache / "cifar10.npz"
    images = load_images("cifar10")
    assert_holds(images, content)
    assert images.name == "cifar10"
    assert images.notes == (f"{cache / 'cifar10.npz'} has no digest to check it by",)
    assert (cache / "cifar10.npz").read_bytes() == before


@pytest.mark.parametrize(("shape", "classes"), [((28, 28), 10), ((16, 16, 3), 10), ((32, 32, 3), 9)])
def test_cached_file_of_something_else_is_refused(cache, shape, classes):
    cache.mkdir()
    np.savez(cache / "cifar10.npz", **arrays(shape, classes))
    with pytest.raises(
        InputError, match=r"--dataset: 'cifar10' in the cache .*cifar10\.npz.* allowed: \(32, 32, 3\) in 10"
    ):
        load_images("cifar10")


def test_packaged_data_needs_no_fetching(cache):
    with pytest.raises(InputError, match="is packaged"):
        fetch("mnist")
    assert not cache.exists()


# downloads, for real but from a server of our own, and what people have on their disks


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder and the address at which it is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as served:
        threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield folder, f"http://127.0.0.1:{served.server_port}/"
        served.shutdown()


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


def tar_gz(files):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, raw in {"batches.meta.txt": b"names", "readme.html": b"", **files}.items():
            member = tarfile.TarInfo(f"cifar/{name}")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return made.getvalue()


def batches(name, content):
    """Name of a batch → images in CIFAR's order, N×3072, and labels."""
    flat = {part: content[f"x_{part}"].transpose(0, 3, 1, 2).reshape(-1, 3072) for part in ("train", "test")}
    if name == "cifar100":
        return {part: (flat[part], content[f"y_{part}"]) for part in ("train", "test")}
    pieces = np.array_split(np.arange(len(flat["train"])), 5)
    found = {f"data_batch_{n + 1}": (flat["train"][p], content["y_train"][p]) for n, p in enumerate(pieces)}
    return found | {"test_batch": (flat["test"], content["y_test"])}


def binary(name, content):
    coarse = [7] if name == "cifar100" else []
    records = {
        batch: b"".join(bytes([*coarse, label, *image]) for image, label in zip(x, y, strict=True))
        for batch, (x, y) in batches(name, content).items()
    }
    return [tar_gz({f"{batch}.bin": raw for batch, raw in records.items()})]


class Python2(pickle._Pickler):
    """Writes bytes as Python 2 wrote its texts: CIFAR's batches are from 2009."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_bytes(self, value):
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def pickled(name, content):
    label = b"fine_labels" if name == "cifar100" else b"labels"
    dumped = {}
    for batch, (x, y) in batches(name, content).items():
        file = io.BytesIO()
        Python2(file, protocol=2).dump({b"data": x, label: y.tolist()})
        dumped[batch] = file.getvalue()
    return [tar_gz(dumped | {"meta": b"none of our business"})]


def mat(name, content):
    made = []
    for part in ("train", "test"):
        y = content[f"y_{part}"]
        file = io.BytesIO()
        digits = np.where(y == 0, 10, y)[:, None].astype(np.uint8)  # SVHN calls the digit 0 class 10
        scipy.io.savemat(file, {"X": content[f"x_{part}"].transpose(1, 2, 3, 0), "y": digits})
        made.append(file.getvalue())
    return made


def packed(name, content):
    return [gzip.compress(idx(content[key])) for key in KEYS]


MADE = {
    "fashion-mnist": [packed],
    "kmnist": [packed],
    "cifar10": [binary, pickled],
    "cifar100": [binary, pickled],
    "svhn": [mat],
}


def content_of(name):
    return arrays(KNOWN[name].shape, KNOWN[name].classes, train=120, test=100)


@pytest.fixture
def publish(server, monkeypatch):
    """Publishes small arrays as an edition of a data set on the server: in its files, under their names."""
    folder, address = server

    def edition(name, which, content):
        editions = list(PUBLISHED[name])
        made = MADE[name][which](name, content)
        files = []
        for original, raw in zip(editions[which].files, made, strict=True):
            (folder / original.name).write_bytes(raw)
            files.append(Original(address + original.name, hashlib.md5(raw).hexdigest()))
        editions[which] = dataclasses.replace(editions[which], files=tuple(files))
        monkeypatch.setitem(PUBLISHED, name, tuple(editions))
        return folder

    return edition


def test_all_editions_are_tested():
    assert {name: len(made) for name, made in MADE.items()} == {
        name: len(editions)
        for name, editions in PUBLISHED.items()
        if name != "tiny-imagenet"  # test_pictures.py
    }


@pytest.mark.parametrize("name", MADE)
def test_download(name, cache, server, publish):
    content = content_of(name)
    folder = publish(name, 0, content)
    assert_holds(load_images(name), content)
    assert [path.name for path in cache.iterdir()] == [f"{name}.npz"]
    for file in folder.iterdir():
        file.unlink()  # from now on the cache must do
    images = load_images(name)
    assert_holds(images, content)
    assert images.notes == ()
    assert str(np.load(cache / f"{name}.npz")["digest"]) == images.digest


@pytest.mark.parametrize(
    ("name", "which"), [(name, which) for name, made in MADE.items() for which in range(len(made))]
)
def test_from_a_folder_that_has_them(name, which, cache, publish, monkeypatch):
    content = content_of(name)
    folder = publish(name, which, content)
    deeper = folder.parent / "mine" / "raw"
    deeper.parent.mkdir()
    folder.rename(deeper)
    assert fetch(name, str(deeper.parent)) == cache / f"{name}.npz"
    assert_holds(load_images(name), content)


def test_from_a_file_or_a_mirror(cache, server, publish):
    content = content_of("cifar10")
    folder = publish("cifar10", 1, content)
    (folder / "cifar-10-python.tar.gz").rename(folder / "mine (1).tgz")
    fetch("cifar10", str(folder / "mine (1).tgz"))
    assert_holds(load_images("cifar10"), content)
    (cache / "cifar10.npz").unlink()
    (folder / "mine (1).tgz").rename(folder / "cifar-10-python.tar.gz")
    fetch("cifar10", server[1] + "cifar-10-python.tar.gz")
    assert_holds(load_images("cifar10"), content)
    publish("kmnist", 0, content_of("kmnist"))
    fetch("kmnist", server[1])
    assert (cache / "kmnist.npz").exists()


@pytest.mark.parametrize("name", MADE)
def test_damaged_download_leaves_nothing(name, cache, publish):
    last = max(publish(name, 0, content_of(name)).iterdir(), key=lambda file: file.name)
    raw = bytearray(last.read_bytes())
    raw[len(raw) // 2] ^= 1
    last.write_bytes(raw)
    with pytest.raises(LotteryTicketError, match=rf"--dataset {name} could not be fetched .*has the MD5") as failed:
        fetch(name)
    assert not isinstance(failed.value, InputError)
    assert "\n" not in str(failed.value)
    assert list(cache.iterdir()) == []
    with pytest.raises(InputError, match=r"--from: .* has .* with the MD5"):
        fetch(name, str(last.parent))
    assert list(cache.iterdir()) == []


def test_nothing_of_it_is_there(cache, tmp_path):
    (tmp_path / "other.tar.gz").write_bytes(b"something else")
    for place, why in (("nowhere", "is not there"), (".", "lacks them"), ("other.tar.gz", "has the MD5")):
        with pytest.raises(InputError, match=rf"--from: .* {why}.*; allowed: cifar-10-binary\.tar\.gz or cifar-10-py"):
            fetch("cifar10", str(tmp_path / place))


def test_no_network(cache, monkeypatch):
    nowhere = [
        dataclasses.replace(file, url=f"http://127.0.0.1:1/{file.name}") for file in PUBLISHED["kmnist"][0].files
    ]
    monkeypatch.setitem(PUBLISHED, "kmnist", (dataclasses.replace(PUBLISHED["kmnist"][0], files=tuple(nowhere)),))
    with pytest.raises(
        LotteryTicketError, match=r"--dataset kmnist could not be fetched .*lt data fetch kmnist --from"
    ):
        load_images("kmnist")
    assert list(cache.iterdir()) == []


def test_nothing_is_run_that_a_pickle_names(cache, server, publish, monkeypatch, tmp_path):
    evil = pickle.dumps({"data": Touch(tmp_path / "run"), "labels": []})
    monkeypatch.setitem(MADE, "cifar10", [binary, lambda name, content: [tar_gz({"data_batch_1": evil})]])
    folder = publish("cifar10", 1, {})
    with pytest.raises(LotteryTicketError, match=r"posix\.system is none of an array"):
        fetch("cifar10", str(folder))
    assert not (tmp_path / "run").exists()


class Touch:
    """When it is unpickled, makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_what_is_cached_is_checked_each_time(cache, publish):
    content = content_of("kmnist")
    publish("kmnist", 0, content)
    digest = load_images("kmnist").digest
    changed = content["x_test"].copy()
    changed[3, 4, 5] ^= 1
    np.savez(cache / "kmnist.npz", **content | {"x_test": changed}, digest=np.array(digest))
    with pytest.raises(InputError, match=r"'kmnist' in the cache .* is damaged.*delete it to fetch it again"):
        load_images("kmnist")
    whole = (cache / "kmnist.npz").read_bytes()
    (cache / "kmnist.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"'kmnist' in the cache .*cannot be read.*delete it to fetch it again"):
        load_images("kmnist")


def test_sums_are_those_of_torchvision():
    by_name = {}
    for made in (datasets.FashionMNIST, datasets.KMNIST):
        by_name[made] = {made.mirrors[-1] + name: md5 for name, md5 in made.resources}
    for name, made in (("fashion-mnist", datasets.FashionMNIST), ("kmnist", datasets.KMNIST)):
        assert {file.url: file.md5 for file in PUBLISHED[name][0].files} == by_name[made]
    for name, made in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)):
        assert PUBLISHED[name][1].files == (Original(made.url, made.tgz_md5),)
    parts = [datasets.SVHN.split_list[part] for part in ("train", "test")]
    assert PUBLISHED["svhn"][0].files == tuple(Original(url, md5) for url, _, md5 in parts)
