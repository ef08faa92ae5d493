"""Files of the Hugging Face hub, at a pinned commit, from its cache if they are there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from eat.errors import EatError
from eat.progress import Progress


def hub_file(repository: str, name: str, revision: str, kind: Literal["dataset", "model"]) -> Path:
    """The path of a file in the hub's cache; fetched if it is not there, unless HF_HUB_OFFLINE is set.

    revision: a commit. A file of a commit cannot change: once cached, no network is needed. Raises `EatError`
    if it is not cached and cannot be fetched, or the repository has no such commit or file.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    here = f"{repository}: {name} of commit {revision[:12]}"
    try:
        with Progress(f"fetching {here}"):
            return Path(hf_hub_download(repository, name, repo_type=kind, revision=revision))
    except LocalEntryNotFoundError:
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        reason = "HF_HUB_OFFLINE is set" if offline else "the hub cannot be reached"
        remedy = "run this step once with a network, or give a folder instead (kind: glue_dir, kind: folder)"
        raise EatError(f"{here}: not in the hub's cache, and {reason}; {remedy}") from None
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise EatError(f"{here}: the hub does not have it ({type(error).__name__}); correct name or revision") from None
    except Exception as error:  # the client raises many types for the hub, the network, its proxy and the disk
        raise EatError(f"{here}: {' '.join(str(error).split())[:200]}; try again later") from None


MODEL_FILES = (
    "config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*", "vocab*", "merges.txt",
    "special_tokens_map.json",
)  # fmt: skip
"""The files of a model that are fetched: no pickled weights."""


def hub_model(repository: str, revision: str | None) -> Path:
    """The folder of a model in the hub's cache; fetched if it is not there, unless HF_HUB_OFFLINE is set.

    revision: a commit, branch or tag; default: the main branch. Raises `EatError` if it is not cached and cannot be
    fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        with Progress(f"fetching {repository}"):
            return Path(snapshot_download(repository, revision=revision, allow_patterns=list(MODEL_FILES)))
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise EatError(
            f"{repository}: no such folder, and the hub does not have it ({type(error).__name__}); correct the name, "
            "or give a folder that `save_pretrained` wrote"
        ) from None
    except Exception as error:  # the client raises many types for the hub, the network, its proxy and the disk
        reason = " ".join(str(error).split())[:160]
        raise EatError(
            f"{repository}: no such folder, not in the hub's cache, and the hub cannot be reached ({reason}); run this "
            "once with a network, or give a folder that `save_pretrained` wrote"
        ) from None
