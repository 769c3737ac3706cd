"""Images with their place in space: formats, annotations, grids, intensities, augmentation."""
