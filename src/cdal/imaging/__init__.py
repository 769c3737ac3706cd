"""Images with their geometry: formats, annotations, grids, intensities and augmentation."""
