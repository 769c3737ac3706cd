"""The data folder (layout, labels, check, partition, cases) and the public data sets."""
