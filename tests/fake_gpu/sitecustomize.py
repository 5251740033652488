"""Found first on PYTHONPATH, this gives a process the stand-in for a GPU before anything else runs."""

import fake_cuda

fake_cuda.enable()
