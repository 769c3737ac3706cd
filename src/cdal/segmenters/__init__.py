"""The interface of all segmenters, how one is built from a recipe, and the model file."""
