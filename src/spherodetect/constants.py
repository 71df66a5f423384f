"""Physical constants that several modules share; lengths are in µm."""

from __future__ import annotations

#: Mean diameter of a red cell on a dried smear. Means of healthy people are 7.2 to 7.8 µm;
#: Harrison's, the ASH image bank and labce give 6.7 to 8 µm.
RBC_DIAMETER_UM = 7.5
