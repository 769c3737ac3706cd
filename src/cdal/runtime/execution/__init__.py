"""Running jobs in separate processes."""
