"""Basic services used by all packages: errors, files, seeds, devices, threads, memory, version."""
