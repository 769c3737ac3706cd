"""The data folder: layout, labels, check, partition, cases; the public sets."""
