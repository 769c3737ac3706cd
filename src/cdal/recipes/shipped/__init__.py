"""Shipped recipes, one file for each data set."""
