"""The machine beneath: files that appear whole, devices, processes, notes."""
