"""Data sets of pictures: folders of classes, Tiny ImageNet, what `datasets` saved; arrays on disk."""

import hashlib
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lottery_ticket.data.images import KEYS
from lottery_ticket.data.originals import PUBLISHED, Edition, Original
from lottery_ticket.data.sources import at_hand, fetch, load_images
from lottery_ticket.errors import InputError, LotteryTicketError
from lottery_ticket.plugins import is_code

SAVED = Path(__file__).with_name("saved_by_datasets_4.8.5.tar.xz")
"""A `DatasetDict` (dict) and a `Dataset` (sel), written by `save_to_disk` of the library itself, 4.8.5."""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("LT_DATA_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def noise(count, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8)


def picture(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def folder_of(place, **parts):
    """Part → images and labels, class by class, as ImageFolder has them."""
    for part, (x, y) in parts.items():
        for index, (pixels, label) in enumerate(zip(x, y, strict=True)):
            picture(place / part / f"class{label}" / f"{index:03}.png", pixels)
    return place


def sorted_by_class(x, y):
    order = np.argsort(y, kind="stable")
    return x[order], y[order]


def test_folder_with_train_and_test(tmp_path, cache):
    x, y, x_test, y_test = noise(9, 6, 5, 3), np.arange(9) % 3, noise(4, 6, 5, 3, seed=1), np.array([2, 0, 1, 0])
    place = folder_of(tmp_path / "pets", train=(x, y), test=(x_test, y_test))
    (place / "train/class0/notes.txt").write_text("no picture")
    images = load_images(f"folder:{place}")
    for part, own in (("train", (x, y)), ("test", (x_test, y_test))):
        expected_x, expected_y = sorted_by_class(*own)
        assert np.array_equal(getattr(images, f"x_{part}"), expected_x)
        assert np.array_equal(getattr(images, f"y_{part}"), expected_y)
    assert (images.name, images.source) == ("pets", str(place))
    assert images.notes == ("13 pictures of 3 classes, red, green and blue",)
    assert isinstance(images.x_train, np.memmap)
    again = load_images(f"folder:{place}")
    assert (again.digest, again.notes) == (images.digest, images.notes)


def test_validation_pictures(tmp_path, cache):
    x, y = noise(6, 4, 4), np.arange(6) % 2
    place = folder_of(tmp_path / "a", train=(x, y), val=(x[:2], y[:2]))
    images = load_images(f"folder:{place}")
    assert (len(images.y_train), len(images.y_test)) == (6, 2)
    assert images.notes[0] == "val is what is tested on"
    assert images.x_train.shape == (6, 4, 4)  # all are grey
    folder_of(place, test=(x[2:6], y[2:6]))
    images = load_images(f"folder:{place}")
    assert (len(images.y_train), len(images.y_test)) == (8, 4)
    assert "join the training images" in images.notes[0]


def test_folder_without_parts_is_divided_always_the_same(tmp_path, cache):
    x, y = noise(25, 4, 4, 3), np.repeat(np.arange(2), [20, 5])
    place = folder_of(tmp_path, many=(x, y)) / "many"
    images = load_images(f"folder:{place}")
    assert np.bincount(images.y_train).tolist() == [16, 4]
    assert np.bincount(images.y_test).tolist() == [4, 1]
    every = {each.tobytes() for each in x}
    assert {each.tobytes() for each in [*images.x_train, *images.x_test]} == every
    moved = place.rename(tmp_path / "elsewhere")
    assert load_images(f"folder:{moved}").digest == images.digest


@pytest.mark.parametrize(
    ("told", "shape"), [("@8", (8, 8, 3)), ("@8x4", (8, 4, 3)), ("@8,grey", (8, 8)), (",grey", None)]
)
def test_sizes_and_colours(tmp_path, cache, told, shape):
    place = folder_of(tmp_path / "p", train=(noise(4, 16, 16, 3), np.arange(4) % 2), test=(noise(2, 16, 16), [0, 1]))
    picture(place / "train/class0/wide.jpg", noise(1, 12, 30, 3)[0])
    if shape is None:
        with pytest.raises(
            InputError, match=r"pictures of 16×16 .* and 12×30 .*allowed: all of one size, or .*PATH@64"
        ):
            load_images(f"folder:{place}{told}")
        return
    images = load_images(f"folder:{place}{told}")
    assert images.x_train.shape == (5, *shape)
    assert images.x_test.shape == (2, *shape)
    assert f"scaled to {shape[0]}×{shape[1]} pixels" in images.notes[-1]


def test_scaling_covers_and_takes_the_middle(tmp_path, cache):
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 200  # what is left of 12 columns when 4×4 are taken
    place = folder_of(tmp_path / "p", train=([wide, wide], [0, 1]), test=([wide, wide], [0, 1]))
    assert (load_images(f"folder:{place}@4,grey").x_train == 200).all()


def test_changed_pictures_are_read_again(tmp_path, cache):
    x, y = noise(4, 4, 4, 3), np.arange(4) % 2
    place = folder_of(tmp_path / "p", train=(x, y), test=(x, y))
    first = load_images(f"folder:{place}").digest
    load_images(f"folder:{place}@2")
    picture(place / "train/class1/001.png", noise(1, 4, 4, 3, seed=5)[0])
    images = load_images(f"folder:{place}")
    assert images.digest != first
    assert len(list((cache / "pictures").iterdir())) == 2  # this one and that of another size
    kept = next(path for path in (cache / "pictures").glob("p-*") if np.load(path / "x_train.npy").shape[1] == 4)
    damaged = np.load(kept / "x_train.npy", mmap_mode="r+")
    damaged[0, 0, 0, 0] ^= 1
    damaged.flush()
    with pytest.raises(InputError, match="is damaged: its digest is"):
        load_images(f"folder:{place}")


def test_folders_that_are_none(tmp_path, cache):
    def refused(why, name=f"folder:{tmp_path / 'p'}"):
        with pytest.raises(InputError, match=why) as error:
            load_images(name)
        assert "\n" not in str(error.value)
        assert not list(cache.glob("pictures/*"))

    refused("is not there; allowed: a folder")
    (tmp_path / "p").mkdir()
    refused("has no pictures to train and to test on; allowed: train/CLASS and test/CLASS")
    place = folder_of(tmp_path / "p", train=(noise(2, 4, 4), [0, 1]))
    refused("has no pictures to train and to test on")
    folder_of(place, test=(noise(1, 4, 4), [7]))
    refused("has no pictures of class7 in train; allowed: the classes of train")
    (place / "test/class7").rename(place / "test/class1")
    (place / "test/class1/000.png").write_bytes(b"no picture at all")
    refused("000.png, which cannot be read .*; allowed: whole pictures")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(place / "test/class1/000.png")
    refused("of mode I;16; allowed: 8 bits a channel")


def test_a_cut_picture_is_named(tmp_path, cache):
    place = folder_of(tmp_path / "p", train=(noise(2, 64, 64, 3), [0, 1]), test=(noise(2, 64, 64, 3), [0, 1]))
    cut = place / "test/class1/001.png"
    cut.write_bytes(cut.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"001.png, which cannot be read"):
        load_images(f"folder:{place}")
    assert not list((cache / "pictures").iterdir())


def test_names_of_folders_are_no_code():
    assert not is_code("folder:my/pets@64")
    assert not is_code("hf:saved")
    assert not at_hand("folder:not/there@64,grey")
    assert at_hand(f"folder:{Path(__file__).parent}@64")


# what Hugging Face's datasets saved


@pytest.fixture
def saved(tmp_path):
    with tarfile.open(SAVED) as archive:
        archive.extractall(tmp_path / "saved", filter="data")
    return tmp_path / "saved"


def test_saved_dataset_dict(saved, cache):
    source = np.random.default_rng(0)  # as it was made
    x, x_test = (source.integers(0, 256, (n, 6, 5, 3)).astype(np.uint8) for n in (12, 6))
    images = load_images(f"hf:{saved / 'dict'}")  # training images in two files
    assert np.array_equal(images.x_train, x)
    assert np.array_equal(images.x_test, x_test)
    assert images.y_train.tolist() == [i % 3 for i in range(12)]
    assert images.y_test.tolist() == [i % 3 for i in range(6)]
    assert load_images(f"hf:{saved / 'dict'}@3,grey").x_train.shape == (12, 3, 3)


def test_saved_dataset_is_divided(saved, cache):
    images = load_images(f"hf:{saved / 'sel'}")
    assert sorted(images.y_train.tolist()) == [1, 2, 2]
    assert sorted(images.y_test.tolist()) == [1, 2]
    assert "one part" in images.notes[0]


def test_saved_that_is_none(saved, cache):
    def refused(why):
        with pytest.raises(InputError, match=why):
            load_images(f"hf:{saved / 'dict'}")

    info = saved / "dict/train/dataset_info.json"
    told = json.loads(info.read_text())
    told["features"]["other"] = {"_type": "Image"}
    info.write_text(json.dumps(told))
    refused(r"has 2 columns of Image \(image, other\)")
    told["features"] = {"label": told["features"]["label"]}
    info.write_text(json.dumps(told))
    refused(r"has 0 columns of Image \(of label\); allowed: a folder that datasets.save_to_disk wrote")
    (saved / "dict/dataset_dict.json").write_text('{"splits": ["train"]}')
    refused("has the parts train; allowed: train, and test or validation")
    (saved / "dict/dataset_dict.json").unlink()
    refused("cannot be read .*; allowed: a folder that datasets.save_to_disk wrote")


# Tiny ImageNet


def tiny(x, y, x_test, y_test):
    """Its files, as bytes, with a class for each label."""

    def png(pixels):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "png")
        return file.getvalue()

    wnid = [f"n{1000 + label}" for label in range(200)]
    files = {"wnids.txt": "\n".join(reversed(wnid)).encode(), "words.txt": b"", "test/images/test_0.JPEG": png(x[0])}
    for index, (pixels, label) in enumerate(zip(x, y, strict=True)):
        files[f"train/{wnid[label]}/images/{index:05}.JPEG"] = png(pixels)
    for index, pixels in enumerate(x_test):
        files[f"val/images/val_{index}.JPEG"] = png(pixels)
    told = [f"val_{index}.JPEG\t{wnid[label]}\t0\t0\t9\t9\n" for index, label in enumerate(y_test)]
    return files | {"val/val_annotations.txt": "".join(told).encode()}


@pytest.mark.parametrize("how", ["zip", "folder"])
def test_tiny_imagenet(tmp_path, cache, monkeypatch, how):
    x, x_test = noise(200, 64, 64, 3), noise(3, 64, 64, 3, seed=1)
    files = tiny(x, np.arange(200), x_test, [5, 199, 0])
    place = tmp_path / "mine" / "tiny-imagenet-200.zip"
    place.parent.mkdir()
    if how == "zip":
        with zipfile.ZipFile(place, "w") as archive:
            for name, raw in files.items():
                archive.writestr(f"tiny-imagenet-200/{name}", raw)
        file = Original(PUBLISHED["tiny-imagenet"][0].files[0].url, hashlib.md5(place.read_bytes()).hexdigest())
        edition = Edition((file,), PUBLISHED["tiny-imagenet"][0].read)
        monkeypatch.setitem(PUBLISHED, "tiny-imagenet", (edition,))
    else:
        for name, raw in files.items():
            path = place.with_suffix("") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(raw)
    assert fetch("tiny-imagenet", str(place.parent)) == cache / "tiny-imagenet"
    images = load_images("tiny-imagenet")
    assert np.array_equal(images.x_train, x)
    assert np.array_equal(images.x_test, x_test)
    assert images.y_train.tolist() == list(range(200))
    assert images.y_test.tolist() == [5, 199, 0]
    assert images.notes[0] == "val is what is tested on: test has no labels"
    assert sorted(path.name for path in cache.iterdir()) == ["tiny-imagenet"]


def test_tiny_imagenet_that_lacks_a_picture(tmp_path, cache):
    files = tiny(noise(200, 64, 64, 3), np.arange(200), noise(1, 64, 64, 3), [5, 6])
    for name, raw in files.items():
        path = tmp_path / "t" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    with pytest.raises(
        LotteryTicketError, match=r"tiny-imagenet could not be fetched .*has val_1.JPEG, which cannot be"
    ):
        fetch("tiny-imagenet", str(tmp_path / "t"))
    assert list(cache.iterdir()) == []


# arrays


def test_folder_of_arrays(tmp_path):
    place = tmp_path / "own"
    place.mkdir()
    content = {"x_train": noise(9, 4, 4), "y_train": np.arange(9) % 3, "x_test": noise(3, 4, 4), "y_test": np.arange(3)}
    np.savez(tmp_path / "own.npz", **content)
    with pytest.raises(InputError, match=r"has no x_train.npy that can be read.*pictures as folder:"):
        load_images(str(place))
    for key in KEYS:
        np.save(place / f"{key}.npy", content[key])
    images = load_images(str(place))
    assert isinstance(images.x_train, np.memmap)
    assert images.digest == load_images(str(tmp_path / "own.npz")).digest
    assert images.name == "own"
    np.save(place / "x_train.npy", np.array([{}] * 9), allow_pickle=True)
    with pytest.raises(InputError, match=r"has no x_train.npy that can be read"):
        load_images(str(place))
    os.truncate(place / "y_test.npy", 20)
    with pytest.raises(InputError, match="that can be read"):
        load_images(str(place))
