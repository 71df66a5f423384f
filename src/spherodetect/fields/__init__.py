"""Photographs: found, decoded safely, assigned to patients."""
