"""Every definition written out, slowly: one loop per sum, no idea of speed.

Sources: Paparrizos et al. 2022 in the form of `vus` 0.0.6 (ranges), Huet et al. 2022 (affiliation), and
Kim et al. 2022 (point adjustment).
"""

import numpy as np


def runs(flags):
    """First and last index of every run of ones."""
    found, start = [], None
    for i, flag in enumerate([*flags, 0]):
        if flag and start is None:
            start = i
        if not flag and start is not None:
            found.append((start, i - 1))
            start = None
    return found


def soft_label(labels, window):
    """min(1, y + Σ_k √(1 − d_k/w) for 1 ≤ d_k ≤ ⌊w/2⌋)."""
    soft = []
    for i, y in enumerate(labels):
        value = float(y)
        for first, last in runs(labels):
            d = first - i if i < first else i - last
            if 1 <= d <= window // 2:
                value += np.sqrt(1 - d / window)
        soft.append(min(1.0, value))
    return np.array(soft)


def buffers(labels, window, touching):
    """Segments with their buffers, merged where they overlap, or also where they touch."""
    h, n = window // 2, len(labels)
    merged = []
    for first, last in runs(labels):
        low, high = max(first - h, 0), min(last + h, n - 1)
        if merged and low <= merged[-1][1] + touching:
            merged[-1][1] = high
        else:
            merged.append([low, high])
    return merged


def curve(labels, scores, window, n_thresholds, per_threshold):
    """True and false positive rates and precision at every threshold."""
    labels, n = np.asarray(labels, float), len(labels)
    soft = soft_label(labels, window)
    areas = buffers(labels, window, touching=not per_threshold)
    order = sorted(scores, reverse=True)
    tpr, fpr, precision = [0.0], [0.0], [1.0]
    for i in np.linspace(0, n - 1, n_thresholds).astype(int):
        predicted = np.asarray(scores) >= order[i]
        tp, tp0 = (soft * predicted).sum(), (labels * predicted).sum()
        positives = labels.sum() + (tp - tp0 if per_threshold else soft.sum() - labels.sum()) / 2
        found = sum(predicted[low : high + 1].any() for low, high in areas) / len(areas)
        tpr.append(min(tp / positives, 1) * found)
        fpr.append((predicted.sum() - tp) / (n - positives))
        precision.append(tp / predicted.sum())
    return tpr, fpr, precision


def trapezoid(x, y):
    return sum((x[i + 1] - x[i]) * (y[i + 1] + y[i]) / 2 for i in range(len(x) - 1))


def range_auc(labels, scores, window, n_thresholds=250):
    tpr, fpr, precision = curve(labels, scores, window, n_thresholds, per_threshold=False)
    return trapezoid([*fpr, 1], [*tpr, 1]), trapezoid(tpr, precision)


def vus(labels, scores, max_window, n_thresholds=250):
    roc, pr = [], []
    for window in range(max_window + 1):
        tpr, fpr, precision = curve(labels, scores, window, n_thresholds, per_threshold=True)
        roc.append(trapezoid([*fpr, 1], [*tpr, 1]))
        pr.append(sum((tpr[i] - tpr[i - 1]) * precision[i] for i in range(1, len(tpr))))
    return np.mean(roc), np.mean(pr)


def affiliation(labels, predicted, cells=8):
    """Means over the midpoints of small cells: exact where every bend lies on a cell's edge."""
    n = len(labels)
    events = [(first, last + 1) for first, last in runs(labels)]
    spans = [(first, last + 1) for first, last in runs(predicted)]
    borders = [0, *((events[i][1] + events[i + 1][0]) / 2 for i in range(len(events) - 1)), n]
    times = (np.arange(n * cells) + 0.5) / cells
    precision, recall = [], []
    for (a, b), low, high in zip(events, borders[:-1], borders[1:], strict=True):
        zone = [x for x in times if low < x < high]
        inside = [x for x in zone if predicted[int(x)]]
        if inside:
            chances = []
            for x in inside:
                d = max(a - x, x - b, 0)
                random = b - a + d + min(d, min(a - low, high - b))
                chances.append(1.0 if d == 0 else 1 - random / (high - low))
            precision.append(np.mean(chances))
        here = [(max(s, low), min(e, high)) for s, e in spans if max(s, low) < min(e, high)]
        if not here:
            recall.append(0.0)
            continue
        chances = []
        for y in (x for x in zone if a < x < b):
            d = min(max(s - y, y - e, 0) for s, e in here)
            chances.append(1 - (d + min(d, y - low, high - y)) / (high - low))
        recall.append(np.mean(chances))
    return (np.mean(precision) if precision else np.nan), np.mean(recall)


def point_adjusted_f1(labels, predicted, k=0.0):
    """F1 after every segment with more than a share k of hits counts as found whole."""
    adjusted = np.array(predicted, dtype=bool)
    for first, last in runs(labels):
        hits = np.mean(adjusted[first : last + 1])
        if hits > k:
            adjusted[first : last + 1] = True
    labels = np.asarray(labels, dtype=bool)
    tp = (adjusted & labels).sum()
    return 2 * tp / (adjusted.sum() + labels.sum())
