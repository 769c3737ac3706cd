"""The server: models and results for browsers, 3D Slicer, QuPath and programs of your own."""
