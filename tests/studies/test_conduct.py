"""A study of a paper: its experiments are run once, told apart, and shown whole."""

import json
import re

import pytest
import study_setting

from canary_audit.errors import ConfigError, DataError, RunError
from canary_audit.studies import conduct as conducting
from canary_audit.studies.charts import chart_svg
from canary_audit.studies.conduct import conduct
from canary_audit.studies.experiment import Experiment, Paper
from canary_audit.studies.findings import Chart, Grid, PaperStudy, Section, Series, Trend
from canary_audit.studies.page import render_html, render_markdown
from canary_audit.studies.papers import PAPERS
from canary_audit.study_verbs import PAPER_VERBS

HOSTILE = "<script>alert(1)</script> | `x` [link](http://evil)"


def trend(number=1, holds=True):
    return Trend(id=f"X{number}", claim="it grows", paper="2 to 3", ours="2.5", criterion="more than 2", holds=holds)


def section(name="first", **changes):
    whole = {
        "experiment": name,
        "title": f"What {name} shows",
        "answer": f"{name} says yes.",
        "findings": ("Something was done.", "It came out so."),
        "trends": (trend(), trend(2, holds=False)),
        "grids": (Grid(caption="Numbers", columns=("name", "value"), rows=(("a", "1"), ("b", "2"))),),
        "charts": (
            Chart(kind="lines", caption="Lines", x_label="x", y_label="y", series=(line("a"), line("b"))),
            Chart(
                kind="dots", caption="Dots", x_label="x", y_label="y", series=(Series(name="a", x=(1, 2), y=(3, 4)),)
            ),
            Chart(kind="bars", caption="Bars", x_label="x", y_label="y", series=(line("a"),), names=("p", "q")),
        ),
    }
    return Section(**(whole | changes))


def line(name):
    return Series(name=name, x=(0, 1), y=(1, 2), low=(0.5, 1.5), high=(1.5, 2.5))


class Counted:
    """An experiment's function that counts its calls."""

    def __init__(self, name, error=None):
        self.name, self.error, self.calls = name, error, 0

    def __call__(self, setting):
        self.calls += 1
        if self.error:
            raise self.error
        assert setting.seeds == (1, 2)
        return section(self.name)


@pytest.fixture
def paper(monkeypatch):
    experiments = tuple(
        Experiment(name=name, about="", kind="classifiers", run=Counted(name)) for name in ("first", "second")
    )
    made = Paper(name="fake", title="A paper", source="Nobody, 2020", question="Does it?", experiments=experiments)
    monkeypatch.setattr(conducting, "PAPERS", {"fake": made})
    return made


def config(tmp_path, **study):
    return study_setting.setting(tmp_path, **study).config


def test_experiments_are_run_once_and_written_down(tmp_path, paper):
    told = []
    study = conduct(paper, config(tmp_path), tmp_path / "out", jobs=1, progress=lambda *what: told.append(what))
    assert told == [("experiments", done, 2) for done in (0, 1, 2)]
    assert [one.experiment for one in study.sections] == ["first", "second"]
    written = json.loads((tmp_path / "out" / "study.json").read_text())
    assert [one["id"] for one in written["trends"]] == ["X1", "X2", "X1", "X2"]
    assert {"id", "paper", "ours", "criterion", "holds"} <= set(written["trends"][0])
    before = {name: (tmp_path / "out" / name).read_bytes() for name in ("study.json", "study.html", "study.md")}
    assert conduct(paper, config(tmp_path), tmp_path / "out", jobs=1) == study
    assert [one.run.calls for one in paper.experiments] == [1, 1]
    assert before == {name: (tmp_path / "out" / name).read_bytes() for name in before}


@pytest.mark.parametrize("change", [{"train_rows": 900}, {"seeds": 2, "defences": ()}])
def test_an_experiment_is_run_again_when_what_it_depends_on_changed(tmp_path, paper, change):
    conduct(paper, config(tmp_path), tmp_path / "out", jobs=1)
    conduct(paper, config(tmp_path, **change), tmp_path / "out", jobs=1)
    assert paper.experiments[0].run.calls == (2 if "train_rows" in change else 1)


def test_only_what_is_asked_for_is_run(tmp_path, paper):
    study = conduct(paper, config(tmp_path), tmp_path / "out", jobs=1, only=("second",))
    assert [one.experiment for one in study.sections] == ["second"]
    with pytest.raises(ConfigError, match="--only third: study fake has the experiments first, second"):
        conduct(paper, config(tmp_path), tmp_path / "out", jobs=1, only=("third",))


def test_a_negative_seed_is_refused(tmp_path, paper):
    negative = config(tmp_path).model_copy(update={"seed": -1})
    with pytest.raises(ConfigError, match="seed -1: a study draws from its seeds"):
        conduct(paper, negative, tmp_path / "out", jobs=1)


def test_a_failure_is_told_and_takes_no_other_with_it(tmp_path, paper):
    paper.experiments[0].run.error = DataError("the file is bad")
    with pytest.raises(RunError, match=r"first: the file is bad; what the other experiments found is kept"):
        conduct(paper, config(tmp_path), tmp_path / "out", jobs=1)
    paper.experiments[0].run.error = None
    conduct(paper, config(tmp_path), tmp_path / "out", jobs=1)
    assert [one.run.calls for one in paper.experiments] == [2, 1]


def test_data_that_is_not_there_is_refused_before_anything_is_run(tmp_path, paper):
    with pytest.raises(DataError, match=r"mnist_10k_2k.npz: no such file; say where it is"):
        conduct(paper, config(tmp_path, data="mnist", data_folder=str(tmp_path)), tmp_path / "out", jobs=1)
    with pytest.raises(DataError, match="none of digits, mnist, mnist1d"):
        conduct(paper, config(tmp_path, data="digit"), tmp_path / "out", jobs=1)
    assert not (tmp_path / "out").exists()


def study(**changes):
    whole = {
        "study": "fake",
        "tool_version": "1",
        "title": "A paper",
        "source": "Nobody, 2020",
        "question": "Does it?",
        "dataset": "digits",
        "seeds": (1, 2),
        "sections": (section(), section("second")),
    }
    return PaperStudy(**(whole | changes))


def test_html_and_markdown_hold_the_same_trends_and_answers():
    page, text = render_html(study()), render_markdown(study())
    for shown in ("Does it?", "first says yes.", "2 to 3", "more than 2", "2 of 4 trends hold here", "It came out so."):
        assert shown in page
        assert shown in text.replace("\\", "")
    assert page.count("<svg") == 6
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert "<script" not in page
    assert "http:" not in page.replace("http://www.w3.org", "")


def test_text_of_a_study_is_inert_wherever_it_is_shown():
    hostile = study(
        title=HOSTILE,
        dataset=HOSTILE,
        sections=(
            section(
                title=HOSTILE,
                answer=HOSTILE,
                findings=(HOSTILE,),
                grids=(Grid(caption=HOSTILE, columns=(HOSTILE,), rows=((HOSTILE,),)),),
                charts=(Chart(kind="lines", caption=HOSTILE, x_label=HOSTILE, y_label="y", series=(line(HOSTILE),)),),
            ),
        ),
    )
    assert "<script" not in render_html(hostile)
    assert not re.search(r"(?<!\\)[<\[]", render_markdown(hostile))


def test_a_study_without_trends_says_so():
    empty = study(sections=(section(trends=(), charts=()),))
    assert "hold no claim" in render_html(empty)
    assert "hold no claim" in render_markdown(empty)


def test_a_chart_is_a_function_of_its_data():
    chart = section().charts[0]
    assert chart_svg(chart, "a") == chart_svg(chart, "a")
    with pytest.raises(ValueError, match="same length"):
        Series(name="a", x=(1, 2), y=(1,))
    with pytest.raises(ValueError, match="a cell for every column"):
        Grid(caption="", columns=("a", "b"), rows=(("1",),))


def test_json_reads_back():
    whole = json.loads(study().to_json())
    whole.pop("trends")
    assert PaperStudy.model_validate(whole) == study()


def test_the_command_line_has_a_verb_for_every_paper_and_a_configuration():
    assert set(PAPER_VERBS) == set(PAPERS)
    for name in PAPERS:
        assert (study_setting.CONFIGS / f"{name}.toml").is_file()
