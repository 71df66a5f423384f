"""Measurements of each cell of a field: size, outline, central pallor and stain density.

Images are uint8 RGB (H, W, 3); masks are box-local. Lengths are in pixels of the image and areas in
square pixels, unless a name ends in _um. Positions are in the frame of the boxes: the centre of
pixel (0, 0) is (0.5, 0.5). Optical density (OD) is that of the green channel, where haemoglobin and
eosin absorb most. A value that cannot be measured is NaN and never an error. Measurements explain
cells; they do not decide the class of a cell.

    x_px, y_px          centroid of the mask
    area_px             number of pixels in the mask
    diameter_px, _um    diameter of the disc of equal area, 2 sqrt(A / pi); _um if the pixel size is
                        known
    relative_diameter   diameter_px over the median of the reference red cells
    perimeter_px        Crofton's formula in eight directions; within 1 % on discs
    circularity         4 pi A / P^2, which is 1 for a disc
    solidity            area over the area of the convex hull
    major_axis_px, minor_axis_px  axes of the ellipse with the mask's second moments
    aspect_ratio        minor_axis_px / major_axis_px, at most 1
    pallor_fraction     part of the inner cell (D > 0.15 r) with an OD below 0.7 of the rim's OD
    center_rim_ratio    mean OD of the centre (D > 0.75 r) over the rim's OD; the medians are 0.46
                        for normal cells and 0.90 for spherocytes
    mean_od             mean OD over the mask
    integrated_od       sum of the OD over the mask, in OD times square pixels: the amount of stain
    relative_od         mean_od over the median of the reference red cells
    nearest_px          distance to the nearest other cell's centroid

D is the distance to the outside of the mask, and r is the largest D. The rim's OD is the 75th
percentile at 0.2 r < D < 0.5 r. The medians above were measured with these definitions on 14,549
separate cells of Chula RBC-12 (arXiv 2012.01321). The reference red cells are the countable ones of
the field, or of the patient.
"""

from spherodetect.measure.measurements import MEASUREMENTS, measure, relative_to_patient

__all__ = ["MEASUREMENTS", "measure", "relative_to_patient"]
