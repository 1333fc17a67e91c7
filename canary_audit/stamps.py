"""What the stages of a run depend on: a stage whose stamps are those of its record is not done again."""

from pathlib import Path

from canary_audit import __version__
from canary_audit.canaries import generated_lists_of
from canary_audit.config import Config
from canary_audit.fingerprint import fingerprint_model
from canary_audit.models.resolve import ModelFiles, resolve_files
from canary_audit.rundir import RunDirectory, canonical_json, digest, sha256_file
from canary_audit.wordlists import load_word_lists


class Stamps:
    """Digests by name, for one configuration in one run directory."""

    def __init__(self, config: Config, directory: RunDirectory) -> None:
        self._config = config
        self._directory = directory

    def config(self) -> str:
        """Digest of the whole configuration."""
        return digest(canonical_json(_without_paths(self._config)))

    def settings(self, *tables: str) -> dict[str, str]:
        """Tables of the configuration, the seed, and the version of this program."""
        config = _without_paths(self._config)
        chosen = canonical_json({name: config[name] for name in tables})
        return {"config": digest(chosen, str(self._config.seed)), "version": digest(__version__)}

    def ledger(self) -> dict[str, str]:
        """What the ledger depends on beside the key."""
        stamps = self.settings("canaries")
        if self._config.word_lists:
            stamps["word_lists"] = digest(canonical_json(load_word_lists(self._config.word_lists)))
        if generated_lists_of(self._config.canaries):
            made_from = {**self.settings("data", "model"), **self.pretrained(), "source": self.source()}
            stamps["made_from"] = digest(canonical_json(made_from))
        return stamps

    def source(self) -> str:
        """What tells one source from another before it is read: a file's hash, or the name."""
        path = Path(self._config.data.source)
        return sha256_file(path) if path.is_file() else digest(self._config.data.source)

    def pretrained(self) -> dict[str, str]:
        """Which model exactly training starts from, if not from a fresh one."""
        model = self._config.model
        if model.kind != "pretrained":
            return {}
        return {"pretrained": _fingerprint(resolve_files(model.path, revision=model.revision))}

    def model(self) -> dict[str, str]:
        """Files of the trained model."""
        names = self._directory.stage_record("model").outputs
        return self._directory.hashes(*(name for name in names if name.startswith("model/")))

    def reference(self, files: ModelFiles | None) -> dict[str, str]:
        """The model that membership scores are calibrated with, if any."""
        return {} if files is None else {"reference": _fingerprint(files)}


def _fingerprint(files: ModelFiles) -> str:
    return fingerprint_model(files.folder, files.adapter).digest


def _without_paths(config: Config) -> dict[str, object]:
    """The configuration as data, without where things lie on this machine."""
    return config.model_dump(
        mode="json",
        exclude={
            "data": {"source"},
            "model": {"path"},
            "audit": {"reference_model"},
            "word_lists": True,
            "policy": True,
            "study": True,
        },
    )
