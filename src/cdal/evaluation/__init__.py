"""Scores of one model, several compared, and pages."""
