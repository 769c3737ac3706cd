"""What every room stands on: errors, files, seeds, devices, threads, memory, version."""
