"""A fuzzer for every kind of file that the product reads: `python -m tests.fuzz --cases 10000 --seed 0`."""
