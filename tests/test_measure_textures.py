"""measure.textures: closed forms, scikit-image where both measure the same, and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage
from skimage.feature import graycomatrix, graycoprops
from skimage.measure import regionprops

from spherodetect.measure.textures import FEATURES, cell_features


def _disc(radius: float, size: int) -> np.ndarray:
    y, x = np.indices((size, size)) - (size - 1) / 2
    return np.hypot(y, x) <= radius


def _noise(size: int = 60) -> np.ndarray:
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(size, size)), 1.5)
    return np.clip(150 + 250 * smooth, 5, 250).astype(np.uint8)


def test_there_are_redtells_74_and_each_has_a_definition():
    assert len(FEATURES) == 74 and all(FEATURES.values())
    groups = [name.removeprefix("bf_").partition("_")[0] for name in FEATURES]
    n = {group: groups.count(group) for group in set(groups)}
    assert n == {"shape": 14, "intensity": 18, "glcm": 15, "gldm": 7, "glrlm": 11, "glszm": 9}


def test_a_disc_of_one_grey_has_its_closed_forms():
    mask = _disc(40.2, 101)
    found, n = cell_features(np.full(mask.shape, 130, np.uint8), mask), mask.sum()
    expected = {
        "shape_PixelSurface": n,
        "shape_diameter": math.sqrt(4 * n / math.pi),
        "shape_Elongation": 1,
        "shape_eccentricity": 0,
        "bf_intensity_Mean": 130,
        "bf_intensity_Energy": 130**2 * n,
        "bf_intensity_Variance": 0,
        "bf_intensity_Entropy": 0,
        "bf_intensity_Uniformity": 1,
        "bf_glcm_Contrast": 0,
        "bf_glcm_JointEnergy": 1,
        "bf_glcm_JointEntropy": 0,
        "bf_glcm_Correlation": 1,
        "bf_glcm_MCC": 1,
        "bf_gldm_GrayLevelNonUniformity": n,
        "bf_gldm_HighGrayLevelEmphasis": 1,
        "bf_glszm_LargeAreaEmphasis": float(n) ** 2,
        "bf_glszm_SizeZoneNonUniformity": 1,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    # The outline of marching squares has corners of 45 degrees, so that it is up to 5 % longer.
    assert found["shape_Perimeter"] == pytest.approx(2 * math.pi * 40.2, rel=0.06)
    assert found["shape_MajorAxisLength"] == pytest.approx(2 * 40.2, rel=0.01)
    assert found["shape_MaximumDiameter"] == pytest.approx(2 * 40.2, rel=0.02)
    assert 0.93 < found["shape_Sphericity"] <= 1


def test_stripes_have_their_closed_forms():
    """Rows of 10 pixels, alternately of level 1 and 3."""
    grey = np.where(np.arange(8)[:, None] % 2, 60, 10) * np.ones((1, 10), int)
    found = cell_features(grey.astype(np.uint8), np.ones((8, 10), bool))
    # Along a row no difference; in the three other directions always one of 2.
    assert found["bf_glcm_Contrast"] == pytest.approx(3 / 4 * 4)
    assert found["bf_glcm_DifferenceAverage"] == pytest.approx(3 / 4 * 2)
    assert found["bf_glcm_DifferenceEntropy"] == 0
    assert found["bf_glszm_LargeAreaEmphasis"] == 100
    assert found["bf_glszm_HighGrayLevelZoneEmphasis"] == (1 + 9) / 2
    # Runs of 10 along the rows, and of 1 in the other directions.
    assert found["bf_glrlm_LongRunEmphasis"] == pytest.approx((100 + 3) / 4)
    assert found["bf_glrlm_RunPercentage"] == pytest.approx((0.1 + 3) / 4)
    assert found["bf_gldm_DependenceVariance"] == pytest.approx(0.2 * 0.8)


def test_shape_and_pairs_equal_those_of_scikit_image():
    mask, grey = _disc(20, 60) & (np.indices((60, 60))[1] > 18), _noise()
    found = cell_features(grey, mask)
    props = regionprops(mask.astype(np.uint8))[0]
    for name, value in {
        "shape_bbox_area": props.area_bbox,
        "shape_convex_area": props.area_convex,
        "shape_extent": props.extent,
        "shape_eccentricity": props.eccentricity,
        "shape_diameter": props.equivalent_diameter_area,
        "shape_solidity": props.solidity,
        "shape_MajorAxisLength": props.axis_major_length,
        "shape_MinorAxisLength": props.axis_minor_length,
    }.items():
        assert found[name] == pytest.approx(value, rel=1e-6), name
    levels = np.where(mask, grey // 25 - grey[mask].min() // 25 + 1, 0).astype(np.uint8)
    angles = [0, math.pi / 4, math.pi / 2, 3 * math.pi / 4]
    pairs = graycomatrix(levels, [1], angles, levels=levels.max() + 1, symmetric=True)
    pairs = pairs[1:, 1:].astype(float)  # level 0 is outside of the cell
    pairs /= pairs.sum(axis=(0, 1))
    for name, prop in {
        "Contrast": "contrast",
        "DifferenceAverage": "dissimilarity",
        "Idm": "homogeneity",
        "JointEnergy": "ASM",
        "Correlation": "correlation",
    }.items():
        expected = graycoprops(pairs, prop).mean()
        assert found[f"bf_glcm_{name}"] == pytest.approx(expected, rel=1e-6), name


def test_intensity_equals_scipy():
    from scipy import stats

    mask, grey = _disc(20, 60), _noise()
    found, values = cell_features(grey, mask), grey[mask].astype(float)
    for name, value in {
        "Skewness": stats.skew(values),
        "Kurtosis": stats.kurtosis(values, fisher=False),
        "InterquartileRange": stats.iqr(values),
        "RootMeanSquared": np.sqrt(np.mean(values**2)),
        "90Percentile": np.percentile(values, 90),
    }.items():
        assert found[f"bf_intensity_{name}"] == pytest.approx(value), name


def test_a_quarter_turn_and_the_surround_change_nothing():
    mask, grey = _disc(20, 60) & (np.indices((60, 60))[1] > 18), _noise()
    before = cell_features(grey, mask)
    other = np.where(mask, grey, 255 - grey)
    for image, cell in ((np.rot90(other), np.rot90(mask)), (np.pad(grey, 3), np.pad(mask, 3))):
        assert cell_features(image, cell) == pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize("shape", [(0, 0), (2, 5), (1, 12), (12, 1)])
def test_a_tiny_mask_is_no_error(shape):
    found = cell_features(np.full(shape, 9, np.uint8), np.ones(shape, bool))
    assert list(found) == list(FEATURES)
    assert math.isnan(found["bf_intensity_Mean"]) == (shape[0] * shape[1] <= 10)


def test_nyxus_finds_the_same_runs_and_dependences():
    """nyxus 0.11 counts pairs at distance 0 and zones of 4 neighbours, which are left out."""
    nyxus = pytest.importorskip("nyxus")
    mask, grey = _disc(20, 60), _noise()
    levels = np.where(mask, grey // 25 - grey[mask].min() // 25 + 1, 0).astype(np.uint32)
    theirs = nyxus.Nyxus(["*ALL_GLRLM*", "*ALL_GLDM*"], ibsi=True).featurize(
        levels, mask.astype(np.uint32)
    )
    ours = cell_features(grey, mask)
    for name, column in {
        "glrlm_LongRunEmphasis": "GLRLM_LRE_AVE",
        "glrlm_RunLengthNonUniformity": "GLRLM_RLN_AVE",
        "glrlm_ShortRunHighGrayLevelEmphasis": "GLRLM_SRHGLE_AVE",
        "glrlm_RunVariance": "GLRLM_RV_AVE",
        "gldm_DependenceNonUniformity": "GLDM_DN",
        "gldm_DependenceVariance": "GLDM_DV",
        "gldm_LowGrayLevelEmphasis": "GLDM_LGLE",
    }.items():
        assert ours[f"bf_{name}"] == pytest.approx(float(theirs[column].iloc[0]), rel=1e-5), name
