"""Real training of a real latent diffusion model: the data sets, the base model and its pre-training,
and the LoRA trainer a device runs.

This folder and `experiments/evaluate.py` are the only places that import torch, diffusers, transformers
or peft; a server, or a client that trains nothing, starts without them. Nothing here knows the network,
the session or the codecs.
"""

import os

# Their notices (no torchvision, no safety checker) would be every device's last words in a run's logs.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
