"""What a JobSpec takes, and what it says when a value is wrong."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwex_jupyter.errors import SpecError
from qwex_jupyter.model.spec import JobSpec, Resources, parse_env
from qwex_jupyter.model.units import parse_cpus, parse_duration, parse_memory

KI = 1024


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512m", 512 * KI**2),
        ("512M", 512 * KI**2),
        ("512Mi", 512 * KI**2),
        ("512MB", 512 * KI**2),
        ("2Gi", 2 * KI**3),
        ("2GiB", 2 * KI**3),
        ("2 GiB", 2 * KI**3),
        ("2g", 2 * KI**3),
        ("1.5g", 3 * KI**3 // 2),
        ("4096k", 4 * KI**2),
        ("1t", KI**4),
        ("1048576", KI**2),
        (" 1m ", KI**2),
        (KI**3, KI**3),
    ],
)
def test_memory_takes_the_words_of_docker_and_kubernetes(text: str | int, size: int) -> None:
    """Every unit is a power of 1024, in any case, with or without i and b."""
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    "text", ["", "2GiBs", "2 GiBs", "-1g", "1e9", "many", "1i", "g", "1mm", "0x10", "1,5g", True]
)
def test_what_is_no_size_is_refused_with_the_words_that_are(text: str | bool) -> None:
    """A wrong size is one sentence with the field, the value and how it is written."""
    with pytest.raises(SpecError) as caught:
        parse_memory(text)
    assert f"memory={text!r}" in str(caught.value)
    assert "2GiB" in str(caught.value)


@pytest.mark.parametrize("text", ["0", "1", "1023k", "0.5m"])
def test_memory_below_a_mebibyte_is_refused(text: str) -> None:
    """Less than 1 MiB is a misread unit, and the sentence says what is the least."""
    with pytest.raises(SpecError, match="at least 1 MiB"):
        parse_memory(text)


@pytest.mark.parametrize("text", ["9" * 400, "9" * 30 + "t", str(2**63)])
def test_memory_beyond_any_machine_is_refused(text: str) -> None:
    """A size that no machine has is a mistake and not an overflow."""
    with pytest.raises(SpecError, match="more than any machine has"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("text", "cores"), [("0.5", 0.5), ("500m", 0.5), ("2", 2.0), ("2500m", 2.5), (3, 3.0)]
)
def test_cpus_are_cores_or_thousandths(text: str | float, cores: float) -> None:
    """``0.5`` and ``500m`` are the same half of a core."""
    assert parse_cpus(text) == cores


@pytest.mark.parametrize("text", ["", "0", "0m", "-1", "two", "1g", "1e3", "9" * 400, True, 0, -1])
def test_what_is_no_number_of_cpus_is_refused(text: Any) -> None:
    """CPUs are a finite number above zero, and the sentence says how it is written."""
    with pytest.raises(SpecError, match=r"cpus=.*write 2, 0\.5 or 500m"):
        parse_cpus(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("1.5", 1.5),
        ("0.5s", 0.5),
        ("10m", 600),
        ("1h30m", 5400),
        ("1h30m5s", 5405),
        ("2d", 172800),
        ("1d1h", 90000),
        (30, 30),
    ],
)
def test_durations_are_seconds_or_units(text: str | float, seconds: float) -> None:
    """A bare number is seconds; days, hours, minutes and seconds add up."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "soon", "1x", "m", "1m1h", "-5", "-5m", "nan", "inf", "9" * 400, True, None]
)
def test_what_is_no_duration_is_refused(text: Any) -> None:
    """A wrong duration is one sentence with the field, the value and what is allowed."""
    with pytest.raises(SpecError) as caught:
        parse_duration(text, "grace")
    assert f"grace={text!r} isn't a duration" in str(caught.value)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans()))
def test_any_value_is_a_size_or_a_spec_error(value: Any) -> None:
    """No text or number makes a parser answer with anything but a sane value or one line."""
    for parse in (parse_memory, parse_cpus, parse_duration):
        try:
            found = parse(value)
        except SpecError as error:
            assert "\n" not in str(error) or "\n" in str(value)
        else:
            assert math.isfinite(found)
            assert found >= 0


@given(st.integers(KI**2, 2**62))
def test_a_number_of_bytes_is_itself(count: int) -> None:
    """Bytes without a unit are taken to the byte up to what a float holds exactly."""
    assert math.isclose(parse_memory(count), count, rel_tol=1e-15)
    if count < 2**53:
        assert parse_memory(str(count)) == count


@given(st.integers(0, 10**4), st.integers(0, 59), st.integers(0, 59))
def test_hours_minutes_and_seconds_add_up(hours: int, minutes: int, seconds: int) -> None:
    """``1h2m3s`` is the sum of its parts."""
    total = parse_duration(f"{hours}h{minutes}m{seconds}s")
    assert total == 3600 * hours + 60 * minutes + seconds


def test_env_words_have_a_name_and_maybe_a_value() -> None:
    """``A=1`` is a value, ``A=`` an empty one, ``A`` the one it has at submit."""
    assert parse_env(["A=1", "B=", "C", "D=x=y"]) == {"A": "1", "B": "", "C": None, "D": "x=y"}
    with pytest.raises(SpecError, match="env='=1' has no name"):
        parse_env(["=1"])


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"command": ()}, "command is empty"),
    ({"command": ("",)}, "command starts with an empty word"),
    ({"command": "echo hi"}, r"command='echo hi' is one text: give a list"),
    ({"command": ("a\0b",)}, "command holds a NUL byte"),
    ({"command": ("a", 5)}, "command=5 must be text, not int"),
    ({"command": ("\ud800",)}, "half a character"),
    ({"command": 5}, "command=5 isn't a list"),
    ({"script": " \n"}, "script is empty"),
    ({"script": "a\0"}, "script holds a NUL byte"),
    ({"script_name": "../x"}, "script_name='../x' must be a plain file name"),
    ({"script_name": ".hidden"}, "plain file name"),
    ({"image": "python 3"}, "image='python 3' isn't an image name"),
    ({"image": ""}, "image='' isn't an image name"),
    ({"image": "-v"}, "isn't an image name"),
    ({"image": 5}, "image=5 must be text"),
    ({"name": "a b"}, "name='a b': up to 63 letters"),
    ({"name": "-a"}, "a letter or digit first"),
    ({"name": "x" * 64}, "up to 63"),
    ({"name": 5}, "name=5 must be text"),
    ({"env": {"A=B": "1"}}, "env name 'A=B' must not be empty or hold '='"),
    ({"env": {"": "1"}}, "env name ''"),
    ({"env": {"A": "x\0"}}, "env A holds a NUL byte"),
    ({"env": {"A": 1}}, "env A=1 must be text, not int"),
    ({"env": "A=1"}, "env='A=1' isn't a mapping"),
    ({"labels": {"-x": "1"}}, "label '-x': up to 63"),
    ({"labels": ["a=b"]}, "isn't a mapping"),
    ({"labels": {"a": 1}}, "label a=1 must be text"),
    ({"workdir": ""}, "workdir is empty"),
    ({"user": "a\0"}, "user holds a NUL byte"),
    ({"timeout": -1}, "timeout=-1 isn't a duration: it must not be negative"),
    ({"timeout": 0}, "timeout=0 must be above zero"),
    ({"start_timeout": "later"}, "start_timeout='later' isn't a duration"),
    ({"grace": None}, "grace=None isn't a duration"),
    ({"volumes": "/a:/b"}, "volumes='/a:/b' isn't a list"),
    ({"resources": {"memory": "2 GiBs"}}, "memory='2 GiBs' isn't a size"),
    ({"resources": {"cpus": "0"}}, "cpus='0' isn't a number of CPUs above zero"),
    ({"resources": {"gpus": "some"}}, "gpus='some' isn't a count above zero or 'all'"),
    ({"resources": {"shm_size": "1"}}, "shm_size='1' is 1 bytes"),
    ({"resources": {"cpu": 1}}, "resources has no 'cpu': there are cpus, memory"),
    ({"resources": 5}, "resources=5: give"),
    ({"here": True, "workdir": "/"}, "here and workdir exclude each other"),
    ({"cwd": "a/b"}, r"cwd='a/b' must be a whole path: os\.path\.abspath makes one\.$"),
    ({"files": ("a",), "here": True}, "files doesn't go with here or workdir"),
    ({"secrets": ("A",), "env": {"A": "1"}}, "given as secret and as plain env"),
    ({"options": {"network": 5}}, "must be text, not int"),
]


@pytest.mark.parametrize(("values", "message"), WRONG, ids=[m for _, m in WRONG])
def test_each_wrong_value_is_one_clear_sentence(values: dict[str, Any], message: str) -> None:
    """A wrong value is refused on construction by a sentence of its own, in one line."""
    with pytest.raises(SpecError, match=message) as caught:
        JobSpec(**{"command": ("true",), **values})
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_value_given_as_a_secret_is_not_said_again() -> None:
    """``--secret NAME=VALUE`` is refused without its value in the message."""
    with pytest.raises(SpecError, match="secrets='TOKEN'=") as caught:
        JobSpec(command=("true",), secrets=("TOKEN=hunter2",))
    assert "hunter2" not in str(caught.value)


TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=12)
NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
SPECS = st.builds(
    JobSpec,
    command=st.lists(TEXT.filter(bool), min_size=1, max_size=4),
    script=st.none() | TEXT.filter(str.strip),
    image=st.none() | st.just("python:3.12"),
    name=st.just("") | NAME,
    env=st.dictionaries(NAME, st.none() | TEXT, max_size=3),
    volumes=st.lists(TEXT, max_size=2),
    timeout=st.none() | st.floats(1e-6, 1e9),
    grace=st.floats(0, 1e9),
    labels=st.dictionaries(st.just("team"), TEXT, max_size=1),
    resources=st.builds(
        Resources,
        cpus=st.none() | st.floats(1e-9, 1e20),
        memory=st.none() | st.integers(KI**2, 2**52),
        gpus=st.none() | st.sampled_from(["all", "1", "8"]),
    ),
    options=st.dictionaries(st.just("network"), TEXT, max_size=1),
)


@given(SPECS)
def test_a_spec_survives_json(spec: JobSpec) -> None:
    """What was written to spec.json is read as an equal spec."""
    assert JobSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_fields_of_a_later_version_are_left_out() -> None:
    """A spec written by a later version is read by what this one knows."""
    value = {**JobSpec(command=("true",)).to_json(), "sidecar": "yes"}
    assert JobSpec.from_json(value) == JobSpec(command=("true",))


def test_what_is_no_spec_is_a_spec_error() -> None:
    """Damage in a spec is a SpecError, which callers expect."""
    with pytest.raises(SpecError):
        JobSpec.from_json({"command": ["true"], "secrets": 5})


def test_a_spec_can_not_be_changed() -> None:
    """A spec is frozen: what was submitted is what is remembered."""
    spec = JobSpec(command=("true",))
    with pytest.raises(AttributeError):
        spec.name = "x"  # type: ignore[misc]
