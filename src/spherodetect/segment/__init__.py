"""Classical segmentation on optical density, without any learning.

Images are uint8 RGB (H, W, 3). Optical density is -log10(I / I_background), so that the densities
of overlapping stain add up (Beer-Lambert) and uneven illumination cancels out. Label images are
int32 (H, W): 0 is background, and labels run from 1 without gaps. Lengths are in pixels of the
image.

Modules: `density` (background and optical density), `threshold` (cells against slide), `pallor`
(pale centres), `diameter` (size of the red cells), `watershed` (cells that touch).
"""

from spherodetect.segment.density import background, green_density, optical_density
from spherodetect.segment.diameter import estimate_rbc_diameter_px
from spherodetect.segment.threshold import foreground_threshold
from spherodetect.segment.watershed import Segmentation, segment

__all__ = [
    "Segmentation",
    "background",
    "estimate_rbc_diameter_px",
    "foreground_threshold",
    "green_density",
    "optical_density",
    "segment",
]
