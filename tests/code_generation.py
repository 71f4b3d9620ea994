"""The backend of torch.compile that tests use on this processor."""

import torch

# Without vector instructions (ATEN_CPU_CAPABILITY=default) inductor writes C++ with vector classes that it does not
# include (torch 2.15). The graphs are the same for a backend that writes no code.
BACKEND = "inductor" if torch.backends.cpu.get_cpu_capability() != "DEFAULT" else "aot_eager"
