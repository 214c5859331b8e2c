"""Products of survivors with images, images innermost: a surviving weight is one multiply-add over a contiguous row.

Each kernel does the part of its work from `begin` to `end`. The order of sums is fixed: the same machine and versions
give the same bits. Four survivors that meet the same images are taken at a time, so that the row they add to is read
and written once for four. Compiled when first called and kept by numba for the next process. Arrays are float32 and
contiguous, K members.

A row `r` of a pattern, of a member's output say, has the survivors from first[r] to first[r + 1].
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

_FAST = {"reassoc", "contract", "nsz", "arcp"}
"""Sums may be split into lanes and multiply-adds fused, when compiled; NaN and infinities stay what they are."""


def _compiled(function: Callable[..., None]) -> Any:
    """The function, to be compiled when it is called, and kept where a folder for that can be written."""
    try:
        return numba.njit(nogil=True, cache=True, fastmath=_FAST)(function)
    except RuntimeError:  # numba knows of no such folder
        return numba.njit(nogil=True, fastmath=_FAST)(function)


@_compiled
def multiply(begin: int, end: int, first: Any, column: Any, values: Any, x: Any, bias: Any, y: Any) -> None:
    """Y[k, o] = bias[k, o] + Σ value · X[k, column], members from begin to end; X is K×I×B or, shared, 1×I×B."""
    _, rows, images = y.shape
    for k in range(begin, end):
        inputs = x[k if x.shape[0] > 1 else 0]
        for o in range(rows):
            total = y[k, o]
            total[:] = bias[k, o]
            p, last = first[k * rows + o], first[k * rows + o + 1]
            while p + 4 <= last:
                v0, v1, v2, v3 = values[p], values[p + 1], values[p + 2], values[p + 3]
                r0, r1, r2, r3 = inputs[column[p]], inputs[column[p + 1]], inputs[column[p + 2]], inputs[column[p + 3]]
                for b in range(images):
                    total[b] += v0 * r0[b] + v1 * r1[b] + v2 * r2[b] + v3 * r3[b]
                p += 4
            while p < last:
                v, r = values[p], inputs[column[p]]
                for b in range(images):
                    total[b] += v * r[b]
                p += 1


@_compiled
def correlate(begin: int, end: int, first: Any, column: Any, x: Any, gradient: Any, of_values: Any) -> None:
    """The gradients of the values of `multiply`, from those of Y."""
    _, rows, images = gradient.shape
    for k in range(begin, end):
        inputs = x[k if x.shape[0] > 1 else 0]
        for o in range(rows):
            g = gradient[k, o]
            p, last = first[k * rows + o], first[k * rows + o + 1]
            while p + 4 <= last:
                r0, r1, r2, r3 = inputs[column[p]], inputs[column[p + 1]], inputs[column[p + 2]], inputs[column[p + 3]]
                t0 = t1 = t2 = t3 = np.float32(0)
                for b in range(images):
                    t0 += g[b] * r0[b]
                    t1 += g[b] * r1[b]
                    t2 += g[b] * r2[b]
                    t3 += g[b] * r3[b]
                of_values[p], of_values[p + 1], of_values[p + 2], of_values[p + 3] = t0, t1, t2, t3
                p += 4
            while p < last:
                r = inputs[column[p]]
                t0 = np.float32(0)
                for b in range(images):
                    t0 += g[b] * r[b]
                of_values[p] = t0
                p += 1


@_compiled
def convolve(
    begin: int,
    end: int,
    first: Any,
    channel: Any,
    down: Any,
    right: Any,
    values: Any,
    x: Any,
    bias: Any,
    y: Any,
    stride: tuple[int, int],
    images: int,
) -> None:
    """Y[n, k, o, i, j] = bias[k, o] + Σ value · X[n, k, channel, i · stride + down, j · stride + right], where that is.

    X is N×K×C×H×(W·images), Y N×K×O×H'×(W'·images): images of a block innermost. Begin and end are of N·K·H', the rows
    of all outputs together. Survivors of an output are in the order of `right`, then `down`.
    """
    _, members, outputs, height, length = y.shape
    rows, width, wide = x.shape[3], x.shape[4] // images, length // images
    s, t = stride
    for at in range(begin, end):
        n, rest = divmod(at, members * height)
        k, i = divmod(rest, height)
        inputs, top = x[n, k], i * s
        for o in range(outputs):
            total = y[n, k, o, i]
            total[:] = bias[k, o]
            p, last = first[k * outputs + o], first[k * outputs + o + 1]
            while p < last:
                r, above = right[p], top + down[p]
                if t == 1:
                    a, b = max(0, -r) * images, min(wide, width - r) * images
                    if b <= a:
                        p += 1
                        continue
                    part, c, d = total[a:b], a + r * images, b + r * images
                    if p + 4 <= last and right[p + 3] == r and above >= 0 and top + down[p + 3] < rows:
                        v0, v1, v2, v3 = values[p], values[p + 1], values[p + 2], values[p + 3]
                        r0 = inputs[channel[p], above, c:d]
                        r1 = inputs[channel[p + 1], top + down[p + 1], c:d]
                        r2 = inputs[channel[p + 2], top + down[p + 2], c:d]
                        r3 = inputs[channel[p + 3], top + down[p + 3], c:d]
                        for j in range(b - a):
                            part[j] += v0 * r0[j] + v1 * r1[j] + v2 * r2[j] + v3 * r3[j]
                        p += 4
                        continue
                    if 0 <= above < rows:
                        v, row = values[p], inputs[channel[p], above, c:d]
                        for j in range(b - a):
                            part[j] += v * row[j]
                elif 0 <= above < rows:
                    v, row = values[p], inputs[channel[p], above]
                    for j in range(max(0, -(r // t)), min(wide, (width - 1 - r) // t + 1)):
                        part, there = total[j * images : (j + 1) * images], (j * t + r) * images
                        seen = row[there : there + images]
                        for b in range(images):
                            part[b] += v * seen[b]
                p += 1


@_compiled
def correlate_images(
    begin: int,
    end: int,
    first: Any,
    channel: Any,
    down: Any,
    right: Any,
    x: Any,
    gradient: Any,
    of_values: Any,
    stride: tuple[int, int],
    images: int,
) -> None:
    """The gradients of the values of `convolve`, from those of Y, of each block: N×values, zero before.

    Begin and end are of N·K, the members of all blocks.
    """
    _, members, outputs, height, length = gradient.shape
    rows, width, wide = x.shape[3], x.shape[4] // images, length // images
    s, t = stride
    for at in range(begin, end):
        n, k = divmod(at, members)
        inputs, sums = x[n, k], of_values[n]
        for i in range(height):
            top = i * s
            for o in range(outputs):
                whole = gradient[n, k, o, i]
                p, last = first[k * outputs + o], first[k * outputs + o + 1]
                while p < last:
                    r, above = right[p], top + down[p]
                    if t == 1:
                        a, b = max(0, -r) * images, min(wide, width - r) * images
                        if b <= a:
                            p += 1
                            continue
                        g, c, d = whole[a:b], a + r * images, b + r * images
                        if p + 4 <= last and right[p + 3] == r and above >= 0 and top + down[p + 3] < rows:
                            r0 = inputs[channel[p], above, c:d]
                            r1 = inputs[channel[p + 1], top + down[p + 1], c:d]
                            r2 = inputs[channel[p + 2], top + down[p + 2], c:d]
                            r3 = inputs[channel[p + 3], top + down[p + 3], c:d]
                            t0 = t1 = t2 = t3 = np.float32(0)
                            for j in range(b - a):
                                t0 += g[j] * r0[j]
                                t1 += g[j] * r1[j]
                                t2 += g[j] * r2[j]
                                t3 += g[j] * r3[j]
                            sums[p] += t0
                            sums[p + 1] += t1
                            sums[p + 2] += t2
                            sums[p + 3] += t3
                            p += 4
                            continue
                        if 0 <= above < rows:
                            row = inputs[channel[p], above, c:d]
                            t0 = np.float32(0)
                            for j in range(b - a):
                                t0 += g[j] * row[j]
                            sums[p] += t0
                    elif 0 <= above < rows:
                        row = inputs[channel[p], above]
                        t0 = np.float32(0)
                        for j in range(max(0, -(r // t)), min(wide, (width - 1 - r) // t + 1)):
                            g, there = whole[j * images : (j + 1) * images], (j * t + r) * images
                            seen = row[there : there + images]
                            for b in range(images):
                                t0 += g[b] * seen[b]
                        sums[p] += t0
                    p += 1


@_compiled
def scatter(
    begin: int,
    end: int,
    first: Any,
    channel: Any,
    down: Any,
    right: Any,
    values: Any,
    gradient: Any,
    of_x: Any,
    stride: tuple[int, int],
    images: int,
) -> None:
    """The gradients of X of a strided `convolve`, zero before, from those of Y. Begin and end are of N·K."""
    _, members, outputs, height, length = gradient.shape
    rows, width, wide = of_x.shape[3], of_x.shape[4] // images, length // images
    s, t = stride
    for at in range(begin, end):
        n, k = divmod(at, members)
        for i in range(height):
            for o in range(outputs):
                whole = gradient[n, k, o, i]
                for p in range(first[k * outputs + o], first[k * outputs + o + 1]):
                    r, above = right[p], i * s + down[p]
                    if 0 <= above < rows:
                        v, row = values[p], of_x[n, k, channel[p], above]
                        for j in range(max(0, -(r // t)), min(wide, (width - 1 - r) // t + 1)):
                            g, c = whole[j * images : (j + 1) * images], (j * t + r) * images
                            there = row[c : c + images]
                            for b in range(images):
                                there[b] += v * g[b]


@_compiled
def moments(begin: int, end: int, x: Any, mean: Any, square: Any) -> None:
    """The mean and the mean squared distance from it of each channel of X, N×C×H×L; channels from begin to end.

    Row by row, joined as in Chan, Golub & LeVeque 1983, in float64.
    """
    blocks, _, height, length = x.shape
    for c in range(begin, end):
        count, middle, spread = 0.0, 0.0, 0.0
        for n in range(blocks):
            for i in range(height):
                row = x[n, c, i]
                total = np.float32(0)
                for j in range(length):
                    total += row[j]
                own = total / np.float32(length)
                distance = np.float32(0)
                for j in range(length):
                    distance += (row[j] - own) * (row[j] - own)
                apart = np.float64(own) - middle
                whole = count + length
                spread += np.float64(distance) + apart * apart * count * length / whole
                middle += apart * length / whole
                count = whole
        mean[c], square[c] = middle, spread / count


@_compiled
def scale(begin: int, end: int, x: Any, factor: Any, shift: Any, added: Any, rectified: bool, y: Any) -> None:
    """Y = X · factor + shift (+ added, unless it is empty), zero where that is negative if `rectified`; N×C×L each.

    Begin and end are of N·C.
    """
    channels, length = x.shape[1:]
    low = np.float32(0) if rectified else np.float32(-np.inf)
    for at in range(begin, end):
        n, c = divmod(at, channels)
        a, b, row, there = factor[c], shift[c], x[n, c], y[n, c]
        if added.size:
            more = added[n, c]
            for j in range(length):
                value = row[j] * a + b + more[j]
                there[j] = low if value < low else value
        else:
            for j in range(length):
                value = row[j] * a + b
                there[j] = low if value < low else value


@_compiled
def scale_sums(
    begin: int, end: int, x: Any, y: Any, mean: Any, rectified: bool, gradient: Any, plain: Any, by_x: Any
) -> None:
    """For each channel the sums of what reaches it of Y's gradient, and of that times X - mean; N×C×H×L each."""
    blocks, _, height, length = x.shape
    for c in range(begin, end):
        middle, first, second = mean[c], np.float64(0), np.float64(0)
        for n in range(blocks):
            for i in range(height):
                row, out, g = x[n, c, i], y[n, c, i], gradient[n, c, i]
                one = two = np.float32(0)
                if rectified:
                    for j in range(length):
                        reaches = np.float32(0) if out[j] <= 0 else g[j]
                        one += reaches
                        two += reaches * (row[j] - middle)
                else:
                    for j in range(length):
                        one += g[j]
                        two += g[j] * (row[j] - middle)
                first += one
                second += two
        plain[c], by_x[c] = first, second


@_compiled
def scale_back(
    begin: int,
    end: int,
    x: Any,
    y: Any,
    mean: Any,
    rectified: bool,
    gradient: Any,
    by_gradient: Any,
    by_x: Any,
    constant: Any,
    of_x: Any,
    of_added: Any,
) -> None:
    """Of X, by_gradient · what reaches it + by_x · (X - mean) + constant; of `added` unless it is empty."""
    channels, length = x.shape[1:]
    for at in range(begin, end):
        n, c = divmod(at, channels)
        a, b, d, middle = by_gradient[c], by_x[c], constant[c], mean[c]
        row, out, g, there = x[n, c], y[n, c], gradient[n, c], of_x[n, c]
        if rectified:
            for j in range(length):
                reaches = np.float32(0) if out[j] <= 0 else g[j]
                there[j] = a * reaches + b * (row[j] - middle) + d
        else:
            for j in range(length):
                there[j] = a * g[j] + b * (row[j] - middle) + d
        if of_added.size:
            more = of_added[n, c]
            for j in range(length):
                more[j] = np.float32(0) if rectified and out[j] <= 0 else g[j]


@_compiled
def pool(begin: int, end: int, x: Any, size: tuple[int, int], stride: tuple[int, int], y: Any, taken: Any) -> None:
    """The largest of each window of X, N·C×H×W×V, and which of the window it was; NaN if one of them is."""
    _, height, width, images = y.shape
    high, wide = size
    s, t = stride
    for m in range(begin, end):
        for i in range(height):
            for j in range(width):
                best, which = y[m, i, j], taken[m, i, j]
                best[:] = x[m, i * s, j * t]
                which[:] = 0
                for a in range(high):
                    for b in range(wide):
                        seen, tap = x[m, i * s + a, j * t + b], np.uint8(a * wide + b)
                        for v in range(images):
                            larger = seen[v] > best[v] or seen[v] != seen[v]
                            best[v] = seen[v] if larger else best[v]
                            which[v] = tap if larger else which[v]


@_compiled
def unpool(
    begin: int, end: int, gradient: Any, taken: Any, size: tuple[int, int], stride: tuple[int, int], of_x: Any
) -> None:
    """The gradient of X of `pool`, zero before."""
    _, height, width, images = gradient.shape
    high, wide = size
    s, t = stride
    for m in range(begin, end):
        for i in range(height):
            for j in range(width):
                g, which = gradient[m, i, j], taken[m, i, j]
                for a in range(high):
                    for b in range(wide):
                        there, tap = of_x[m, i * s + a, j * t + b], np.uint8(a * wide + b)
                        for v in range(images):
                            there[v] += g[v] if which[v] == tap else np.float32(0)


@_compiled
def perceptron(
    begin: int,
    end: int,
    images: Any,
    labels: Any,
    index: Any,
    patterns: Any,
    transposed: Any,
    values: Any,
    biases: Any,
    zeros: Any,
    activations: Any,
    permuted: Any,
    of_activations: Any,
    of_values: Any,
    of_biases: Any,
    losses: Any,
) -> None:
    """Losses and gradients of linear layers with ReLU between them, of members from begin to end.

    Images are N×I, labels N, `index` K×B the images of each member. All else is a tuple with an entry a layer:
    patterns (first, column) as in `multiply`, transposed ones (first, row, order of values), values, biases K×O, zeros
    K×I, activations K×features×lanes (one more: the scores), values in the transposed order, and the gradients. Losses
    are K×B; gradients are those of their mean over B.
    """
    layers, count = len(values), index.shape[1]
    for k in range(begin, end):
        _gather(images, index[k], transposed[0][0][k * images.shape[1] :], activations[0][k])
        for each in range(layers):
            first, column = patterns[each]
            y = activations[each + 1]
            multiply(k, k + 1, first, column, values[each], activations[each], biases[each], y)
            if each + 1 < layers:
                _rectify(y[k], y[k])
        _cross_entropy(activations[layers][k], labels, index[k], losses[k], of_activations[layers][k])
        for back in range(layers):
            each = layers - 1 - back
            (first, column), g = patterns[each], of_activations[each + 1]
            correlate(k, k + 1, first, column, activations[each], g, of_values[each])
            for o in range(g.shape[1]):
                total = np.float32(0)
                for b in range(count):
                    total += g[k, o, b]
                of_biases[each][k, o] = total
            if each:
                first, row, order = transposed[each]
                inputs = activations[each].shape[1]
                for p in range(first[k * inputs], first[(k + 1) * inputs]):
                    permuted[each][p] = values[each][order[p]]
                multiply(k, k + 1, first, row, permuted[each], g, zeros[each], of_activations[each])
                _rectify(activations[each][k], of_activations[each][k])


@_compiled
def _gather(images: Any, index: Any, first: Any, x: Any) -> None:
    """X[:, b] = images[index[b]], of the features that have survivors; four images at a time, read side by side."""
    count, features = len(index), x.shape[0]
    b = 0
    while b + 4 <= count:
        r0, r1, r2, r3 = images[index[b]], images[index[b + 1]], images[index[b + 2]], images[index[b + 3]]
        for i in range(features):
            if first[i] < first[i + 1]:
                part = x[i, b : b + 4]
                part[0], part[1], part[2], part[3] = r0[i], r1[i], r2[i], r3[i]
        b += 4
    while b < count:
        row = images[index[b]]
        for i in range(features):
            x[i, b] = row[i]
        b += 1


@_compiled
def _rectify(where: Any, x: Any) -> None:
    """X is zero where `where` is not positive, NaN aside."""
    for i in range(x.shape[0]):
        given, row = where[i], x[i]
        for b in range(x.shape[1]):
            row[b] = np.float32(0) if given[b] <= 0 else row[b]


@_compiled
def _cross_entropy(scores: Any, labels: Any, index: Any, losses: Any, gradient: Any) -> None:
    """The cross-entropy of each image's softmax, and the gradients of the scores C×lanes of their mean."""
    classes, count = scores.shape[0], len(index)
    gradient[:] = 0
    for b in range(count):
        largest = scores[0, b]
        for c in range(1, classes):
            largest = max(largest, scores[c, b])
        total = np.float32(0)
        for c in range(classes):
            gradient[c, b] = np.exp(scores[c, b] - largest)
            total += gradient[c, b]
        label = labels[index[b]]
        losses[b] = np.log(total) + largest - scores[label, b]
        for c in range(classes):
            share = gradient[c, b] / total
            gradient[c, b] = (share - np.float32(1 if c == label else 0)) / np.float32(count)
