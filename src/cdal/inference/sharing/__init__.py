"""A model in the forms in which others take it: hub, MONAI bundle, bioimage.io."""
