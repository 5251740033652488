"""Times of operators and of training steps on this machine."""
