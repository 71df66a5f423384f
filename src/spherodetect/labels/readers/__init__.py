"""Readers of label formats: COCO, Pascal VOC, points and drawn fields."""
