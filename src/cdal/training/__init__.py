"""The one training loop and its run folder."""
