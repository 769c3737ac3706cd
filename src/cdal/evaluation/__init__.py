"""Scores of one model, comparisons of several, and report pages."""
