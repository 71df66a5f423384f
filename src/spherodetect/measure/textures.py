"""The 74 features that RedTell measures of a cell in a brightfield image, by its names.

Images are uint8 grey (H, W), as Pillow's conversion "L"; masks are boolean and of the same shape.
Lengths are in pixels, and values in grey levels. The definitions are those of PyRadiomics 3
(https://pyradiomics.readthedocs.io) and scikit-image, which RedTell calls. `FEATURES` has the
definition of each feature:

    A, P            area; length of the outline that marching squares finds at the level 0.5
    I, N, mean      grey values of the cell's pixels, their number, their mean
    p               share of the pixels of a level in bins of 25 grey levels from a multiple of 25
    level g         number of the bin from 1, the darkest one of the cell
    p(i, j)         share of the pairs of neighbouring pixels (distance 1) with levels i and j,
                    symmetric; a feature is the mean over the directions 0, 45, 90 and 135 degrees
    run             r pixels of one level in a row, in one of these directions; mean over the
                    directions
    zone            s connected pixels of one level (8 neighbours)
    dependence d    1 + number of the 8 neighbours of a pixel within the cell with its level

Two names differ in RedTell's own list: it calls intensity_Skewness intensity_RootMeanSquared, a
second time, and glcm_Imc2 glcm_Imc12; the second name is kept here. Entropies are in bits. A
feature that is not defined, as for a mask without a pair of pixels, is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from scipy import ndimage

BIN_WIDTH = 25
#: RedTell measures no cell of at most so many pixels.
MIN_PIXELS = 10
_EIGHT = np.ones((3, 3), bool)

#: Name to definition.
FEATURES: Mapping[str, str] = {
    "shape_Elongation": "sqrt(l2 / l1) of the second moments l1 >= l2 of the pixels; 1 is round",
    "shape_MajorAxisLength": "4 sqrt(l1)",
    "shape_MaximumDiameter": "largest distance of two points of the outline",
    "shape_MinorAxisLength": "4 sqrt(l2)",
    "shape_Perimeter": "P",
    "shape_PerimeterSurfaceRatio": "P / A of the polygon of the outline",
    "shape_PixelSurface": "number of pixels",
    "shape_Sphericity": "2 sqrt(pi A) / P of the polygon of the outline; 1 is a disc",
    "shape_bbox_area": "area of the bounding box",
    "shape_convex_area": "pixels of the convex hull",
    "shape_extent": "A / area of the bounding box",
    "shape_eccentricity": "sqrt(1 - l2 / l1)",
    "shape_diameter": "diameter of the disc of equal area, sqrt(4 A / pi)",
    "shape_solidity": "A / pixels of the convex hull",
    "bf_intensity_10Percentile": "10th percentile of I",
    "bf_intensity_90Percentile": "90th percentile of I",
    "bf_intensity_Energy": "sum of I^2",
    "bf_intensity_Entropy": "-sum p log2 p",
    "bf_intensity_InterquartileRange": "75th less 25th percentile of I",
    "bf_intensity_Kurtosis": "fourth central moment / variance^2; 3 for a normal distribution",
    "bf_intensity_Maximum": "largest I",
    "bf_intensity_MeanAbsoluteDeviation": "mean of |I - mean|",
    "bf_intensity_Mean": "mean of I",
    "bf_intensity_Median": "median of I",
    "bf_intensity_Minimum": "smallest I",
    "bf_intensity_Range": "largest less smallest I",
    "bf_intensity_RobustMeanAbsoluteDeviation": "the same of I from the 10th to 90th percentile",
    "bf_intensity_RootMeanSquared": "sqrt(mean of I^2)",
    "bf_intensity_Skewness": "third central moment / variance^1.5",
    "bf_intensity_TotalEnergy": "sum of I^2 times the area of a pixel, which is 1",
    "bf_intensity_Uniformity": "sum p^2",
    "bf_intensity_Variance": "mean of (I - mean)^2",
    "bf_glcm_Contrast": "sum (i - j)^2 p(i, j)",
    "bf_glcm_Correlation": "covariance of i and j / variance of i; 1 if there is one level",
    "bf_glcm_Autocorrelation": "sum i j p(i, j)",
    "bf_glcm_DifferenceAverage": "mean of |i - j|",
    "bf_glcm_DifferenceEntropy": "entropy of |i - j|",
    "bf_glcm_DifferenceVariance": "variance of |i - j|",
    "bf_glcm_Id": "sum p(i, j) / (1 + |i - j|)",
    "bf_glcm_Idm": "sum p(i, j) / (1 + (i - j)^2)",
    "bf_glcm_Imc1": "(HXY - HXY1) / HX, informational measure of correlation 1",
    "bf_glcm_Imc12": "sqrt(1 - exp(-2 (HXY2 - HXY))), informational measure of correlation 2",
    "bf_glcm_InverseVariance": "sum over i != j of p(i, j) / (i - j)^2",
    "bf_glcm_JointAverage": "sum i p(i, j)",
    "bf_glcm_JointEnergy": "sum p(i, j)^2",
    "bf_glcm_JointEntropy": "-sum p(i, j) log2 p(i, j)",
    "bf_glcm_MCC": "sqrt of the second largest eigenvalue of sum_k p(i, k) p(j, k) / (p(i) p(k))",
    "bf_gldm_DependenceEntropy": "entropy of the pairs (g, d)",
    "bf_gldm_DependenceNonUniformity": "sum over d of n(d)^2 / N",
    "bf_gldm_DependenceVariance": "variance of d",
    "bf_gldm_GrayLevelNonUniformity": "sum over g of n(g)^2 / N",
    "bf_gldm_GrayLevelVariance": "variance of g",
    "bf_gldm_LowGrayLevelEmphasis": "mean of 1 / g^2",
    "bf_gldm_HighGrayLevelEmphasis": "mean of g^2",
    "bf_glrlm_LongRunEmphasis": "mean of r^2",
    "bf_glrlm_LongRunHighGrayLevelEmphasis": "mean of r^2 g^2",
    "bf_glrlm_LongRunLowGrayLevelEmphasis": "mean of r^2 / g^2",
    "bf_glrlm_LowGrayLevelRunEmphasis": "mean of 1 / g^2 over the runs",
    "bf_glrlm_RunEntropy": "entropy of the pairs (g, r)",
    "bf_glrlm_RunLengthNonUniformity": "sum over r of n(r)^2 / number of runs",
    "bf_glrlm_RunPercentage": "number of runs / N",
    "bf_glrlm_RunVariance": "variance of r",
    "bf_glrlm_ShortRunEmphasis": "mean of 1 / r^2",
    "bf_glrlm_ShortRunHighGrayLevelEmphasis": "mean of g^2 / r^2",
    "bf_glrlm_ShortRunLowGrayLevelEmphasis": "mean of 1 / (g^2 r^2)",
    "bf_glszm_HighGrayLevelZoneEmphasis": "mean of g^2 over the zones",
    "bf_glszm_LargeAreaEmphasis": "mean of s^2",
    "bf_glszm_LargeAreaHighGrayLevelEmphasis": "mean of s^2 g^2",
    "bf_glszm_LargeAreaLowGrayLevelEmphasis": "mean of s^2 / g^2",
    "bf_glszm_LowGrayLevelZoneEmphasis": "mean of 1 / g^2 over the zones",
    "bf_glszm_SizeZoneNonUniformity": "sum over s of n(s)^2 / number of zones",
    "bf_glszm_SmallAreaEmphasis": "mean of 1 / s^2",
    "bf_glszm_SmallAreaHighGrayLevelEmphasis": "mean of g^2 / s^2",
    "bf_glszm_SmallAreaLowGrayLevelEmphasis": "mean of 1 / (g^2 s^2)",
}


def cell_features(grey: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Return every feature of FEATURES of one cell; all NaN for a mask of at most MIN_PIXELS.

    Args:
        grey: (H, W) uint8.
        mask: (H, W) bool.
    """
    if mask.sum() <= MIN_PIXELS:
        return dict.fromkeys(FEATURES, math.nan)
    y, x = np.nonzero(mask)
    window = np.s_[y.min() : y.max() + 1, x.min() : x.max() + 1]
    mask, grey = mask[window], grey[window].astype(np.int64)
    low = grey[mask].min() // BIN_WIDTH
    levels = np.where(mask, grey // BIN_WIDTH - low + 1, 0)
    found = {
        **_prefixed("shape_", _shape(mask)),
        **_prefixed("bf_intensity_", _intensity(grey[mask], levels[mask])),
        **_prefixed("bf_glcm_", _mean_of([_pairs(p) for p in _matrices(levels)])),
        **_prefixed("bf_gldm_", _dependence(levels)),
        **_prefixed("bf_glrlm_", _mean_of([_runs(*run) for run in _all_runs(levels)])),
        **_prefixed("bf_glszm_", _zones(levels)),
    }
    return {name: found[name] for name in FEATURES}


def _prefixed(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}{name}": float(value) for name, value in values.items()}


def _mean_of(directions: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean over the directions in which there is a value."""
    return {
        name: float(np.mean([one[name] for one in directions])) if directions else math.nan
        for name in (directions or [_NO_PAIRS])[0]
    }


def _entropy(*columns: np.ndarray) -> float:
    """Return the entropy, in bits, of how often each combination of values occurs."""
    counts = np.unique(np.stack(columns), axis=1, return_counts=True)[1]
    return _bits(counts / counts.sum())


def _bits(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum()) + 0.0


def _non_uniformity(values: np.ndarray) -> float:
    return float((np.unique(values, return_counts=True)[1] ** 2).sum() / len(values))


def _shape(mask: np.ndarray) -> dict[str, float]:
    from scipy.spatial.distance import pdist
    from skimage.measure import find_contours, regionprops

    props = regionprops(mask.astype(np.uint8))[0]
    n = float(mask.sum())
    variances = np.linalg.eigvalsh(np.cov(np.argwhere(mask).T, bias=True))
    small, large = np.sqrt(np.maximum(variances, 0))
    outlines = find_contours(np.pad(mask, 1).astype(float), 0.5)
    steps = [np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in outlines]
    outer = max(outlines, key=len)
    perimeter = float(np.sum(steps))
    area = abs(sum(_signed_area(line) for line in outlines))
    return {
        "Elongation": small / large,
        "MajorAxisLength": 4 * large,
        "MaximumDiameter": pdist(outer).max(),
        "MinorAxisLength": 4 * small,
        "Perimeter": perimeter,
        "PerimeterSurfaceRatio": perimeter / area,
        "PixelSurface": n,
        "Sphericity": 2 * math.sqrt(math.pi * area) / perimeter,
        "bbox_area": float(mask.size),
        "convex_area": props.area_convex,
        "extent": n / mask.size,
        "eccentricity": props.eccentricity,
        "diameter": math.sqrt(4 * n / math.pi),
        "solidity": n / props.area_convex,
    }


def _signed_area(line: np.ndarray) -> float:
    """Return the area of a closed polygon; that of a hole has the other sign."""
    y, x = line.T
    return float(0.5 * (x[:-1] * y[1:] - x[1:] * y[:-1]).sum())


def _intensity(values: np.ndarray, levels: np.ndarray) -> dict[str, float]:
    values = values.astype(float)
    p10, p25, p75, p90 = np.percentile(values, [10, 25, 75, 90])
    off = values - values.mean()
    variance = (off**2).mean()
    robust = values[(values >= p10) & (values <= p90)]
    p = np.unique(levels, return_counts=True)[1] / len(levels)
    energy = (values**2).sum()
    return {
        "10Percentile": p10,
        "90Percentile": p90,
        "Energy": energy,
        "Entropy": _bits(p),
        "InterquartileRange": p75 - p25,
        "Kurtosis": (off**4).mean() / variance**2 if variance else 0.0,
        "Maximum": values.max(),
        "MeanAbsoluteDeviation": np.abs(off).mean(),
        "Mean": values.mean(),
        "Median": float(np.median(values)),
        "Minimum": values.min(),
        "Range": values.max() - values.min(),
        "RobustMeanAbsoluteDeviation": np.abs(robust - robust.mean()).mean(),
        "RootMeanSquared": math.sqrt(energy / len(values)),
        "Skewness": (off**3).mean() / variance**1.5 if variance else 0.0,
        "TotalEnergy": energy,
        "Uniformity": (p**2).sum(),
        "Variance": variance,
    }


def _matrices(levels: np.ndarray) -> list[np.ndarray]:
    """Return p(i, j) of each direction that has a pair, (G, G) for the levels 1 to G."""
    n, matrices = int(levels.max()), []
    for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):
        h, w = levels.shape
        first = levels[: h - dy, max(0, -dx) : w - max(0, dx)]
        second = levels[dy:, max(0, dx) : w - max(0, -dx)]
        inside = (first > 0) & (second > 0)
        pairs = (first[inside] - 1) * n + second[inside] - 1
        counts = np.bincount(pairs, minlength=n * n).reshape(n, n).astype(float)
        if counts.any():
            matrices.append((counts + counts.T) / (2 * counts.sum()))
    return matrices


def _pairs(p: np.ndarray) -> dict[str, float]:
    n = len(p)
    i, j = np.mgrid[1 : n + 1, 1 : n + 1]
    apart = np.abs(i - j)
    by_difference = np.bincount(apart.ravel(), p.ravel(), n)
    k = np.arange(n)
    single = p.sum(axis=1)
    mean = (i * p).sum()
    variance = ((i - mean) ** 2 * p).sum()
    average = (k * by_difference).sum()
    independent = np.outer(single, single)
    joint, of_one = _bits(p), _bits(single)
    some = independent > 0
    cross = float(-(p[some] * np.log2(independent[some])).sum())
    twice = _bits(independent)
    beside = apart > 0
    return {
        "Contrast": (apart**2 * p).sum(),
        "Correlation": ((i - mean) * (j - mean) * p).sum() / variance if variance > 1e-12 else 1.0,
        "Autocorrelation": (i * j * p).sum(),
        "DifferenceAverage": average,
        "DifferenceEntropy": _bits(by_difference),
        "DifferenceVariance": ((k - average) ** 2 * by_difference).sum(),
        "Id": (p / (1 + apart)).sum(),
        "Idm": (p / (1 + apart**2)).sum(),
        "Imc1": (joint - cross) / of_one if of_one else 0.0,
        "Imc12": math.sqrt(max(0.0, 1 - math.exp(-2 * (twice - joint)))),
        "InverseVariance": (p[beside] / apart[beside] ** 2).sum(),
        "JointAverage": mean,
        "JointEnergy": (p**2).sum(),
        "JointEntropy": joint,
        "MCC": _maximal_correlation(p, single),
    }


def _maximal_correlation(p: np.ndarray, single: np.ndarray) -> float:
    """Return the maximal correlation coefficient; 1 if there is one level."""
    there = single > 0
    if there.sum() < 2:
        return 1.0
    # The matrix is similar to the square of this symmetric one, which has real eigenvalues.
    root = np.sqrt(single[there])
    values = np.linalg.eigvalsh(p[np.ix_(there, there)] / np.outer(root, root)) ** 2
    return math.sqrt(max(0.0, np.sort(values)[-2]))


_NO_PAIRS = _pairs(np.ones((1, 1)))


def _dependence(levels: np.ndarray) -> dict[str, float]:
    framed = np.pad(levels, 1)
    h, w = levels.shape
    alike = sum(
        (framed[dy : dy + h, dx : dx + w] == levels).astype(int)
        for dy in range(3)
        for dx in range(3)
    )
    inside = levels > 0
    g, d = levels[inside].astype(float), np.asarray(alike)[inside].astype(float)
    return {
        "DependenceEntropy": _entropy(g, d),
        "DependenceNonUniformity": _non_uniformity(d),
        "DependenceVariance": d.var(),
        "GrayLevelNonUniformity": _non_uniformity(g),
        "GrayLevelVariance": g.var(),
        "LowGrayLevelEmphasis": (1 / g**2).mean(),
        "HighGrayLevelEmphasis": (g**2).mean(),
    }


def _all_runs(levels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Return level and length of every run, and the number of pixels, for each direction."""
    n = int((levels > 0).sum())
    lines = (levels, levels.T, _diagonals(levels), _diagonals(levels[:, ::-1]))
    return [(*_runs_of(one), n) for one in lines]


def _diagonals(levels: np.ndarray) -> np.ndarray:
    """Return the diagonals as rows, filled up with 0."""
    h, w = levels.shape
    rows = np.zeros((h + w - 1, h), levels.dtype)
    y, x = np.indices(levels.shape)
    rows[x - y + h - 1, y] = levels
    return rows


def _runs_of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat = np.pad(rows, ((0, 0), (0, 1))).ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=0) != 0)
    lengths = np.diff(starts, append=len(flat))
    level = flat[starts]
    return level[level > 0].astype(float), lengths[level > 0].astype(float)


def _runs(g: np.ndarray, r: np.ndarray, n_pixels: int) -> dict[str, float]:
    return {
        "LongRunEmphasis": (r**2).mean(),
        "LongRunHighGrayLevelEmphasis": (r**2 * g**2).mean(),
        "LongRunLowGrayLevelEmphasis": (r**2 / g**2).mean(),
        "LowGrayLevelRunEmphasis": (1 / g**2).mean(),
        "RunEntropy": _entropy(g, r),
        "RunLengthNonUniformity": _non_uniformity(r),
        "RunPercentage": len(r) / n_pixels,
        "RunVariance": r.var(),
        "ShortRunEmphasis": (1 / r**2).mean(),
        "ShortRunHighGrayLevelEmphasis": (g**2 / r**2).mean(),
        "ShortRunLowGrayLevelEmphasis": (1 / (g * r) ** 2).mean(),
    }


def _zones(levels: np.ndarray) -> dict[str, float]:
    g_parts, s_parts = [], []
    for level in np.unique(levels[levels > 0]):
        labels, n = ndimage.label(levels == level, _EIGHT)
        g_parts.append(np.full(n, level, float))
        s_parts.append(np.bincount(labels.ravel())[1:].astype(float))
    g, s = np.concatenate(g_parts), np.concatenate(s_parts)
    of: dict[str, Callable[[], np.ndarray]] = {
        "HighGrayLevelZoneEmphasis": lambda: g**2,
        "LargeAreaEmphasis": lambda: s**2,
        "LargeAreaHighGrayLevelEmphasis": lambda: s**2 * g**2,
        "LargeAreaLowGrayLevelEmphasis": lambda: s**2 / g**2,
        "LowGrayLevelZoneEmphasis": lambda: 1 / g**2,
        "SmallAreaEmphasis": lambda: 1 / s**2,
        "SmallAreaHighGrayLevelEmphasis": lambda: g**2 / s**2,
        "SmallAreaLowGrayLevelEmphasis": lambda: 1 / (g * s) ** 2,
    }
    means = {name: float(values().mean()) for name, values in of.items()}
    return {**means, "SizeZoneNonUniformity": _non_uniformity(s)}


__all__ = ["FEATURES", "cell_features"]
