"""What every segmenter is, how one is built from a recipe, and the model file."""
