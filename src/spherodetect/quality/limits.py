"""The limits of a field that can be counted, and the reasons for a rejection.

Each limit is clear of the values that were measured on fields which people had chosen for counting
(Chula RBC-12 and BCCD), and rejects the same fields after they were spoilt. The limits rather count
a poor field than lose a good one, because the interval of the score covers the rest.
"""

from __future__ import annotations

from collections.abc import Iterator

#: Least focus: edge widths in a cell's diameter, measured on the bundled model's cells. Chula: 10
#: to 40, median 23; blurred by a sigma of 1.5 px: 8 to 14, of 3 px: 5.4 to 8.6, of 4 px: 4.5 to
#: 7.2. BCCD: 10 to 43, and 7.4 in one field.
MIN_FOCUS = 7.6
#: Least green level of the empty slide, where 1 is full scale. Below it, one grey level is a tenth
#: of a pale cell's density. Chula: 0.49 to 0.91, BCCD: 0.72 to 0.79.
MIN_EXPOSURE = 0.14
#: Largest saturated part of the cells' area, in green. Chula and BCCD: 0; Chula made 1.8 times
#: brighter: 0.08 to 0.16 where the pallor is saturated.
MAX_BURNT = 0.05
#: Largest saturated part of the empty slide, in green. Beyond it, the light that a cell absorbs
#: cannot be computed. A camera whose white point is the slide saturates half of it. Chula and BCCD:
#: 0.
MAX_WASHED = 0.95
#: Largest grain of the empty slide: robust standard deviation of the OD from pixel to pixel. Chula:
#: up to 0.009, BCCD: 0.003. Chula with a noise of 30 grey levels: 0.06 to 0.11. Uniform noise:
#: 0.38.
MAX_GRAIN = 0.07
#: Largest robust standard deviation of the OD on the empty slide, at all scales. Chula: up to
#: 0.022, BCCD: 0.051. Where one layer of cells between their overlaps looks like the slide: 0.08
#: and more.
MAX_UNEVEN = 0.07
#: Largest and smallest part of the field that cells and dirt cover. Chula: 0.07 to 0.56, BCCD: 0.29
#: to 0.64. Discs that do not overlap, thrown at random, cover 0.55; sheets of overlapping cells
#: cover 0.8 and more; five cells in a field cover 0.02.
MAX_DENSITY, MIN_DENSITY = 0.68, 0.03
#: Least part of the covered area that lies in single cells and not in clumps. Chula: 0.24 and more.
#: BCCD, whose fields were chosen for their white cells: down to 0.06 in rouleaux and sheets.
MIN_SINGLE = 0.1
#: Least number of red cells in a field. Fewer do not show the usual size and density of the
#: patient's cells. Chula: 21 and more.
MIN_CELLS = 5
#: Least part of the covered area that lies in the cells that were found. Chula: 0.59 and more,
#: BCCD: 0.44.
MIN_EXPLAINED = 0.4
#: A field that is covered by more than this part contains something. If that is no red cell, it is
#: no smear.
COVERED = 0.05
#: Largest OD in red light over the OD in green light, of the cells, or of all that is covered if
#: there are no cells. Red cells transmit red light, grey objects do not. In a sparse field a black
#: pointer may be half of the covered area. Chula: up to 0.74, BCCD: 0.48, a grey picture: 1.0, a
#: portrait: 1.3.
MAX_RED_TO_GREEN = 0.9
#: Largest part of the field that is clearly brighter than the slide (OD below -0.1). Chula and
#: BCCD: up to 0.004.
MAX_BRIGHTER = 0.15
#: A red cell lacks pallor if its centre over rim is above the first and its pallor fraction below
#: the second limit. The medians of spherocytes are 0.90 and 0.00.
NO_PALLOR_RATIO, NO_PALLOR_FRACTION = 0.85, 0.03
#: The thin end of a smear: at least this part of the cells lacks pallor, although their median OD
#: is low and their median diameter, if it is known, is that of normal cells or larger. Chula's
#: fields of mostly spherocytes have a median OD of 0.18 and more. At 0.6 of their contrast it is
#: 0.11, but then less than 0.8 of the cells lack pallor.
THIN_PART, THIN_MAX_OD, THIN_MIN_DIAMETER_UM = 0.8, 0.12, 7.0


def faults(
    *,
    focus: float,
    exposure: float,
    density: float,
    n_cells: int,
    rbc_diameter_px: float,
    median_od: float,
    no_pallor: float,
    burnt: float,
    grain: float,
    explained: float,
    red_to_green: float,
    brighter: float,
    single: float,
    washed: float,
    uneven: float,
    diameter_um: float,
) -> Iterator[str]:
    """The reasons to reject a field; a cause comes before its consequences.

    The arguments are the attributes of `field.FieldQuality`, and diameter_um is the median diameter
    of the red cells. A value that is NaN gives no reason, because comparisons with NaN are False.
    """
    if exposure < MIN_EXPOSURE:
        yield (
            f"under-exposed: the empty slide is at {_percent(exposure)} of full scale, "
            f"{_least(MIN_EXPOSURE)}"
        )
    if burnt > MAX_BURNT:
        what = "the cells' area" if n_cells else "the field"
        yield f"over-exposed: {_percent(burnt)} of {what} is burnt out, {_most(MAX_BURNT)}"
    if washed > MAX_WASHED:
        yield (
            f"over-exposed: {_percent(washed)} of the empty slide is burnt out, {_most(MAX_WASHED)}"
        )
    if density > MAX_DENSITY:
        yield f"too dense: {_percent(density)} of the field is covered, {_most(MAX_DENSITY)}"
    if grain > MAX_GRAIN:
        yield (
            f"too grainy: the empty slide's density varies by {grain:.2f}, "
            f"expected at most {MAX_GRAIN:.2f}"
        )
    if uneven > MAX_UNEVEN:
        yield (
            f"too dense: no empty slide, its density varies by {uneven:.2f}, "
            f"expected at most {MAX_UNEVEN:.2f}"
        )
    if density <= COVERED and n_cells < MIN_CELLS:
        yield (
            f"too sparse: {n_cells or 'no'} red cell{'s' * (n_cells != 1)}, "
            f"expected at least {MIN_CELLS}"
        )
    if density < MIN_DENSITY:
        yield f"too sparse: {_percent(density)} of the field is covered, {_least(MIN_DENSITY)}"
    if brighter > MAX_BRIGHTER:
        yield (
            f"out of domain: {_percent(brighter)} of the field is brighter than its background, "
            f"{_most(MAX_BRIGHTER)}"
        )
    if red_to_green > MAX_RED_TO_GREEN:
        yield (
            f"out of domain: what is stained is not red "
            f"(density in red light {red_to_green:.2f} of that in green)"
        )
    if focus < MIN_FOCUS:
        yield (
            f"out of focus: {focus:.1f} edge widths in a cell's diameter, "
            f"expected at least {MIN_FOCUS:.1f}"
        )
    if density > COVERED and n_cells == 0:
        yield (
            f"out of domain: {_percent(density)} of the field is covered, but no red cell was found"
        )
    if n_cells < MIN_CELLS:
        yield (
            f"too few cells: {n_cells or 'no'} red cell{'s' * (n_cells != 1)}, "
            f"expected at least {MIN_CELLS}"
        )
    if single < MIN_SINGLE:
        yield (
            f"too dense: {_percent(single)} of what is covered lies in single cells, "
            f"{_least(MIN_SINGLE)}"
        )
    if explained < MIN_EXPLAINED:
        yield (
            f"badly segmented: {_percent(explained)} of what is covered lies in cells, "
            f"{_least(MIN_EXPLAINED)}"
        )
    if (
        no_pallor >= THIN_PART
        and median_od < THIN_MAX_OD
        and not diameter_um < THIN_MIN_DIAMETER_UM
    ):
        yield (
            f"too thin: {_percent(no_pallor)} of the cells lie flat, "
            f"without pallor and yet pale (OD {median_od:.2f})"
        )


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"


def _least(part: float) -> str:
    return f"expected at least {_percent(part)}"


def _most(part: float) -> str:
    return f"expected at most {_percent(part)}"
