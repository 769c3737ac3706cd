"""Reading and writing annotations that are not stored as label images."""
