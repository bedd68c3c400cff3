"""Settings of every test process."""

import torch
from hypothesis import settings

# One thread a process: the processes share the cores, and results do not depend on how many cores there are.
torch.set_num_threads(1)

# No deadlines (speed lives in benchmarks/) and the same examples in every run.
settings.register_profile("diffincl", deadline=None, derandomize=True)
settings.load_profile("diffincl")
