"""The loop, one step, what it minimises, its schedule, its state, its reports."""
