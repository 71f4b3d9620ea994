"""Model folders on the Hugging Face Hub, fetched with its own client: two files of one commit, safetensors only."""

import re
from dataclasses import dataclass
from pathlib import Path

from visionseq.errors import ZooError
from visionseq.places import is_offline
from visionseq.saving.model_folder import CARD, CONFIG, RAW_WEIGHTS, WEIGHTS, WeightsName

PREFIXES = ("hf://", "hf-hub:")
_REPOSITORY = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class HubOptions:
    """The keywords that every loader of the Hugging Face Hub takes, with their usual meaning."""

    revision: str | None = None
    cache_dir: str | Path | None = None
    token: str | bool | None = None
    force_download: bool = False
    local_files_only: bool = False


def parse_hub_name(name: str, revision: str | None = None) -> tuple[str, str | None]:
    """Split `org/repo`, `org/repo@revision`, also with `hf://` before it; raises `ZooError` for anything else."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    match = _REPOSITORY.fullmatch(name)
    if match is None:
        raise ZooError(f"{name!r} is no repository of the Hub, expected org/repo or org/repo@revision")
    if revision and match["revision"] and revision != match["revision"]:
        raise ZooError(
            f"two revisions for {match['id']}: {match['revision']!r} in the name and {revision!r} as argument"
        )
    return match["id"], match["revision"] or revision


def fetch_model_folder(name: str, options: HubOptions, weights: WeightsName = "ema") -> Path:
    """The local folder of a Hub repository's model, downloaded unless the Hub's cache has it.

    Of two sets of weights only the one asked for is fetched. Raises `ZooError` with the reason and the cache's folder.
    """
    repo_id, revision = parse_hub_name(name, options.revision)
    config = _download(repo_id, CONFIG, revision, options)
    # The snapshot's folder is named by its commit: the other files come from that commit, whatever is pushed meanwhile.
    commit = config.parent.name
    _download(repo_id, RAW_WEIGHTS if weights == "raw" else WEIGHTS, commit, options)
    _download(repo_id, CARD, commit, options, optional=True)
    return config.parent


def _download(repo_id: str, filename: str, revision: str | None, options: HubOptions, optional: bool = False) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, HTTPError

    try:
        path = hf_hub_download(
            repo_id,
            filename,
            revision=revision,
            cache_dir=options.cache_dir,
            token=options.token,
            force_download=options.force_download,
            local_files_only=options.local_files_only or is_offline(),
        )
    except (EntryNotFoundError, HfHubHTTPError, HFValidationError, HTTPError, OSError, ValueError) as error:
        if optional:
            return Path()
        raise ZooError(_failure(repo_id, filename, revision, options, error)) from error
    return Path(path)


def _failure(repo_id: str, filename: str, revision: str | None, options: HubOptions, error: Exception) -> str:
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    file = f"{filename} of hf://{repo_id}{f'@{revision}' if revision else ''}"
    not_cached = f"the cache {options.cache_dir or HF_HUB_CACHE} does not hold it"
    if options.local_files_only or is_offline() or isinstance(error, OfflineModeIsEnabled):
        return f"{file}: the network is switched off and {not_cached}"
    if isinstance(error, LocalEntryNotFoundError):
        return f"{file}: the Hub cannot be reached and {not_cached}"
    return f"{file} cannot be fetched: {' '.join(str(error).split())[:400]}"


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    commit_message: str,
    private: bool | None = None,
    token: str | None = None,
    branch: str | None = None,
    create_pr: bool | None = None,
) -> str:
    """Upload a model folder's three files to the Hub in one commit; returns the commit's address."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

    if is_offline():
        raise ZooError(f"{repo_id} cannot be pushed: the network is switched off")
    try:
        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id=repo_id, private=private, exist_ok=True).repo_id
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=commit_message,
            revision=branch,
            create_pr=create_pr,
            allow_patterns=[WEIGHTS, CONFIG, CARD],
        )
    except (HfHubHTTPError, HFValidationError, HTTPError, OSError) as error:
        raise ZooError(f"{repo_id} cannot be pushed: {' '.join(str(error).split())[:400]}") from error
    return str(commit)
