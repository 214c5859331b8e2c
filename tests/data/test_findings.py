"""What is told of a data set before training and kept with the run, or refused: copies, classes, scales."""

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from lottery_ticket.config import load_preset
from lottery_ticket.data.findings import examine
from lottery_ticket.data.images import Images
from lottery_ticket.data.prepared import prepare, split
from lottery_ticket.data.sources import load_images

TRAIN, TEST, HELD = 600, 200, 150


def data_set(shape=(6, 6), classes=3, dtype=np.uint8, **changed):
    source = np.random.default_rng(0)
    x, x_test = (source.integers(0, 256, (n, *shape)).astype(dtype) for n in (TRAIN, TEST))
    made = {"x_train": x, "y_train": np.arange(TRAIN) % classes, "x_test": x_test, "y_test": np.arange(TEST) % classes}
    return Images("own", "own.npz", **made | changed)


def found(images, held=HELD):
    """Notes, and faults as text."""
    settings = load_preset(dataset="own.npz", validation_size=held)
    notes, faults = examine(settings, images, prepare(images, held, torch.device("cpu")))
    assert not any("\n" in line for line in [*notes, *map(str, faults)])
    return notes, [str(fault) for fault in faults]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(6, 6), (5, 5, 3), (5, 5, 4), (8,)])
def test_of_usual_data_nothing_is_said(shape, dtype):
    assert found(data_set(shape, dtype=dtype)) == ([], [])
    assert found(data_set(shape, dtype=dtype), 0) == ([], [])


def test_nothing_is_said_of_mnist():
    mnist = load_images("mnist")
    assert examine(load_preset(), mnist, prepare(mnist, 5000, torch.device("cpu"))) == ([], [])


# copies


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(6, 6), (5, 5, 3), (8,)])
def test_copies_are_counted(shape, dtype):
    images = data_set(shape, dtype=dtype)
    kept, held = split(images, HELD)
    images.x_test[:7] = images.x_train[kept[:7]]
    images.x_test[7] = images.x_train[held[0]]
    images.x_test[20:22] = images.x_test[22]
    images.x_train[held[5:8]] = images.x_train[kept[50]]
    what = "rows" if len(shape) == 1 else "images"
    assert found(images)[0] == [
        f"8 of 200 test {what} are copies of training {what}",
        f"3 of 150 held-out {what} are copies of others trained on",
        f"3 of 600 training {what} are copies of others",
        f"2 of 200 test {what} are copies of others",
    ]


def test_an_image_that_differs_in_one_value_is_no_copy():
    images = data_set()
    images.x_test[:] = images.x_train[:TEST]
    images.x_test[:, 3, 4] ^= 1
    assert found(images) == ([], [])


# classes


def test_classes_that_are_missing():
    nothing = data_set(classes=4, y_train=np.arange(TRAIN) % 3 * 2, y_test=np.arange(TEST) % 3 * 2)
    assert found(nothing)[0] == ["no image is of class 1, 3"]
    assert found(data_set(classes=20, y_test=np.arange(TEST) % 5))[0][-1] == (
        "no test image is of class 5, 6, 7, 8, 9, 10, 11, 12 and 7 more"
    )
    untrained = data_set(y_train=np.arange(TRAIN) % 2 * 2)
    assert found(untrained)[1] == [
        "--dataset: 'own.npz' has test images of class 1 and no training images; allowed: classes that are trained on"
    ]


def test_one_class_is_nothing_to_learn():
    images = data_set(classes=1)
    assert found(images)[1] == [
        "--dataset: 'own.npz' has training images of class 0 alone; allowed: two classes or more"
    ]


def test_held_out_images_that_decide_little():
    images = data_set()
    _, held = split(images, 30)
    assert found(images, 30)[0] == ["early stops rest on 30 held-out images"]
    images.y_train[held] = np.arange(30) % 2
    assert found(images, 30)[0] == ["early stops rest on 30 held-out images, none of class 2"]
    _, held = split(images, HELD)
    images.y_train[held] = 1
    assert found(images)[0] == ["early stops rest on 150 held-out images, none of class 0, 2"]


@pytest.mark.parametrize("shape", [(6, 6), (8,), (5, 5, 3)])
def test_one_held_out_image_is_refused(shape):
    (fault,) = found(data_set(shape), 1)[1]
    assert fault.startswith("--validation-size: 1 holds one image out, on which early stops would rest; allowed: more")


def test_a_class_that_is_held_out_whole_is_refused():
    images = data_set()
    images.y_train[:] = np.arange(TRAIN) % 2
    images.y_train[split(images, HELD)[1][:5]] = 2
    assert found(images)[1] == ["--validation-size: 150 holds out all training images of class 2; allowed: fewer"]


# values


@pytest.mark.parametrize(("shape", "index"), [((5, 5, 4), 3), ((8,), 2), ((5, 5, 3), 0)])
def test_what_is_constant_in_training_alone(shape, index):
    images = data_set(shape)
    images.x_train[..., index] = images.x_test[..., index] = 255
    assert found(images) == ([], [])
    images.x_test[:80].reshape(80, -1)[:, index] = 254
    unit = "column" if len(shape) == 1 else "channel"
    told = f"{unit} {index}: constant in training, but 80 of 200 test images differ there"
    assert found(images) == ([told], [])


SCALES = {
    "0 to 1 against 0 to 255": lambda x: x * 255,
    "grams against kilograms": lambda x: x * 1000,
    "another zero": lambda x: x + 273.15,
    "negative": lambda x: x * -40,
}


@pytest.mark.parametrize("shape", [(6, 6), (5, 5, 3), (8,)])
@pytest.mark.parametrize("change", SCALES.values(), ids=SCALES)
def test_test_images_on_another_scale_are_refused(shape, change):
    images = data_set(shape, dtype=np.float32)
    images.x_train[:], images.x_test[:] = images.x_train / 255, change(images.x_test / 255)
    (fault,) = found(images)[1]
    assert fault.startswith("--dataset: 'own.npz' has test images on another scale: half of them are ")
    assert fault.endswith(" standard deviations from training's mean; allowed: both on one")


@pytest.mark.parametrize("shape", [(6, 6), (5, 5, 3), (8,)])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x: x / 255, "of what training's do; are both on one scale?"),
        (lambda x: x * 2 - 255, "% of the test values lie outside the range of training's; are both on one scale?"),
        (lambda x: np.where(x == x.max(), 1e5, x), "test images lie over 100 standard deviations from training's mean"),
    ],
)
def test_test_images_unlike_those_of_training_are_told(shape, change, told):
    images = data_set(shape, dtype=np.float32)
    images.x_test[:] = change(images.x_test)
    notes, faults = found(images)
    assert any(told in note for note in notes)
    assert faults == []


def test_values_that_float32_does_not_hold_are_refused():
    images = data_set(dtype=np.float32)
    images.x_test[0] = 3e38
    images.x_train[:] *= 1e-30
    assert "too large for float32 once they are standardised" in found(images)[1][0]


# through the command


def test_it_is_told_and_kept_with_the_run(lt, tmp_path):
    images = data_set((8, 8, 3))
    images.x_test[:5] = images.x_train[:5]
    first = {"x_train": images.x_train.transpose(0, 3, 1, 2), "x_test": images.x_test.transpose(0, 3, 1, 2)}
    np.savez(tmp_path / "own.npz", **first, y_train=images.y_train + 1, y_test=images.y_test + 1)
    notes = [
        "own: x_train, x_test: N×C×H×W (3 channels of 8×8 pixels), taken as N×H×W×C",
        "own: y_train: labels from 1 to 3, taken as 0 to 2",
        "own: 5 of 200 test images are copies of training images",
        "own: early stops rest on 60 held-out images",
    ]
    done = lt(
        *("run", "--dataset", "own.npz", "--validation-size", 60, "--rounds", 2, "--iterations", 2),
        "--json",
    )
    assert done.code == 0, done.err
    assert [line for line in done.err.splitlines() if line.startswith("own: ")] == notes
    assert done.err.index(notes[-1]) < done.err.index("round  0/1")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    assert client.get_run(done.json["run_id"]).data.tags["lt.data_notes"].splitlines() == notes
    pulled = lt("pull", f"{done.json['run_id']}:1", "ticket", "--trained")
    assert pulled.code == 0, pulled.err
    assert lt("export", "ticket", "--format", "state-dict").code == 0


def test_faults_are_refused_before_anything_is_written(lt, tmp_path):
    images = data_set(dtype=np.float32)
    np.savez(
        tmp_path / "own.npz",
        **{key: getattr(images, key) for key in ("x_train", "y_train", "y_test")},
        x_test=images.x_test * 255,
    )
    done = lt("run", "--dataset", "own.npz", "--validation-size", 100, "--rounds", 2, "--iterations", 2)
    assert (done.code, done.out) == (2, "")
    assert "lt: --dataset: 'own.npz' has test images on another scale" in done.err
    assert len(done.err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["own.npz"]
