"""Every experiment on classifiers goes through MNIST; `docs/papers.md` tells what holds there."""

import pytest
from study_setting import REAL_DATA, setting

from canary_audit.studies.conduct import conduct
from canary_audit.studies.papers import PAPERS


@pytest.mark.nightly
@pytest.mark.parametrize("name", sorted(PAPERS))
def test_every_experiment_on_classifiers_reports_its_trends(name, tmp_path):
    if not REAL_DATA.is_dir():
        pytest.skip("the real data sets are not here")
    config = setting(tmp_path, config=name, seeds=1, data="mnist", data_folder=str(REAL_DATA)).config
    chosen = tuple(one.name for one in PAPERS[name].experiments if one.kind == "classifiers")
    study = conduct(PAPERS[name], config, tmp_path / "out", jobs=1, only=chosen)
    assert len(study.sections) == len(chosen)
    assert all(section.trends for section in study.sections)
    assert all(trend.ours for trend in study.trends)
