import hashlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import result_factory
from hostile import PAYLOADS, assert_inert, hostile_result
from page import Page
from shapes import SHAPES

from canary_audit.errors import ResultError
from canary_audit.report import FORMATS, render
from canary_audit.results import parse_result

SECRETS = {canary.id: f"secret{place:03d}" for place, canary in enumerate(result_factory.leaking_canaries())}

PROGRAM = """
import hashlib, sys
import result_factory
from canary_audit.report import render
text = render(result_factory.make_result(), sys.argv[1])
print(hashlib.sha256(text.encode()).hexdigest())
"""


def digest_elsewhere(format, folder, **environment):
    """SHA-256 of the report as another process makes it, in another folder and under other settings."""
    paths = [str(Path(result_factory.__file__).parent), str(Path(__file__).parents[2])]
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, format],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.strip()


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_result_gives_the_same_bytes(format, make_result):
    assert render(make_result(), format) == render(make_result(), format)


@pytest.mark.parametrize("format", ["html", "markdown"])
def test_nothing_depends_on_the_machine_or_its_settings(format, make_result, tmp_path):
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nlines.linewidth: 9\naxes.grid: True\nsvg.fonttype: path\n")
    here = hashlib.sha256(render(make_result(), format).encode()).hexdigest()
    there = digest_elsewhere(format, tmp_path, PYTHONHASHSEED="7", LC_ALL="C.UTF-8", TZ="Asia/Tokyo")
    assert here == there


@pytest.mark.parametrize("format", ["html", "markdown"])
def test_a_secret_is_shown_only_when_given(format):
    result = SHAPES["leaking"]()
    plain = render(result, format)
    assert not [secret for secret in SECRETS.values() if secret in plain]
    extracted = [canary.id for canary in result.canaries if canary.extraction.found]
    revealed = render(result, format, SECRETS)
    assert all(SECRETS[name] in revealed for name in extracted)
    assert "not revealed" in render(result, format, {})


@pytest.mark.parametrize("format", ["html", "markdown"])
def test_a_revealed_secret_is_untrusted_text_too(format):
    payloads = dict(zip(SECRETS, itertools.cycle(PAYLOADS), strict=False))
    text = render(SHAPES["leaking"](), format, payloads)
    assert_inert(text)
    assert len(payloads) >= len(PAYLOADS)
    if format == "html":
        assert not Page(text).having("img")


@pytest.mark.parametrize("shape", SHAPES)
def test_json_is_the_result_itself(shape):
    result = SHAPES[shape]()
    text = render(result, "json")
    assert text == result.to_json()
    assert type(result).model_validate_json(text) == result


def test_hostile_json_is_inert_and_parses_back():
    result = hostile_result()
    text = render(result, "json")
    assert_inert(text)
    assert parse_result(json.loads(text), "back") == result


def test_json_never_holds_secrets():
    with pytest.raises(ResultError, match="html or markdown"):
        render(SHAPES["clean"](), "json", SECRETS)


def test_an_unknown_format_is_named():
    with pytest.raises(ResultError, match="'pdf' is unknown; choose one of html, markdown, json"):
        render(SHAPES["clean"](), "pdf")


def test_the_report_loads_no_torch_and_matplotlib_only_to_draw(tmp_path):
    program = (
        "import sys, result_factory\n"
        "from canary_audit.report import render\n"
        "import canary_audit.report.terminal\n"
        "render(result_factory.make_result(), 'markdown')\n"
        "print([name for name in ('torch', 'transformers', 'scipy.stats', 'matplotlib') if name in sys.modules])\n"
    )
    paths = [str(Path(result_factory.__file__).parent), str(Path(__file__).parents[2])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


@pytest.mark.parametrize("format", ["html", "markdown"])
def test_what_was_unusual_about_reading_the_model_is_said(format, make_result):
    result = make_result()
    model = result.model.model_copy(update={"notices": ("memory ran out: batches were halved to 64 rows",)})
    group = result.groups[0].model_copy(update={"notice": "its secrets were tokenized one by one"})
    page = render(result.model_copy(update={"model": model, "groups": (group,)}), format)
    assert "halved to 64 rows" in page
    assert "tokenized one by one" in page
