"""What arrays of strangers mean: converted where that is certain and told, else taken as documented or refused."""

import numpy as np
import pytest

from lottery_ticket.data.images import KEYS
from lottery_ticket.data.sources import load_images
from lottery_ticket.errors import InputError

SOURCE = np.random.default_rng(0)
TRAIN, TEST = 24, 12


def content(shape=(6, 6), **changed):
    """Random uint8 images of 3 classes as `lt` documents them, arrays replaced or (None) left out."""
    made = {
        "x_train": SOURCE.integers(0, 256, (TRAIN, *shape), dtype=np.uint8),
        "y_train": np.arange(TRAIN) % 3,
        "x_test": SOURCE.integers(0, 256, (TEST, *shape), dtype=np.uint8),
        "y_test": np.arange(TEST) % 3,
    } | changed
    return {key: value for key, value in made.items() if value is not None}


def load(tmp_path, arrays):
    np.savez(tmp_path / "own.npz", **arrays)
    return load_images(str(tmp_path / "own.npz"))


def refusal(tmp_path, arrays):
    with pytest.raises(InputError) as refused:
        load(tmp_path, arrays)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def assert_same(images, expected):
    for key in KEYS:
        assert np.array_equal(getattr(images, key), expected[key]), key


def both(arrays, change, kind="x"):
    """The arrays with those of images (or labels) of both parts changed."""
    return arrays | {f"{kind}_{part}": change(arrays[f"{kind}_{part}"]) for part in ("train", "test")}


# axes


def channels_first(x):
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    "shape", [(8, 8, 3), (28, 28, 1), (32, 32, 4), (9, 14, 3), (64, 48, 4), (16, 16, 13), (5, 5, 2)]
)
def test_channels_first_become_channels_last(tmp_path, shape, dtype):
    arrays = both(content(shape), lambda x: x.astype(dtype))
    images = load(tmp_path, both(arrays, channels_first))
    assert_same(images, arrays)
    height, width, channels = shape
    told = f"x_train, x_test: N×C×H×W ({channels} channels of {height}×{width} pixels), taken as N×H×W×C"
    assert images.notes == (told,)
    assert images.digest == load(tmp_path, arrays).digest


@pytest.mark.parametrize(
    "shape", [(8, 8, 3), (9, 14, 1), (4, 5, 3), (4, 4, 1), (3, 3, 7), (7, 7, 512), (64, 48, 4), (5, 5)]
)
def test_what_is_documented_is_taken_without_a_word(tmp_path, shape):
    arrays = content(shape)
    images = load(tmp_path, arrays)
    assert_same(images, arrays)
    assert images.notes == ()


@pytest.mark.parametrize("shape", [(3, 3, 3), (28, 28, 28), (1, 64, 12), (1, 1, 9), (3, 5, 64), (1, 28, 20), (9, 5, 2)])
def test_what_may_mean_two_things_is_taken_as_documented_and_told(tmp_path, shape):
    arrays = content(shape)
    images = load(tmp_path, arrays)
    assert_same(images, arrays)
    told = f"x_train, x_test: taken as N×H×W×C, so {shape[0]}×{shape[1]} pixels of {shape[2]} channels"
    assert images.notes == (told + "; transpose them if they are not",)


def test_no_usual_image_is_silently_taken_as_another(tmp_path):
    for channels in (1, 2, 3, 4):
        for height in (5, 8, 9, 28, 33):
            for width in (5, 8, 9, 28, 33):
                arrays = content((height, width, channels))
                assert load(tmp_path, arrays).x_train.shape[1:] == (height, width, channels)
                turned = load(tmp_path, both(arrays, channels_first))
                read_rightly = turned.x_train.shape[1:] == (height, width, channels)
                assert turned.notes
                assert read_rightly or height != width, "square images have one meaning"
                assert read_rightly or "transpose them" in turned.notes[0]


# types of images


@pytest.mark.parametrize("shape", [(6, 6), (8, 8, 3), (5,)])
@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.uint16, np.int8, bool])
def test_other_numbers_become_float32(tmp_path, dtype, shape):
    arrays = both(content(shape), lambda x: (x // 3 % 100).astype(dtype))
    images = load(tmp_path, arrays)
    assert images.x_train.dtype == images.x_test.dtype == np.float32
    assert_same(images, both(arrays, lambda x: x.astype(np.float32)))
    assert images.notes == (f"x_train, x_test: {np.dtype(dtype)}, taken as float32",)


def test_whole_numbers_of_two_types_become_one(tmp_path):
    arrays = content()
    images = load(tmp_path, arrays | {"x_test": arrays["x_test"].astype(np.int64)})
    assert images.x_train.dtype == images.x_test.dtype == np.float32
    assert_same(images, arrays)


def test_constant_float64_is_no_loss(tmp_path):
    arrays = both(content((5,)), lambda x: np.where(np.arange(5) == 2, 0.1, x / 255))
    assert load(tmp_path, arrays).x_train[0, 2] == np.float32(0.1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x: x + 1.7e9, "float64 whose values float32 does not tell apart"),
        (lambda x: x + 2**40, "int64 whose values float32 does not tell apart"),
        (lambda x: x * 1e300, "float64 whose values float32 does not tell apart"),
        (lambda x: x * 1j, "x_train of dtype complex128"),
        (lambda x: x.astype(str), "x_train of dtype <U"),
    ],
)
def test_numbers_that_float32_does_not_hold_are_refused(tmp_path, change, told):
    assert told in refusal(tmp_path, both(content((5,)), lambda x: change(x.astype(np.int64))))


@pytest.mark.parametrize(
    "changed",
    [
        {"x_test": np.zeros((TEST, 6, 6))},
        {"x_train": np.zeros((TRAIN, 6, 6), np.float32)},
        {"x_test": np.zeros((TEST, 6, 6), bool)},
    ],
)
def test_two_scales_are_refused(tmp_path, changed):
    assert "which may be of two scales; allowed: both of one kind" in refusal(tmp_path, content(**changed))


def test_tables_wider_than_a_store_takes_are_refused(tmp_path):
    wide = both(content((1,)), lambda x: np.zeros((len(x), 100_001), np.uint8))
    assert "x_train of 100,001 columns; allowed: at most 100,000 columns" in refusal(tmp_path, wide)


# labels


ONE_HOT = np.eye(3)
LABELS = {
    "N×1": (lambda y: y[:, None], "N×1, taken as N labels"),
    "float": (lambda y: y.astype(np.float32), "float32, taken as whole numbers"),
    "one-hot": (lambda y: ONE_HOT[y], "one-hot in 3 columns, taken as the column of the 1"),
    "one-hot whole": (lambda y: ONE_HOT[y].astype(np.uint8), "one-hot in 3 columns, taken as the column of the 1"),
    "one-hot yes and no": (lambda y: ONE_HOT[y] == 1, "one-hot in 3 columns, taken as the column of the 1"),
}


@pytest.mark.parametrize(("change", "told"), LABELS.values(), ids=LABELS)
def test_labels_of_another_form(tmp_path, change, told):
    arrays = content()
    images = load(tmp_path, both(arrays, change, "y"))
    assert_same(images, arrays)
    assert images.y_train.dtype == np.int64
    assert images.notes == (f"y_train, y_test: {told}",)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_labels_from_1(tmp_path, classes):
    arrays = content(y_train=np.arange(TRAIN) % classes, y_test=np.arange(TEST) % (classes - 1))
    images = load(tmp_path, both(arrays, lambda y: y + 1, "y"))
    assert_same(images, arrays)
    assert images.classes == classes
    assert images.notes == (f"y_train: labels from 1 to {classes}, taken as 0 to {classes - 1}",)


def test_labels_from_1_as_medmnist_and_matlab_have_them(tmp_path):
    arrays = content()
    images = load(tmp_path, both(arrays, lambda y: (y + 1.0)[:, None], "y"))
    assert_same(images, arrays)
    assert [note.partition(": ")[2].split(",")[0] for note in images.notes] == ["N×1", "float64", "labels from 1 to 3"]


@pytest.mark.parametrize(
    ("train", "test"),
    [((1, 2, 3), (0, 1)), ((1, 3, 4), (1, 3)), ((0, 1, 2), (1, 2)), ((5, 6), (5, 6)), ((2, 3), (2, 3))],
)
def test_other_labels_stay_as_they_are(tmp_path, train, test):
    arrays = content(y_train=np.resize(train, TRAIN), y_test=np.resize(test, TEST))
    images = load(tmp_path, arrays)
    assert_same(images, arrays)
    assert images.notes == ()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"y_train": np.arange(TRAIN) / 2}, "y_train with labels that are no whole numbers"),
        ({"y_test": np.full(TEST, np.nan)}, "y_test with labels that are no whole numbers"),
        ({"y_train": np.full(TRAIN, 1e300)}, "y_train with labels that are no whole numbers"),
        ({"y_train": np.ones((TRAIN, 3))}, "y_train of shape (24, 3) that is not one-hot"),
        ({"y_train": np.full((TRAIN, 2), 0.5)}, "y_train of shape (24, 2) that is not one-hot"),
        ({"y_test": np.zeros((TEST, 14), np.uint8)}, "y_test of shape (12, 14) that is not one-hot"),
        ({"y_train": np.zeros((TRAIN, 1, 1), int)}, "y_train of dtype int64 and shape (24, 1, 1)"),
        ({"y_train": np.array(["cat", "dog"] * 12)}, "y_train of dtype <U3"),
        ({"y_train": np.full(TRAIN, 2**63, np.uint64)}, "labels -9223372036854775808"),
        ({"y_test": np.arange(TEST) % 3 + 1}, "labels 1 to 3 in test; allowed: 0 to 2"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path, changed, told):
    assert told in refusal(tmp_path, content(**changed))


# names


MEDMNIST = ("train_images", "train_labels", "test_images", "test_labels")


@pytest.mark.parametrize(
    "names", [MEDMNIST, ("X_train", "Y_train", "X_test", "Y_test"), ("X_train", "y_train", "X_test", "y_test")]
)
def test_names_of_others(tmp_path, names):
    arrays = content()
    images = load(tmp_path, dict(zip(names, arrays.values(), strict=True)))
    assert_same(images, arrays)
    renamed = [(name, key) for name, key in zip(names, KEYS, strict=True) if name != key]
    assert images.notes == (", ".join(n for n, _ in renamed) + ": taken as " + ", ".join(k for _, k in renamed),)


def test_medmnist(tmp_path):
    x, y = SOURCE.integers(0, 256, (30, 28, 28, 3), dtype=np.uint8), (np.arange(30) % 2)[:, None].astype(np.uint8)
    parts = {"train": slice(20), "val": slice(20, 25), "test": slice(25, 30)}
    arrays = {
        f"{part}_{kind}": each[which] for part, which in parts.items() for kind, each in (("images", x), ("labels", y))
    }
    images = load(tmp_path, arrays)
    assert_same(images, {"x_train": x[:25], "y_train": y[:25, 0], "x_test": x[25:], "y_test": y[25:, 0]})
    assert images.notes[-1].startswith("val_images: 5 images that join the training images; --validation-size says")
    assert len(images.notes) == 3


def test_validation_images_join_the_training_images(tmp_path):
    arrays = content()
    val = {"x_val": arrays["x_test"] // 2, "y_val": arrays["y_test"]}
    images = load(tmp_path, arrays | val)
    assert np.array_equal(images.x_train, np.concatenate([arrays["x_train"], val["x_val"]]))
    assert np.array_equal(images.y_train, np.concatenate([arrays["y_train"], val["y_val"]]))
    assert len(images.notes) == 1


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        (content(x_val=np.zeros((4, 6, 6), np.uint8)), "has x_val alone; allowed: validation images and their labels"),
        (content(y_val=np.zeros(4, int)), "has y_val alone"),
        (content(x_val=np.zeros((4, 5, 5), np.uint8), y_val=np.zeros(4, int)), "(5, 5) in val; allowed: one shape"),
        ({"arr_0": np.zeros(3)}, "lacks x_train, y_train, x_test, y_test; allowed: an .npz with x_train"),
        (dict(zip(MEDMNIST[:3], content().values(), strict=False)), "lacks x_train, y_train, x_test, y_test"),
        (content(y_test=None), "lacks y_test"),
    ],
)
def test_arrays_that_are_missing(tmp_path, arrays, told):
    assert told in refusal(tmp_path, arrays)
