"""Annotations that have no raster of their own, read and written."""
