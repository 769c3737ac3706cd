"""What tests share: files, small systems, known segmenters, recipes, where the real data are."""
