"""Command lines as people type them: the error names the nearest key, or the right line."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lungsound.config.corrections import KEYS, TEXT_KEYS, check_words
from lungsound.config.overrides import compose_config, compose_run, parse_overrides, read_arguments
from lungsound.errors import ConfigError
from lungsound.runs.validation import validate_config

# What people type in place of a key, and what they mean.
NEAREST = [
    ("annealing.cycle=8", "annealing.cycles"), ("cycles=8", "annealing.cycles"),
    ("lr=1e-3", "annealing.max_lr"), ("epochs=3", "annealing.total_epochs"),
    ("gamma=2", "loss.gamma"), ("batch_size=8", "trainer.batch_size"),
    ("data_root=/x", "data.root"), ("experimnt=tiny", "experiment"),
    ("trainer.gamma=1", "loss.gamma"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "options", "nearest"),
    [
        ("padding=smaple", "sample, tile, zero", "sample"),
        ("segment=10s", "2x2.5s, 2x2s, .*, 9s", "[3-9]s"),
        ("experiment=papers", ".*, paper, .*", "paper"),
        ("hydra/launcher=slrum", ".*, slurm, .*", "slurm"),
    ],
)
def test_an_unknown_option_is_an_error_with_the_nearest(
    word: str, options: str, nearest: str
) -> None:
    expected = rf"^{word}: expected one of {options}\. The nearest is {nearest}$"
    with pytest.raises(ConfigError, match=expected):
        compose_run([word])


@pytest.mark.parametrize("plus", ["", "+", "++"])
@pytest.mark.parametrize(("word", "key"), NEAREST)
def test_an_unknown_key_is_an_error_with_the_nearest(plus: str, word: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"expected a key .* The nearest is {key};") as error:
        validate_config(compose_run([plus + word])[0])
    assert f"+{word}" not in str(error.value).replace(plus + word, "")  # Hydra recommends it


@pytest.mark.parametrize("word", ["trainer.devices=2", "+trainer.devices=2"])
def test_a_second_device_is_refused_with_the_reason(word: str) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.devices=2: expected one device per run, as"):
        read_arguments([word])


@pytest.mark.parametrize("flag", ["-m", "--cfg=job"])
def test_a_key_is_checked_before_hydra_sees_its_flags(flag: str) -> None:
    with pytest.raises(ConfigError, match=r"^lr=1: expected .* The nearest is annealing\.max_lr"):
        read_arguments([flag, "lr=1"])
    words = [flag, "plan=true", "seed=1", "hydra.verbose=true", "+experiment@_global_=tiny"]
    assert read_arguments(words) == words


@pytest.mark.parametrize("block", ["annealing", "augment", "features", "model", "trainer"])
def test_an_added_key_is_an_error_in_every_block(block: str) -> None:
    for word in (f"+{block}.foo=1", f"++{block}.foo=1", f"+segment@{block}.foo=3s"):
        with pytest.raises(ConfigError, match=rf"{block}\.foo.*: expected a key .* The nearest"):
            validate_config(compose_run([word])[0])


def test_keys_that_exist_may_be_added() -> None:
    for word in ("++annealing.cycles=3", "+experiment@_global_=tiny", "hydra.verbose=true"):
        validate_config(compose_run([word])[0])
    assert compose_run(["+model.options.depth=3"])[0].model.options == {"depth": 3}


@pytest.mark.parametrize(
    "word", ["~seed", "~tracking", "~annealing", "~loss", "~model", "data.skip_bad=???"]
)
def test_a_key_without_a_value_is_named(word: str) -> None:
    key = word.strip("~").partition("=")[0]
    with pytest.raises(ConfigError, match=rf"cannot be run: .*{key}.*: expected a value"):
        validate_config(compose_run([word])[0])


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("--experiment=tiny", "experiment=tiny"),
        ("-experiment=tiny", "experiment=tiny"),
        ("—experiment=tiny", "experiment=tiny"),
        ("--annealing.cycles 3 padding=zero", "annealing.cycles=3 padding=zero"),
        ("--padding zero --segment 9s", "padding=zero segment=9s"),
        ("experiment = tiny", "experiment=tiny"),
        ("experiment =tiny seed= -1", "experiment=tiny seed=-1"),
        ("experiment tiny", "experiment=tiny"),
        ("tiny seed=1", "experiment=tiny seed=1"),
        ("paper", "experiment=paper"),
        ("--help=", "--help"),
        ("-m —seed 1,2", "-m seed=1,2"),
        ("--plan=true seed=0,1", "plan=true seed=0,1"),
        ("--redo", "redo=true"),
        ("redo --data.skip_bad true", "redo=true data.skip_bad=true"),
        ("--annealing.cycles 2 --redo --seed 3", "annealing.cycles=2 redo=true seed=3"),
        ("experiment: tiny seed: 3", "experiment=tiny seed=3"),
        ("-cn tiny tiny", "-cn tiny experiment=tiny"),
    ],
)
def test_dashes_and_spaces_are_an_error_with_the_right_line(typed: str, right: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_words(shlex.split(typed))
    assert str(error.value).splitlines()[1:] == [f"Right would be: {right}"]
    assert check_words(shlex.split(right)) == shlex.split(right)


@pytest.mark.parametrize(
    "line", ["-m seed=1,2", "--cfg job seed=1", "-c job -p data", "-sc install=bash", "-i all",
             "-cd demo --cfg job experiment=tiny", "-cn tiny",
             "--config-dir mine seed=-1", "seed=", "~data", "-h", "--info"],
)  # fmt: skip
def test_hydras_own_flags_are_left_alone(line: str) -> None:
    assert check_words(line.split()) == line.split()


def test_an_unknown_flag_names_the_nearest_key() -> None:
    with pytest.raises(ConfigError, match=r"Right would be: epochs=3\n.*annealing\.total_epochs"):
        check_words(["--epochs", "3"])


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("--seed", "seed: expected a value, as in seed=VALUE"),
        ("-v", "v: expected a key that there is"),
        ("--skip_bad --redo", r"skip_bad: expected .* The nearest is data\.skip_bad"),
        ("plan=1 seed=0,1", "plan=1: expected true or false"),
    ],
)
def test_a_line_that_cannot_work_is_no_correction(typed: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"(^|\n){message}") as error:
        check_words(typed.split())
    assert "Right would be" not in str(error.value)


TEXTS = [
    "/my data (1)/x", "/a,b", "/a=b", "/50%", "/50% (x)", "/a'b", '/a"b', "/a\"b'c", "/Überlauf",
    "/a;b", "/a&b", "/a#b!", "[x]", "{x}", "1e3", "true", "~/x", "C:\\my data\\", "/肺/音",
    "http://host/?a=1&b=2", "sqlite:////tmp/a b%20(c).db", "1_000", "/a\\'b",
]  # fmt: skip


def right_line(key: str, text: str) -> list[str]:
    """The words that a shell makes of the line in the error, or the typed one if it is right."""
    word = f"{key}={text}"
    try:
        parse_overrides([word], sweeps=False)
        return [word]
    except ConfigError as error:
        line = str(error).splitlines()[-1].partition(": ")[2]
    code = "import sys; print('\\0'.join(sys.argv[1:]), end='')"
    command = f"{shlex.quote(sys.executable)} -X utf8 -c {shlex.quote(code)} {line}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
    return done.stdout.decode().split("\0")


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_comes_back_quoted_for_the_shell_and_for_hydra(text: str) -> None:
    cfg = compose_config([*right_line("data.root", text), "data=icbhi"])
    assert cfg.data.root == text


@pytest.mark.parametrize(
    "text", ["[normal,grob,Größe(1)]", "normal,grob,Größe(1)", "[normal,'grob',Größe(1)]"]
)
def test_the_texts_of_a_list_come_back_quoted(text: str) -> None:
    cfg = compose_config([*right_line("data.labels", text), "data=table"])
    assert cfg.data.labels == ["normal", "grob", "Größe(1)"]


@pytest.mark.parametrize("text", ["[normal,fine crackle]", "null", "[a,b],[a,c]", "[1,b]"])
def test_a_list_that_hydra_reads_stays(text: str) -> None:
    (override,) = parse_overrides([f"data.labels={text}"])
    assert override.input_line == f"data.labels={text}"


def test_every_key_that_is_a_text_can_be_quoted() -> None:
    assert {"split.file", "output_dir", "store_dir", "tracking.uri", "data.root"} < TEXT_KEYS
    for key in sorted(TEXT_KEYS):
        (word,) = right_line(key, "/my data, (1)")
        assert str(parse_overrides([word])[0].value()) == "/my data, (1)"


def test_a_path_with_a_comma_is_no_sweep_if_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for word in ("data.root=a,b", "tracking.uri=sqlite:///a,b"):
        assert parse_overrides([word])[0].is_sweep_override()
    (tmp_path / "a,b").mkdir()
    for word in ("data.root=a,b", "tracking.uri=sqlite:///a,b"):
        with pytest.raises(ConfigError, match="With quotes, for the shell"):
            parse_overrides([word])


def test_the_whole_line_comes_back() -> None:
    with pytest.raises(ConfigError, match=r"seed=1 'data\.root=\"/a,b\"' padding=zero"):
        compose_run(["seed=1", "data.root=/a,b", "padding=zero"])


@pytest.mark.parametrize("word", ["loss.gamma=1,5", "annealing.cycles=2,3", "padding=zero,tile"])
def test_several_values_are_for_a_sweep(word: str) -> None:
    with pytest.raises(ConfigError, match=f"^{word}: expected one value.* for sweep.py") as error:
        compose_run([word])
    is_number = KEYS.get(word.partition("=")[0]) is float
    assert ("loss.gamma=1.5" in str(error.value)) == is_number
    assert parse_overrides([word])[0].is_sweep_override()
