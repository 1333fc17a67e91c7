"""Every experiment on classifiers goes through MNIST; `docs/papers.md` tells what holds there."""

from pathlib import Path

import pytest
import study_setting

from canary_audit.studies.conduct import conduct
from canary_audit.studies.papers import PAPERS

REAL = Path(__file__).parents[3] / "shared" / "data" / "classification"


@pytest.mark.nightly
@pytest.mark.parametrize("name", sorted(PAPERS))
def test_every_experiment_on_classifiers_reports_its_trends(name, tmp_path):
    if not REAL.is_dir():
        pytest.skip("the real data sets are not here")
    config = study_setting.setting(tmp_path, config=name, seeds=1, data="mnist", data_folder=str(REAL)).config
    chosen = tuple(one.name for one in PAPERS[name].experiments if one.kind == "classifiers")
    study = conduct(PAPERS[name], config, tmp_path / "out", jobs=1, only=chosen)
    assert len(study.sections) == len(chosen)
    assert all(section.trends for section in study.sections)
    assert all(trend.ours for trend in study.trends)
