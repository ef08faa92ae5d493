"""What all tests share: one thread, no network, and nothing written into the checkout."""

from __future__ import annotations

import os
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# commands that tests start shall buffer as they do in a user's shell
os.environ.pop("PYTHONUNBUFFERED", None)

import torch
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir
from packages import install  # noqa: F401, a fixture

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other

set_hypothesis_home_dir(os.path.join(tempfile.gettempdir(), "eat-hypothesis"))
# The same examples every time: a failure belongs to the change that shows it. `--hypothesis-profile=search` draws anew.
settings.register_profile("search", database=None, deadline=None)
settings.register_profile("tests", settings.get_profile("search"), derandomize=True)
settings.load_profile("tests")
