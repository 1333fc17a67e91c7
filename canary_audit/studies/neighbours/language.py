"""Does a language model need a row to produce a token of it? Leave-own-row-out neighbours of hidden states.

Not in the paper: it carries its question over to next tokens. The model's likeliest token is compared with the vote of
the nearest hidden states of the training data, once among all of them, once without the token's own text. A token that
the neighbours still agree on is a regularity of the language; one they agree on only with the text's own copies was
stored from these.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from canary_audit.errors import ConfigError
from canary_audit.studies.experiment import Setting
from canary_audit.studies.findings import Section
from canary_audit.studies.language.hidden_states import hidden_states
from canary_audit.studies.language.runs import LanguageRun, language_run
from canary_audit.studies.neighbours.datastore import build_datastore, vote
from canary_audit.studies.neighbours.language_report import language_section
from canary_audit.studies.neighbours.probes import places_of, probed_rows
from canary_audit.studies.neighbours.support import CanarySupport, SeedSupport, Support
from canary_audit.training.stream import end_token, start_token


def run(setting: Setting) -> Section:
    """Train one model for each seed, ask its neighbours, and tell.

    Raises:
        ConfigError: the model is trained on rows of users.
        CanaryAuditError: the models cannot be trained.
    """
    if setting.config.privacy and setting.config.privacy.unit == "user":
        raise ConfigError(
            "[privacy] unit = 'user': neighbours are looked for among rows of documents; use unit = 'row'"
        )
    return language_section([support_of(language_run(setting, seed, track_exposure=False)) for seed in setting.seeds])


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """Answers at each queried place, by place."""

    right: dict[int, bool]
    kept: dict[int, bool]
    excluded: dict[int, bool]

    def support(self, places: Iterable[int]) -> Support:
        own = list(places)
        stored = [self.right[place] and not self.excluded[place] for place in own]
        shares = [
            float(np.mean(answers)) if own else float("nan")
            for answers in (
                *([side[place] for place in own] for side in (self.right, self.kept, self.excluded)),
                stored,
            )
        ]
        return Support(n_tokens=len(own), right=shares[0], kept=shares[1], excluded=shares[2], stored=shares[3])


def support_of(trained: LanguageRun) -> SeedSupport:
    """What of one model's choices its neighbours support, with and without the texts' own rows."""
    loaded = trained.load()
    probed = probed_rows(trained.planted, loaded.tokenizer, trained.config.model.context_tokens)
    width = int(loaded.network.get_output_embeddings().weight.shape[1])
    entries = hidden_states(loaded.network, probed.rows, probed.chosen(width, trained.seed))
    store = build_datastore(entries, start=start_token(loaded.tokenizer), end=end_token(loaded.tokenizer))
    secrets = [places_of(entries, probe.secret) for probe in probed.canaries]
    templates = [places_of(entries, probe.template) for probe in probed.canaries]
    ordinary = probed.ordinary(entries, trained.seed)
    queries: NDArray[np.int64] = np.unique(np.concatenate([*secrets, *templates, ordinary]))
    votes = vote(store, queries)
    top = entries.top[queries]
    asked = _Asked(
        right=dict(zip(queries.tolist(), (top == entries.tokens[queries]).tolist(), strict=True)),
        kept=dict(zip(queries.tolist(), (top == votes.kept).tolist(), strict=True)),
        excluded=dict(zip(queries.tolist(), (top == votes.excluded).tolist(), strict=True)),
    )
    return SeedSupport(
        seed=trained.seed,
        n_states=len(entries),
        template=asked.support(place for own in templates for place in own.tolist()),
        ordinary=asked.support(ordinary.tolist()),
        secrets={
            level: asked.support(
                place
                for probe, own in zip(probed.canaries, secrets, strict=True)
                if probe.canary.insertions == level
                for place in own.tolist()
            )
            for level in sorted({probe.canary.insertions for probe in probed.canaries})
        },
        canaries=tuple(
            CanarySupport(
                canary=probe.canary.id, insertions=probe.canary.insertions, secret=asked.support(own.tolist())
            )
            for probe, own in zip(probed.canaries, secrets, strict=True)
        ),
    )
