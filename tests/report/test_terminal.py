import io
import re
from typing import get_args

import pytest
from hostile import PAYLOADS, assert_inert, hostile_result, served_results, unavailable_result
from rich.console import Console
from shapes import SHAPES

from canary_audit.report.terminal import summary
from canary_audit.results import VerdictName

OWN_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def printed(result, width=100, colour=False):
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=colour, color_system="truecolor" if colour else None).print(
        summary(result)
    )
    return file.getvalue()


@pytest.mark.parametrize("verdict", get_args(VerdictName))
def test_the_verdict_is_the_first_word(verdict, make_result):
    text = printed(make_result(verdict=verdict))
    assert text.startswith(f"{verdict}  ")
    assert "8 of 24 judged canaries leaked." in text
    assert "4 of 24 planted secrets came out" in text


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_audit_prints(shape):
    assert_inert(printed(SHAPES[shape]()))


@pytest.mark.parametrize("width", [20, 33, 100])
@pytest.mark.parametrize("first", range(0, len(PAYLOADS), 4))
def test_hostile_text_is_neither_obeyed_nor_interpreted(first, width):
    for result in (hostile_result(first), unavailable_result(first), *served_results(first)):
        assert_inert(printed(result, width))
        assert_inert(OWN_COLOURS.sub("", printed(result, width, colour=True)))


def test_markup_is_shown_as_written(make_result):
    reason = make_result().reasons[0].model_copy(update={"message": "[bold]x[/bold] :smile: [link=https://a]y[/link]"})
    assert reason.message in printed(make_result(reasons=(reason,)))
