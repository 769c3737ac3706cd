"""From an image to a segmentation: engines, windows, votes, files in and out."""
