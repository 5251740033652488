"""A run on disk: its options, its folder, its checkpoints, and how to open one."""
