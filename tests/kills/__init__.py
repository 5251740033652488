"""Commands that are killed at any moment and started again: nothing lost, nothing left, the same bytes."""
